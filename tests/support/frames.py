"""Ethernet frames, byte by byte, right or forged. Run as a program, it sends frames on one network card and tells which
came out of another: `frames.py SENDER RECEIVER WITNESS HEX…` prints the numbers of those that did, as a JSON list.

Of the network card WITNESS every frame passes: when one from there has come, all others were there or were dropped.
`frames.py --listen DEVICE` prints every frame that it hears, in hex, a line each, until it is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

ARP, IPV4, IPV6, RARP, VLAN, LLDP = 0x0806, 0x0800, 0x86DD, 0x8035, 0x8100, 0x88CC
UDP, ICMP6, HOP_BY_HOP = 17, 58, 0
REQUEST, REPLY = 1, 2
ROUTER_SOLICIT, ROUTER_ADVERT, NEIGHBOR_SOLICIT, NEIGHBOR_ADVERT, REDIRECT = 133, 134, 135, 136, 137
EVERYBODY = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
WITNESS_MAC = "52:54:00:ff:ff:ff"
EVERY_KIND = 3  # ETH_P_ALL, linux/if_ether.h
WAIT_S = 10.0


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, kind: int, payload: bytes, to: str = EVERYBODY) -> bytes:
    """One frame, padded as a network card would."""
    return (mac_bytes(to) + mac_bytes(source) + struct.pack(">H", kind) + payload).ljust(60, b"\0")


def arp(
    mac: str, ip: str, operation: int = REPLY, asked: str = "198.19.7.1", kind: int = ARP, source: str = ""
) -> bytes:
    """`mac` says that it has `ip`; the frame itself comes from `source`, else from `mac` too."""
    body = struct.pack(">HHBBH", 1, IPV4, 6, 4, operation)
    body += mac_bytes(mac) + IPv4Address(ip).packed + bytes(6) + IPv4Address(asked).packed
    return ethernet(source or mac, kind, body)


def udp(source_port: int, to_port: int, body: bytes = b"as long as no padding needs") -> bytes:
    return struct.pack(">HHHH", source_port, to_port, 8 + len(body), 0) + body


def icmp6(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBHI", kind, 0, 0, 0) + body


def advert_of(ip: str) -> bytes:
    """A neighbour advertisement that says where `ip` is."""
    return icmp6(NEIGHBOR_ADVERT, ip_address(ip).packed)


def ipv4(mac: str, source: str, to: str, segment: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, UDP, 0)
    head += IPv4Address(source).packed + IPv4Address(to).packed
    return ethernet(mac, IPV4, head[:10] + struct.pack(">H", checksum(head)) + head[12:] + segment)


def checksum(data: bytes) -> int:
    """RFC 1071; of an even number of bytes. A wrong one is dropped by bridges that pass frames on to iptables."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    return ~(total % 0xFFFF) & 0xFFFF


def ipv6(mac: str, source: str, to: str, segment: bytes, protocol: int = ICMP6, hidden: bool = False) -> bytes:
    """`hidden`: behind a hop-by-hop header, where a careless filter does not look."""
    if hidden:
        segment, protocol = struct.pack(">BBBBI", protocol, 0, 1, 4, 0) + segment, HOP_BY_HOP
    head = struct.pack(">IHBB", 6 << 28, len(segment), protocol, 255)
    return ethernet(mac, IPV6, head + IPv6Address(source).packed + IPv6Address(to).packed + segment)


def tagged(frame: bytes) -> bytes:
    """The same frame in a VLAN."""
    return frame[:12] + struct.pack(">HH", VLAN, 7) + frame[12:]


def untagged(frame: bytes) -> bytes:
    """As such sockets see it: the kernel hands them a VLAN's tag apart."""
    return frame[:12] + frame[16:] if frame[12:14] == struct.pack(">H", VLAN) else frame


def main(sender: str, receiver: str, witness: str, words: list[str]) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # frames stay in order on one processor
    sent = [bytes.fromhex(word) for word in words]
    last = ethernet(WITNESS_MAC, LLDP, b"all were sent")
    heard = set()
    with contextlib.ExitStack() as sockets:
        hearing, sending, witnessing = (
            sockets.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) for _ in range(3)
        )
        hearing.bind((receiver, EVERY_KIND))
        sending.bind((sender, 0))
        witnessing.bind((witness, 0))
        hearing.settimeout(WAIT_S)
        for frame in sent:
            sending.send(frame)
        witnessing.send(last)
        while (frame := hearing.recv(2048)) != last:
            heard |= {number for number, one in enumerate(sent) if frame in (one, untagged(one))}
    print(json.dumps(sorted(heard)))


def listen(device: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as hearing:
        hearing.bind((device, EVERY_KIND))
        print("listening", flush=True)
        while True:
            print(hearing.recv(2048).hex(), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--listen":
        listen(sys.argv[2])
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
