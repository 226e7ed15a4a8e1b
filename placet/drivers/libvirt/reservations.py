"""Which address each instance's MAC gets from DHCP: a directory of small files that dnsmasq watches.

One file an instance, named by its UUID; its lines are dnsmasq's own (`--dhcp-hostsdir`): `mac,address,lease time`.
dnsmasq takes up new files by itself; it forgets removed ones surely only on a SIGHUP, which is the caller's to send.
Addresses are chosen and written under one lock: several workers define domains at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from placet.errors import Fault
from placet.hypervisor import Network
from placet.model import is_uuid
from placet.networks import pick_address


@dataclass(frozen=True)
class Reservation:
    """One MAC's address."""

    mac: str
    ip: IPv4Address


class Reservations:
    """All reservations of one network. `leased` tells which addresses guests hold until when."""

    def __init__(self, directory: Path, network: Network, leased: Callable[[], Mapping[IPv4Address, float]]) -> None:
        self.directory = directory
        self._network = network
        self._leased = leased
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the directory; dnsmasq runs as nobody, so everyone may read it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)

    def of(self, instance: str) -> tuple[Reservation, ...]:
        """What is reserved for one instance."""
        try:
            lines = (self.directory / instance).read_text().splitlines()
        except FileNotFoundError:
            return ()
        return tuple(_read_line(line) for line in lines)

    def all(self) -> dict[str, tuple[Reservation, ...]]:
        """What is reserved for each instance."""
        return {path.name: self.of(path.name) for path in self.directory.iterdir() if is_uuid(path.name)}

    def reserve(self, instance: str, macs: tuple[str, ...]) -> None:
        """See to it that each MAC has an address, and keeps the one it has. Raises Fault `no-address`, `mac-taken`."""
        with self._lock:
            others = self.all()
            mine = {reservation.mac: reservation for reservation in others.pop(instance, ())}
            if set(mine) == set(macs):
                return
            taken = {reservation.ip for held in others.values() for reservation in held}
            used_macs = {reservation.mac for held in others.values() for reservation in held}
            for mac in macs:
                if mac in used_macs:
                    raise Fault("mac-taken", f"instance {instance}: MAC {mac} is another instance's; create a new one")
                mine.setdefault(mac, Reservation(mac, self._pick(instance, taken | {r.ip for r in mine.values()})))
            self._write(instance, [mine[mac] for mac in macs])

    def release(self, instance: str) -> bool:
        """Forget one instance's; whether there were any."""
        with self._lock:
            try:
                (self.directory / instance).unlink()
            except FileNotFoundError:
                return False
            return True

    def _pick(self, instance: str, taken: set[IPv4Address]) -> IPv4Address:
        return pick_address(self._network.subnet, taken, self._leased(), hint=instance)

    def _write(self, instance: str, reservations: list[Reservation]) -> None:
        lines = [f"{one.mac},{one.ip},{self._network.lease_minutes}m\n" for one in reservations]
        part = self.directory / f".{instance}"  # dnsmasq passes over names that start with a dot
        part.write_text("".join(lines))
        part.chmod(0o644)
        part.rename(self.directory / instance)


def _read_line(line: str) -> Reservation:
    mac, ip, _lease = line.split(",")
    return Reservation(mac, IPv4Address(ip))
