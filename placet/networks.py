"""Which MAC an instance gets and which of a subnet's addresses. Pure: drivers reserve what is chosen here.

IPv6 follows from IPv4 throughout, so that it needs no records of its own: the cloud's /48 from the cloud's UUID, a
node's /64 from the number of its /24, an instance's address from the last octet of its IPv4 address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from placet.errors import Fault

MAC_PREFIX = "52:54:00"  # QEMU's and libvirt's own, locally administered
METADATA_ADDRESS = IPv4Address("169.254.169.254")
METADATA_ADDRESS6 = IPv6Address("fe80::a9fe:a9fe")  # link-local: it needs the network card's name beside it


def mac_of(instance: str, nic: int = 0) -> str:
    """The MAC of an instance's `nic`-th network card: always the same, so that a repeated build finds its address."""
    seed = instance if nic == 0 else f"{instance}/{nic}"
    digest = hashlib.sha256(seed.encode()).digest()
    return f"{MAC_PREFIX}:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def link_local_of(mac: str) -> IPv6Address:
    """The link-local address that a network card makes of its MAC: modified EUI-64, RFC 4291 appendix A. Raises
    ValueError for what is no MAC."""
    octets = bytes.fromhex(mac.replace(":", ""))
    if len(octets) != 6:
        raise ValueError(f"{mac!r} is no MAC")
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:])


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """The node's own address: the subnet's first."""
    return subnet.network_address + 1


def placeholder_of(subnet: IPv4Network) -> IPv4Address:
    """The subnet's last address, which no guest gets: reserved for nobody, it keeps DHCP on without guests."""
    return subnet.broadcast_address - 1


def range6_of(configured: str, cloud: str) -> IPv6Network | None:
    """The cloud's IPv6 addresses, by `network.range6`: a /48, `none`, or `auto`: the unique local one (RFC 4193) whose
    global id is made of the cloud's UUID, so that all nodes have the same and two clouds hardly ever do."""
    if configured == "none":
        return None
    if configured != "auto":
        return IPv6Network(configured)
    global_id = hashlib.sha256(cloud.encode()).digest()[:5]
    return IPv6Network((b"\xfd" + global_id + bytes(10), 48))


def subnet_count(cloud_range: IPv4Network) -> int:
    """How many nodes can have a /24 of the cloud's range."""
    return cloud_range.num_addresses >> 8


def subnet_at(cloud_range: IPv4Network, number: int) -> IPv4Network:
    """The /24 of this number."""
    return IPv4Network((int(cloud_range.network_address) + (number << 8), 24))


def number_of(cloud_range: IPv4Network, subnet: IPv4Network) -> int:
    """The number of a /24; none of `subnet_count` when it is not in the range."""
    return (int(subnet.network_address) - int(cloud_range.network_address)) >> 8


def subnet6_of(range6: IPv6Network, cloud_range: IPv4Network, subnet: IPv4Network) -> IPv6Network:
    """The /64 that goes with a node's /24: it has the same number in the cloud's /48 as that has in `cloud_range`."""
    return IPv6Network((int(range6.network_address) | number_of(cloud_range, subnet) << 64, 64))


def address6_of(subnet6: IPv6Network, ip: IPv4Address) -> IPv6Address:
    """The IPv6 address that goes with an IPv4 one: its last octet is the host's part, 198.19.7.5 to …::5."""
    return subnet6.network_address + ip.packed[-1]


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
