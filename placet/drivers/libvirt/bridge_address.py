"""The metadata service's addresses on the node's bridge.

They can't stand in the network's XML. Of IPv4's, dnsmasq would bind port 53, and a second network's dnsmasq, which has
the same address on another bridge, could not start: an address with a label of its own is one dnsmasq passes over.
IPv6's is link-local, which libvirt does not take.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from placet.errors import Refused
from placet.log import debug, warn

LABEL = "md"
LONGEST_INTERFACE_NAME = 15
# linux/sockios.h
SIOCGIFADDR, SIOCSIFADDR, SIOCSIFNETMASK = 0x8915, 0x8916, 0x891C
# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL = 0x1, 0x4, 0x400, 0x200
RTM_NEWADDR, RT_SCOPE_LINK = 20, 253
IFA_LOCAL, IFA_FLAGS, IFA_F_NODAD, IFA_F_PERMANENT = 2, 8, 0x02, 0x80
IPV6_SETTINGS = Path("/proc/sys/net/ipv6/conf")


def put_address(bridge: str, address: IPv4Address) -> None:
    """Give `bridge` the address as a /32, beside its own. Where libvirt's bridges are another machine's, do nothing."""
    label = f"{bridge}:{LABEL}"
    if len(label) > LONGEST_INTERFACE_NAME:
        raise Refused(f"network.bridge: {bridge!r} is longer than {LONGEST_INTERFACE_NAME - len(LABEL) - 1} letters")
    if not _is_here(bridge):
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


def put_link_local(bridge: str, address: IPv6Address) -> None:
    """Give `bridge` the link-local address as well. On a machine that has IPv6 off, or won't, that is told: guests have
    the other one."""
    if not _is_here(bridge):
        return
    if (reason := _without_ipv6(bridge)) is None:
        try:
            _add(socket.if_nametoindex(bridge), address)
        except OSError as problem:
            reason = problem.strerror
    if reason is not None:
        warn("no-metadata-address-in-ipv6", bridge=bridge, reason=reason)


def _is_here(bridge: str) -> bool:
    return bridge in (name for _index, name in socket.if_nameindex())


def _without_ipv6(bridge: str) -> str | None:
    """Why the bridge can't have IPv6; None when it can. libvirt turns it off on bridges of networks without IPv6."""
    own = IPV6_SETTINGS / bridge / "disable_ipv6"
    try:
        if (IPV6_SETTINGS / "all" / "disable_ipv6").read_text().strip() != "0":
            return "net.ipv6.conf.all.disable_ipv6 is set on this machine"
        if own.read_text().strip() != "0":
            (IPV6_SETTINGS / bridge / "accept_ra").write_text("0")  # guests are no routers of this machine
            own.write_text("0")
    except FileNotFoundError:
        return "this machine's kernel has no IPv6"
    except OSError as problem:
        return f"{own}: {problem.strerror}"
    return None


def _add(device: int, address: IPv6Address) -> None:
    """By netlink, since ioctl can't say that nobody needs to be asked (for a second, and only once a guest is there)
    whether the address is free. One that is there already is fine. Raises OSError."""
    body = struct.pack("=BBBBI", socket.AF_INET6, 64, 0, RT_SCOPE_LINK, device)
    body += struct.pack("=HH16s", 20, IFA_LOCAL, address.packed)
    body += struct.pack("=HHI", 8, IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT)
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWADDR, flags, 1, 0) + body)
        answer = channel.recv(4096)
    code = -struct.unpack_from("=i", answer, 16)[0]  # struct nlmsgerr: minus errno, 0 for done
    if code not in (0, errno.EEXIST):
        raise OSError(code, os.strerror(code))


def _address_of(channel: socket.socket, label: str) -> IPv4Address | None:
    try:
        answer = fcntl.ioctl(channel, SIOCGIFADDR, _request(label, IPv4Address(0)))
    except OSError:
        return None
    return IPv4Address(answer[20:24])


def _request(name: str, address: IPv4Address) -> bytes:
    """struct ifreq with a sockaddr_in: netdevice(7)."""
    return struct.pack("16sHH4s8x8x", name.encode(), socket.AF_INET, 0, address.packed)
