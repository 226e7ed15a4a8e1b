"""The listening socket: on one bridge and no other, so that two clouds' bridges can both carry 169.254.169.254."""

from __future__ import annotations

import contextlib
import socket
import time

from placet.errors import Unreachable

BACKLOG = 128
DEVICE_POLL_S = 0.1


def listen(address: str, port: int, device: str, wait_s: float) -> socket.socket:
    """A socket that takes connections to `address` which come in through `device`; any device when it is "".

    Waits for the device up to `wait_s` seconds. The address need not be there yet (IP_FREEBIND): whoever makes the
    bridge gives it the address. Raises Unreachable with what to do.
    """
    if device and not _wait_for(device, wait_s):
        raise Unreachable(f"there is no network device {device} after {wait_s:g} s; start the network that makes it")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # 15 is IP_FREEBIND (linux/in.h), which Python's socket module does not name; it serves IPv6 sockets too
        found.setsockopt(socket.SOL_IP, 15, 1)
        if device:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        found.bind((address, port))
        found.listen(BACKLOG)
    except OSError as problem:
        found.close()
        where = f"{address} port {port}" + (f" on {device}" if device else "")
        raise Unreachable(
            f"cannot listen at {where}: {problem.strerror}; see who does, or use another port"
        ) from problem
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
