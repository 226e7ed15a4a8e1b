"""What a qcow2 overlay says it lies on: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x514649FB
VERSION = 3
BACKING_FORMAT = 0xE2792ACA
HEADER_LENGTH_AT = 100
MOST_HEADER_BYTES = 4096


@dataclass(frozen=True)
class Backing:
    """The shared image beneath an overlay."""

    path: Path
    format: str


def read_backing(disk: Path) -> Backing | None:
    """None where there is no overlay (yet), or one that is not of our making. No guest can write its header."""
    try:
        with disk.open("rb") as file:
            header = file.read(MOST_HEADER_BYTES)
    except FileNotFoundError:
        return None
    if len(header) < HEADER_LENGTH_AT + 4:
        return None
    magic, version, name_at, name_length = struct.unpack_from(">IIQI", header)
    found = _extension(header, BACKING_FORMAT)
    if (magic, version) != (MAGIC, VERSION) or not name_at or found is None:
        return None
    return Backing(Path(header[name_at : name_at + name_length].decode()), found.decode())


def backing_files(disk: Path) -> tuple[Path, ...]:
    """All files beneath `disk`, the nearest first: an operator may have put overlays in between."""
    found: list[Path] = []
    backing = read_backing(disk)
    while backing is not None and backing.path not in found:
        found.append(backing.path)
        backing = read_backing(backing.path)
    return tuple(found)


def _extension(header: bytes, wanted: int) -> bytes | None:
    (at,) = struct.unpack_from(">I", header, HEADER_LENGTH_AT)
    while at + 8 <= len(header):
        kind, length = struct.unpack_from(">II", header, at)
        if kind == wanted:
            return header[at + 8 : at + 8 + length]
        if kind == 0:
            return None
        at += 8 + (length + 7) // 8 * 8
    return None
