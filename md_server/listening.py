"""The listening sockets: on one bridge and no other, so that two clouds' bridges can both carry 169.254.169.254.

What is answered leaves with a TTL (IPv6: hop limit) of 1, so that it reaches guests on the bridge and nobody behind a
router: a token or a secret that a guest was tricked into asking for does not travel on.
"""

from __future__ import annotations

import contextlib
import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from placet.errors import Unreachable

BACKLOG = 128
HOPS = 1
SEND_BUFFER, RECEIVE_BUFFER = 64 * 1024, 32 * 1024  # bytes that the kernel holds for one who does not read
DEVICE_POLL_S = 0.1


def listen(address: str, port: int, device: str, wait_s: float) -> socket.socket:
    """A socket that takes connections to `address` which come in through `device`; any device when it is "".

    Waits for the device up to `wait_s` seconds. The address need not be there yet (IP_FREEBIND): whoever makes the
    bridge gives it the address. Raises Unreachable with what to do.
    """
    if device and not _wait_for(device, wait_s):
        raise Unreachable(f"there is no network device {device} after {wait_s:g} s; start the network that makes it")
    try:
        return _listen(ip_address(address), port, device)
    except OSError as problem:
        where = f"{address} port {port}" + (f" on {device}" if device else "")
        raise Unreachable(
            f"cannot listen at {where}: {problem.strerror}; see who does, or use another port"
        ) from problem


def _listen(address: IPv4Address | IPv6Address, port: int, device: str) -> socket.socket:
    is_v6 = address.version == 6
    found = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # 15 is IP_FREEBIND (linux/in.h), which Python's socket module does not name; it serves IPv6 sockets too
        found.setsockopt(socket.SOL_IP, 15, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if device:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        if is_v6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOPS)
            found.bind((str(address), port, 0, device_index(device) or 0))
        else:
            found.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOPS)
            found.bind((str(address), port))
        found.listen(BACKLOG)
    except BaseException:
        found.close()
        raise
    return found


def device_index(device: str) -> int | None:
    """The number of a device, which changes when it is made anew; None while there is none."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(device)
    return None


def _wait_for(device: str, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while device_index(device) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(DEVICE_POLL_S)
    return True
