"""Which MAC an instance gets and which of a subnet's addresses. Pure: drivers reserve what is chosen here."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from placet.errors import Fault

MAC_PREFIX = "52:54:00"  # QEMU's and libvirt's own, locally administered
METADATA_ADDRESS = IPv4Address("169.254.169.254")


def mac_of(instance: str, nic: int = 0) -> str:
    """The MAC of an instance's `nic`-th network card: always the same, so that a repeated build finds its address."""
    seed = instance if nic == 0 else f"{instance}/{nic}"
    digest = hashlib.sha256(seed.encode()).digest()
    return f"{MAC_PREFIX}:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """The node's own address: the subnet's first."""
    return subnet.network_address + 1


def placeholder_of(subnet: IPv4Network) -> IPv4Address:
    """The subnet's last address, which no guest gets: reserved for nobody, it keeps DHCP on without guests."""
    return subnet.broadcast_address - 1


def pick_address(
    subnet: IPv4Network,
    reserved: Collection[IPv4Address],
    leased: Mapping[IPv4Address, float],
    hint: str,
) -> IPv4Address:
    """A free address of `subnet` for a guest.

    `leased` maps addresses that some guest still holds to the time the lease ends. dnsmasq refuses to give them to
    another MAC until then, so one that nobody holds is preferred, at a place that `hint` (the instance's UUID)
    decides; then the one whose lease ends first. Raises Fault `no-address`.
    """
    taken = {*reserved, gateway_of(subnet), placeholder_of(subnet)}
    free = [address for address in _from_hint(subnet, hint) if address not in taken]
    if not free:
        raise Fault(
            "no-address", f"subnet {subnet}: all {subnet.num_addresses} addresses are taken; destroy an instance"
        )
    return next((address for address in free if address not in leased), None) or min(free, key=leased.__getitem__)


def _from_hint(subnet: IPv4Network, hint: str) -> Iterator[IPv4Address]:
    hosts = subnet.num_addresses - 2
    start = int.from_bytes(hashlib.sha256(hint.encode()).digest()[-8:], "big")
    for step in range(hosts):
        yield subnet.network_address + 1 + (start + step) % hosts
