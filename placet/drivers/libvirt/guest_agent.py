"""What a guest's agent says of its addresses. The guest is not trusted: deadlines, caps, and only its own NICs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import libvirt

from placet.log import debug

DEADLINE_S = 2
MOST_ADDRESSES = 8


def ask_addresses(domain: Any) -> dict[str, tuple[str, ...]]:
    """MAC to usable IPs, IPv4 first; empty when the agent does not answer in time."""
    try:
        domain.agentSetResponseTimeout(DEADLINE_S, 0)
        answer = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
    except libvirt.libvirtError as error:
        debug("agent-silent", instance=domain.UUIDString(), reason=error)
        return {}
    return {
        str(interface.get("hwaddr") or "").lower(): usable([str(one["addr"]) for one in interface.get("addrs") or ()])
        for interface in answer.values()
    }


def usable(found: list[str]) -> tuple[str, ...]:
    """The addresses that others can reach a guest by."""
    addresses = sorted(filter(None, map(_reachable, found)), key=lambda address: address.version)
    return tuple(str(address) for address in addresses[:MOST_ADDRESSES])


def _reachable(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    local = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return None if local else address
