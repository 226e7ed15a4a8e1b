"""Which addresses an instance has, and who says so. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address

from placet.drivers.libvirt.reservations import Ip, Reservation
from placet.model import Nic
from placet.node_records import Address


def reserved_addresses(reservations: Iterable[Reservation], leased: Collection[Ip]) -> tuple[Address, ...]:
    """The addresses on the NAT network, IPv4 first; those that are in `leased` are confirmed."""
    found = sorted(((one.mac, ip) for one in reservations for ip in one.ips), key=lambda pair: pair[1].version)
    return tuple(Address(str(ip), mac, confirmed_by="lease" if ip in leased else None) for mac, ip in found)


def worth_asking(addresses: Iterable[Address], nics: Iterable[Nic]) -> bool:
    """Whether the guest's agent could tell something that DHCP can't."""
    return any(one.confirmed_by is None for one in addresses) or any(nic.network == "bridge" for nic in nics)


def with_agents_word(
    addresses: Iterable[Address],
    nics: Iterable[Nic],
    told: Mapping[str, tuple[str, ...]],
    nat: Collection[IPv4Network | IPv6Network] = (),
) -> tuple[Address, ...]:
    """Add what the agent told, by MAC. On the NAT network it can only confirm: any other address there would be a lie
    or a mistake, and reach nobody. On the bridge it is believed, but for what lies in the networks of `nat`."""
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
        if not any(ip_address(ip) in network for network in nat)
    ]
    return (*confirmed, *bridged)
