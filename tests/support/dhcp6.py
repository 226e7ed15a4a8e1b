"""A client of DHCPv6 (RFC 8415), as small as one can be: `dhcp6.py DEVICE` prints the address that it is given.

Its DUID says nothing of the network card's MAC, as a guest's does not: the server has to know that otherwise.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from ipaddress import IPv6Address

SOLICIT, ADVERTISE, REQUEST, REPLY = 1, 2, 3, 7
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, ELAPSED = 1, 2, 3, 5, 8
DUID = struct.pack(">HI", 2, 43793) + os.urandom(8)  # vendor-assigned, as systemd's
SERVERS, CLIENT_PORT, SERVER_PORT = "ff02::1:2", 546, 547
TRIES, PAUSE_S = 40, 0.5


def option(code: int, data: bytes) -> bytes:
    return struct.pack(">HH", code, len(data)) + data


def options(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        code, length = struct.unpack_from(">HH", data)
        found[code], data = data[4 : 4 + length], data[4 + length :]
    return found


class Client:
    """Speaks on one network card, whose link-local address may take a moment to be there."""

    def __init__(self, device: str) -> None:
        self._index = socket.if_nametoindex(device)
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        self._socket.bind(("::", CLIENT_PORT, 0, self._index))
        self._socket.settimeout(PAUSE_S)

    def address(self) -> IPv6Address:
        server = self._ask(SOLICIT, ADVERTISE)[SERVER_ID]
        answer = self._ask(REQUEST, REPLY, option(SERVER_ID, server))
        return IPv6Address(options(answer[IA_NA][12:])[IA_ADDRESS][:16])

    def _ask(self, kind: int, expected: int, more: bytes = b"") -> dict[int, bytes]:
        number = os.urandom(3)
        body = option(CLIENT_ID, DUID) + option(ELAPSED, bytes(2)) + option(IA_NA, b"\0\0\0\1" + bytes(8)) + more
        for _ in range(TRIES):
            try:
                self._socket.sendto(bytes([kind]) + number + body, (SERVERS, SERVER_PORT, 0, self._index))
                answer = self._socket.recv(2048)
            except TimeoutError:
                continue
            except OSError:  # there is no address to send from yet
                time.sleep(PAUSE_S)
                continue
            if answer[:4] == bytes([expected]) + number:
                return options(answer[4:])
        raise TimeoutError(f"no DHCPv6 server answers after {TRIES * PAUSE_S:g} s")


if __name__ == "__main__":
    print(Client(sys.argv[1]).address())
