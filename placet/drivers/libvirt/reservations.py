"""Which addresses each instance's MAC gets from DHCP: a directory of small files that dnsmasq watches.

One file an instance, named by its UUID; its lines are dnsmasq's own (`--dhcp-hostsdir`): `mac,address,lease time`, with
`[IPv6 address]` in the third place where there is one. dnsmasq knows a guest's MAC in DHCPv6, too: by the sender.
dnsmasq takes up new files by itself; it forgets removed ones surely only on a SIGHUP, which is the caller's to send.
Addresses are chosen and written under one lock: several workers define domains at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from placet.errors import Fault
from placet.hypervisor import Network
from placet.model import is_uuid
from placet.networks import address6_of, pick_address

Ip = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Reservation:
    """One MAC's addresses; `ip6` is None on a network without IPv6."""

    mac: str
    ip: IPv4Address
    ip6: IPv6Address | None = None

    @property
    def ips(self) -> tuple[Ip, ...]:
        return (self.ip,) if self.ip6 is None else (self.ip, self.ip6)


class Reservations:
    """All reservations of one network. `leased` tells which addresses guests hold until when. `subnet6` is what the
    network has of IPv6, which may be less than it should."""

    def __init__(self, directory: Path, network: Network, leased: Callable[[], Mapping[IPv4Address, float]]) -> None:
        self.directory = directory
        self.subnet6: IPv6Network | None = network.subnet6
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
        """See to it that each MAC has addresses, and keeps those it has. Raises Fault `no-address`, `mac-taken`."""
        with self._lock:
            others = self.all()
            before = others.pop(instance, ())
            mine = {reservation.mac: reservation.ip for reservation in before}
            taken = {reservation.ip for held in others.values() for reservation in held}
            used_macs = {reservation.mac for held in others.values() for reservation in held}
            for mac in macs:
                if mac in mine:
                    continue
                if mac in used_macs:
                    raise Fault("mac-taken", f"instance {instance}: MAC {mac} is another instance's; create a new one")
                mine[mac] = self._pick(instance, taken | set(mine.values()))
            wanted = tuple(self._complete(mac, mine[mac]) for mac in macs)
            if wanted != before:
                self._write(instance, wanted)

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

    def _complete(self, mac: str, ip: IPv4Address) -> Reservation:
        return Reservation(mac, ip, None if self.subnet6 is None else address6_of(self.subnet6, ip))

    def _write(self, instance: str, reservations: tuple[Reservation, ...]) -> None:
        part = self.directory / f".{instance}"  # dnsmasq passes over names that start with a dot
        part.write_text("".join(self._line(one) for one in reservations))
        part.chmod(0o644)
        part.rename(self.directory / instance)

    def _line(self, one: Reservation) -> str:
        ip6 = "" if one.ip6 is None else f"[{one.ip6}],"
        return f"{one.mac},{one.ip},{ip6}{self._network.lease_minutes}m\n"


def _read_line(line: str) -> Reservation:
    mac, ip, *rest = line.split(",")
    ip6 = rest[0] if len(rest) == 2 else None
    return Reservation(mac, IPv4Address(ip), None if ip6 is None else IPv6Address(ip6.strip("[]")))
