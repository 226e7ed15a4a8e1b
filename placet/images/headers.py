"""What oslo.utils' inspectors leave open in a header, and QEMU would act on. Called only for what they found safe."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from placet.errors import Fault

HEADER_BYTES = 1024
QCOW2_CRYPT_AT = 32  # docs/interop/qcow2.txt in QEMU: 0 is none, 1 AES, 2 LUKS
VHD_TYPE_AT = 60  # "Virtual Hard Disk Image Format Specification", hard disk footer: 2 fixed, 3 dynamic, 4 differencing
VDI_TYPE_AT = 76  # VirtualBox, VDICore.h: 1 normal, 2 fixed, 3 undo, 4 differencing
DESCRIPTOR_AT = 512
DESCRIPTOR_BYTES = 2**20
EXTENT_ACCESS = (b"rw", b"rdonly", b"noaccess")
DIFFERENCE = "it is the difference to another file"


def check_header(format: str, path: Path, inspector: Any, source: str) -> None:
    """Raises Fault `image-refused`."""
    reason = _REASONS.get(format, _none)(path)
    if reason is None and format != "raw" and not int(inspector.virtual_size):
        reason = "it does not say how large its disk is"
    if reason is not None:
        raise Fault(
            "image-refused", f"image {source}: {format}, and {reason}; a plain one comes of `qemu-img convert -O qcow2`"
        )


def _none(_path: Path) -> str | None:
    return None


def _qcow2(path: Path) -> str | None:
    return "it is encrypted" if _number(path, QCOW2_CRYPT_AT, ">I") else None


def _vhd(path: Path) -> str | None:
    return None if _number(path, VHD_TYPE_AT, ">I") in (2, 3) else DIFFERENCE


def _vdi(path: Path) -> str | None:
    return None if _number(path, VDI_TYPE_AT, "<I") in (1, 2) else DIFFERENCE


def _vmdk(path: Path) -> str | None:
    """The inspector reads the descriptor without regard to case and QEMU does not, and it asks neither for the parent
    nor how many extents there are: both could name other files."""
    with path.open("rb") as file:
        file.seek(DESCRIPTOR_AT)
        text = file.read(DESCRIPTOR_BYTES).partition(b"\0")[0]
    lowered = text.lower()
    if b"parentfilenamehint" in lowered or re.findall(rb"parentcid\s*=\s*(\w+)", lowered) not in ([], [b"ffffffff"]):
        return "it needs another file, its parent"
    types = re.findall(rb'createtype\s*=\s*"([^"]*)"', lowered)
    lines = [line.split() for line in lowered.split(b"\n")]
    extents = [words for words in lines if words and words[0] in EXTENT_ACCESS]
    if len(types) != 1 or lowered.count(b"createtype") != 1:
        return "its descriptor says its type more than once"
    if len(extents) != 1 or extents[0][2:3] != [b"sparse"]:
        return "its data is not in itself alone"
    return None


def _number(path: Path, at: int, layout: str) -> int:
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    found = struct.unpack_from(layout, header.ljust(HEADER_BYTES, b"\0"), at)
    return int(found[0])


_REASONS = {"qcow2": _qcow2, "vhd": _vhd, "vdi": _vdi, "vmdk": _vmdk}
