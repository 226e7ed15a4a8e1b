"""The metadata service's address on the node's bridge.

It can't stand in the network's XML: dnsmasq would bind port 53 of it there, and a second network's dnsmasq, which has
the same address on another bridge, could not start. An address with a label of its own is one dnsmasq passes over.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv4Address

from placet.errors import Refused
from placet.log import debug

LABEL = "md"
LONGEST_INTERFACE_NAME = 15
# linux/sockios.h
SIOCGIFADDR, SIOCSIFADDR, SIOCSIFNETMASK = 0x8915, 0x8916, 0x891C


def put_address(bridge: str, address: IPv4Address) -> None:
    """Give `bridge` the address as a /32, beside its own. Where libvirt's bridges are another machine's, do nothing."""
    label = f"{bridge}:{LABEL}"
    if len(label) > LONGEST_INTERFACE_NAME:
        raise Refused(f"network.bridge: {bridge!r} is longer than {LONGEST_INTERFACE_NAME - len(LABEL) - 1} letters")
    if bridge not in (name for _index, name in socket.if_nameindex()):
        debug("bridge-is-elsewhere", bridge=bridge)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        if _address_of(channel, label) == address:
            return
        try:
            fcntl.ioctl(channel, SIOCSIFADDR, _request(label, address))
            fcntl.ioctl(channel, SIOCSIFNETMASK, _request(label, IPv4Address("255.255.255.255")))
        except OSError as problem:
            raise Refused(
                f"bridge {bridge}: cannot take {address}: {problem.strerror}; run compute.py as root"
            ) from problem


def _address_of(channel: socket.socket, label: str) -> IPv4Address | None:
    try:
        answer = fcntl.ioctl(channel, SIOCGIFADDR, _request(label, IPv4Address(0)))
    except OSError:
        return None
    return IPv4Address(answer[20:24])


def _request(name: str, address: IPv4Address) -> bytes:
    """struct ifreq with a sockaddr_in: netdevice(7)."""
    return struct.pack("16sHH4s8x8x", name.encode(), socket.AF_INET, 0, address.packed)
