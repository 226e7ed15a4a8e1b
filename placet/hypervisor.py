"""The values that pass between a node and its driver. Pure: the seam itself is placet/drivers/__init__.py."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from placet.lifecycle import Power
from placet.node_records import Address

# of a console, in one answer: as JSON, in which a byte may take six, it fits into a record
PIECE_BYTES = 32 * 1024
LINE_BYTES = 1024  # a longer line of a console counts as several: the last few are never far back


@dataclass(frozen=True)
class Owner:
    """Whose a domain is: kept in its metadata, so that foreign domains are never touched."""

    cloud: str
    node: str


@dataclass(frozen=True)
class Network:
    """The node's NAT network: its libvirt name, its bridge, and the /24 that this node owns.

    `subnet6` is the /64 that goes with it, None where guests get no IPv6. `filtered` says whether guests are kept from
    sending what is not theirs to send.
    """

    name: str
    bridge: str
    subnet: IPv4Network
    lease_minutes: int = 10
    subnet6: IPv6Network | None = None
    filtered: bool = True


@dataclass(frozen=True)
class Hypervisor:
    """The machine that runs guests. `uuid` is libvirt's host UUID; `traits` are os-traits names."""

    uuid: str
    driver: str
    virt_type: str
    traits: frozenset[str]


@dataclass(frozen=True)
class CachedImage:
    """An image on this node, ready to be a backing file: never written to again, and readable by QEMU's user.

    `digest` (64 hex digits of SHA-256), `size` and `source_format` are of what its source gave; "" and 0 where nobody
    looked.
    """

    path: Path
    format: str
    virtual_size: int
    digest: str = ""
    size: int = 0
    source_format: str = ""


@dataclass(frozen=True)
class Observed:
    """What the hypervisor says of one instance.

    `owner` is the cloud's id in the domain's metadata: None while there is no domain, "" for a domain of
    somebody else that happens to have this UUID (which is then never touched). `addresses` holds each NIC's
    IP as far as it is known, reserved or confirmed. `agent` tells whether the guest agent holds its channel open.
    """

    power: Power
    has_disk: bool = False
    owner: str | None = None
    addresses: tuple[Address, ...] = ()
    agent: bool = False


@dataclass(frozen=True)
class ConsolePiece:
    """A part of a guest's console log, at most PIECE_BYTES, exactly as the guest wrote it: it is not to be trusted.
    `offset` is what the driver takes to go on behind it; what it is made of is the driver's affair."""

    data: bytes
    offset: int


def start_of_lines(text: bytes, lines: int) -> int:
    """Where the last `lines` of a text begin, at most `lines` KiB back; an unfinished one counts."""
    earliest = max(0, len(text) - lines * LINE_BYTES)
    place = len(text)
    for _ in range(lines):
        if place <= earliest:
            break
        place = text.rfind(b"\n", earliest, place - 1) + 1 or earliest
    return place


def whole_characters(data: bytes) -> bytes:
    """Without the beginning of a UTF-8 character whose rest is yet to come."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return data[: len(data) - len(decoder.getstate()[0])]
