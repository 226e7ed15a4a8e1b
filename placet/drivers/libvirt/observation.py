"""Which addresses an instance has, and who says so. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from placet.drivers.libvirt.reservations import Reservation
from placet.model import Address, Nic


def reserved_addresses(reservations: Iterable[Reservation], leased: Collection[str]) -> tuple[Address, ...]:
    """The addresses on the NAT network; those whose MAC is in `leased` are confirmed."""
    return tuple(
        Address(str(one.ip), one.mac, confirmed_by="lease" if one.mac in leased else None) for one in reservations
    )


def worth_asking(addresses: Iterable[Address], nics: Iterable[Nic]) -> bool:
    """Whether the guest's agent could tell something that DHCP can't."""
    return any(one.confirmed_by is None for one in addresses) or any(nic.network == "bridge" for nic in nics)


def with_agents_word(
    addresses: Iterable[Address], nics: Iterable[Nic], told: Mapping[str, tuple[str, ...]]
) -> tuple[Address, ...]:
    """Add what the agent told, by MAC. On the NAT network it can only confirm: any other address there would be a lie
    or a mistake, and reach nobody."""
    confirmed = [
        Address(one.ip, one.mac, one.network, "agent")
        if one.confirmed_by is None and one.ip in told.get(one.mac, ())
        else one
        for one in addresses
    ]
    bridged = [
        Address(ip, nic.mac, "bridge", "agent")
        for nic in nics
        if nic.network == "bridge"
        for ip in told.get(nic.mac, ())
    ]
    return (*confirmed, *bridged)
