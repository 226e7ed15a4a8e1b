"""The NAT network of a node, as libvirt's XML: https://libvirt.org/formatnetwork.html. Pure.

libvirt 9.0 keeps no metadata of networks, so ours are known by their UUID, which is derived from cloud, node and name.

DHCP is static, for IPv6 as well: a guest gets the addresses that are reserved for its MAC, or none. Reservations lie in
a directory that dnsmasq watches (reservations.py), since changing libvirt's own `<host>` entries makes libvirtd take
down and rebuild all firewall rules of the network: 40 processes, 0.4 s a guest.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from placet.drivers.libvirt.xml import Element, add, parse, to_text
from placet.hypervisor import Network, Owner
from placet.networks import METADATA_ADDRESS, address6_of, gateway_of, placeholder_of

DNSMASQ_XMLNS = "http://libvirt.org/schemas/network/dnsmasq/1.0"
PLACEHOLDER_MAC = "52:54:00:00:00:00"
PLACEHOLDER_DUID = f"00:03:00:01:{PLACEHOLDER_MAC}"  # in DHCPv6 libvirt takes no MAC
REFRESH_HOST = "refresh.placet.invalid"


def network_uuid(owner: Owner, network: Network) -> str:
    """The UUID that says that a network is ours."""
    return str(uuid5(NAMESPACE_URL, f"https://placet.dev/network/{owner.cloud}/{owner.node}/{network.name}"))


def build_network(owner: Owner, network: Network, reservations: Path) -> str:
    """The whole document. `reservations` is a directory of files of DHCP hosts that dnsmasq can read."""
    root = Element("network")
    add(root, "name", network.name)
    add(root, "uuid", network_uuid(owner, network))
    forward = add(root, "forward", mode="nat")
    add(root, "bridge", name=network.bridge, stp="off", delay=0)
    gateway = add(root, "ip", address=gateway_of(network.subnet), netmask=network.subnet.netmask)
    # without one host of its own libvirt would not let dnsmasq serve DHCP at all
    add(add(gateway, "dhcp"), "host", mac=PLACEHOLDER_MAC, ip=placeholder_of(network.subnet))
    if network.subnet6 is not None:
        add(forward, "nat", ipv6="yes")
        _add_ipv6(root, network.subnet, network.subnet6)
    options = add(root, f"{{{DNSMASQ_XMLNS}}}options")
    add(options, f"{{{DNSMASQ_XMLNS}}}option", value="no-ping")  # pinging an address before offering it costs 3 s
    add(options, f"{{{DNSMASQ_XMLNS}}}option", value=f"dhcp-hostsdir={reservations}")
    return to_text(root)


def _add_ipv6(root: Element, subnet: IPv4Network, subnet6: IPv6Network) -> None:
    """With it come router advertisements that send guests to DHCP for their address."""
    gateway = address6_of(subnet6, gateway_of(subnet))
    placeholder = address6_of(subnet6, placeholder_of(subnet))
    dhcp = add(add(root, "ip", family="ipv6", address=gateway, prefix=subnet6.prefixlen), "dhcp")
    add(dhcp, "host", id=PLACEHOLDER_DUID, ip=placeholder)


def subnet6_in(text: str) -> IPv6Network | None:
    """The IPv6 network that such a document describes."""
    found = (_subnet(ip) for ip in parse(text).iterfind("ip"))
    return next((subnet for subnet in found if isinstance(subnet, IPv6Network)), None)


def build_refresh() -> str:
    """A DNS name that means nothing: adding or removing it makes libvirt send dnsmasq a SIGHUP."""
    host = Element("host", ip=str(METADATA_ADDRESS))
    add(host, "hostname", REFRESH_HOST)
    return to_text(host)


def same_network(one: str, other: str) -> bool:
    """Whether two documents describe the same network; which addresses are reserved in it is no part of that."""
    return _essence(one) == _essence(other)


def _essence(text: str) -> object:
    root = parse(text)
    bridge, forward = root.find("bridge"), root.find("forward")
    return (
        None if bridge is None else bridge.get("name"),
        None if forward is None else forward.get("mode"),
        forward is not None and forward.find("nat[@ipv6='yes']") is not None,
        {(ip.get("address"), _subnet(ip)) for ip in root.iterfind("ip")},
        [option.get("value") for option in root.iter(f"{{{DNSMASQ_XMLNS}}}option")],
    )


def _subnet(ip: Element) -> IPv4Network | IPv6Network:
    mask = ip.get("prefix") or ip.get("netmask")
    return ip_network(f"{ip.get('address')}/{mask}" if mask else str(ip.get("address")), strict=False)
