"""Which leases prove that a guest has taken its addresses. Pure but for the file that remembers older ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from placet.drivers.libvirt.files import InstanceFiles
from placet.drivers.libvirt.network import Lease
from placet.drivers.libvirt.reservations import Ip, Reservation


@dataclass(frozen=True)
class Expectation:
    """The addresses one instance should take. `old` holds when the leases of them end that were there before its
    start."""

    reservations: tuple[Reservation, ...]
    old: Mapping[Ip, int]

    def confirmed(self, leases: Mapping[Ip, Lease]) -> frozenset[Ip]:
        """Those that it has taken since the start."""
        return frozenset(
            ip
            for one in self.reservations
            for ip in one.ips
            if (lease := leases.get(ip)) and lease.mac == one.mac and lease.ends_at != self.old.get(ip)
        )

    @property
    def first(self) -> frozenset[Ip]:
        """Without these it has no address that counts."""
        return frozenset(one.ip for one in self.reservations)

    @property
    def all(self) -> frozenset[Ip]:
        return frozenset(ip for one in self.reservations for ip in one.ips)


def remember_leases(files: InstanceFiles, reservations: tuple[Reservation, ...], leases: Mapping[Ip, Lease]) -> None:
    """Keep what leases there are before a start: they are no answers to it, whatever the clock does in between."""
    old = {str(ip): leases[ip].ends_at for one in reservations for ip in one.ips if ip in leases}
    if not old:
        files.old_lease.unlink(missing_ok=True)
        return
    part = files.old_lease.with_suffix(".part")
    part.write_text(json.dumps(old))
    part.rename(files.old_lease)


def recall_leases(files: InstanceFiles) -> dict[Ip, int]:
    """What remember_leases kept."""
    try:
        found = json.loads(files.old_lease.read_text())
        return {ip_address(ip): int(ends_at) for ip, ends_at in found.items()}
    except (FileNotFoundError, ValueError):
        return {}
