"""What a guest's agent says of its addresses. The guest is not trusted: deadlines, caps, and only its own NICs.

libvirt bounds what it takes in: 10 MiB an answer (QEMU_AGENT_MAX_RESPONSE), 2,048 interfaces with 2,048 addresses each
(remote_protocol.x); a longer answer is an error like silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import Any

import libvirt

from placet.log import debug

DEADLINE_S = 2
MOST_ADDRESSES = 8
MOST_LOOKED_AT = 256
LONGEST_ADDRESS = 45  # INET6_ADDRSTRLEN less one

Told = Mapping[str, tuple[str, ...]]


def ask_addresses(domain: Any, macs: Collection[str]) -> Told | None:
    """Usable IPs by MAC, of `macs` alone, IPv4 first; None when the agent does not answer in time, or too much."""
    try:
        domain.agentSetResponseTimeout(DEADLINE_S, 0)
        answer = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
    except (libvirt.libvirtError, SystemError, UnicodeError) as error:
        # the last two: libvirt's error quotes what the guest sent, and the binding can't make a text of such bytes
        debug("agent-silent", instance=domain.UUIDString(), reason=error)
        return None
    return {mac: usable(islice(_addresses(answer, mac), MOST_LOOKED_AT)) for mac in macs}


def usable(found: Iterable[str]) -> tuple[str, ...]:
    """The addresses that others can reach a guest by."""
    addresses = sorted(filter(None, map(_reachable, found)), key=lambda address: address.version)
    return tuple(str(address) for address in dict.fromkeys(addresses))[:MOST_ADDRESSES]


def _addresses(answer: Mapping[str, Any], mac: str) -> Iterator[str]:
    """Those of all interfaces with this MAC: a guest may have made a bridge of its NIC, which has the NIC's MAC."""
    for interface in answer.values():
        if str(interface.get("hwaddr") or "").lower() == mac:
            for one in interface.get("addrs") or ():
                yield str(one["addr"])


def _reachable(text: str) -> IPv4Address | IPv6Address | None:
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    local = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return None if local else address
