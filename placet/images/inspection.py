"""Whether a file is a disk image that guests may be given. Looked at before any QEMU tool or libvirt opens it.

The format is what the bytes say (oslo.utils' inspectors, which Nova, Glance and Cinder use), never what a name says,
and must be the declared one where one is declared. qcow2 and raw stay what they are, some others are worth a
conversion; nothing is taken that leads to another file, is encrypted, or looks like two formats at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placet.errors import Fault
from placet.hypervisor import CachedImage
from placet.images.headers import check_header

TAKEN = ("qcow2", "raw")
CONVERTED = ("vmdk", "vdi", "vhd", "vhdx")
SECTOR_BYTES = 512
FIRST_BYTES = 4 * 2**20  # all headers lie here; what follows is only read to find a trailer
STEP_BYTES, LARGE_STEP_BYTES = 4096, 2**20
LOOKS = (
    (b"BZh", "bzip2-compressed data: pack it as xz, gzip or zstd"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\xfd7zXZ\x00", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
)


@dataclass(frozen=True)
class Examined:
    """What a file is. `bare` is a raw disk without a partition table, which is only taken when it is declared raw."""

    format: str
    virtual_size: int
    bare: bool = False


def inspect(path: Path, source: str) -> CachedImage:
    """The qcow2 or raw image at `path`; `source` names it in errors. Raises Fault: it is none, or not a safe one."""
    found = examine(path, source)
    if found.format not in TAKEN:
        raise Fault("image-refused", f"image {source}: its format is {found.format}; convert it to qcow2")
    return CachedImage(path, found.format, found.virtual_size)


def examine(
    path: Path, source: str, declared: str | None = None, check_time: Callable[[str], None] = lambda _doing: None
) -> Examined:
    """What the file at `path` is, if that is what was `declared` and it may be taken.

    `check_time` is called as it is read, and may raise. Raises Fault `image-invalid` (no image, or not the declared
    one), `image-refused` (by a rule).
    """
    # imports cryptography (for LUKS headers): 70 ms that a node at rest need not have paid
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415

    check_known(declared, source)
    try:
        inspector = _inspector(format_inspector, path, check_time)
        found = _examined(inspector, path, source, declared)
        check_declared(declared, found, source)
        if not found.bare:
            inspector.safety_check()
            check_header(found.format, path, inspector, source)
    except format_inspector.SafetyCheckFailed as problem:
        reasons = ", ".join(str(failure) for failure in problem.failures.values())
        raise Fault(
            "image-refused", f"image {source}: {reasons}; a plain one comes of `qemu-img convert -O qcow2`"
        ) from problem
    except format_inspector.ImageFormatError as problem:
        raise Fault("image-refused", f"image {source}: {problem}; give one that is plainly of one format") from problem
    return found


def check_known(declared: str | None, source: str) -> None:
    """Raise Fault when a format was declared that is never taken."""
    if declared is not None and declared not in (*TAKEN, *CONVERTED):
        raise Fault(
            "image-refused", f"image {source}: declared as {declared!r}, taken are {', '.join((*TAKEN, *CONVERTED))}"
        )


def check_declared(declared: str | None, found: Examined, source: str) -> None:
    """Raise Fault when a format was declared and another was found, or one must be declared and was not."""
    if found.bare and declared is None:
        raise Fault(
            "image-invalid",
            f"image {source}: raw data without a partition table (MBR or GPT); if that is what it should be, declare "
            "it as raw, else give the image itself",
        )
    if declared not in (None, found.format):
        raise Fault(
            "image-invalid",
            f"image {source}: declared as {declared}, but it is {found.format}; correct the declaration",
        )


def _inspector(format_inspector: Any, path: Path, check_time: Callable[[str], None]) -> Any:
    """The one inspector whose format the file has. Small steps first: the inspectors expect to meet each structure in
    a read of its own."""
    with path.open("rb") as file:
        wrapper = format_inspector.InspectWrapper(file)
        done = 0
        try:
            while wrapper.format is None:
                count = len(wrapper.read(STEP_BYTES if done < FIRST_BYTES else LARGE_STEP_BYTES))
                done += count
                check_time("looking at it")
                if not count:
                    break
            wrapper.close()
            return wrapper.format
        except (format_inspector.ImageFormatError, Fault):
            raise
        except Exception as problem:  # whatever an inspector stumbles over is no image for QEMU either
            raise format_inspector.ImageFormatError(f"cannot be inspected ({problem!r})") from problem


def _examined(inspector: Any, path: Path, source: str, declared: str | None) -> Examined:
    name = inspector.NAME
    if name in ("raw", "gpt"):  # gpt: what oslo.utils calls any disk with a partition table, MBR too
        size = -(-path.stat().st_size // SECTOR_BYTES) * SECTOR_BYTES
        if name == "raw":
            _check_looks(path, source, declared)
        return Examined("raw", size, bare=name == "raw")
    if name not in (*TAKEN, *CONVERTED):
        remedy = "decrypt it first" if name == "luks" else "convert it with `qemu-img convert -O qcow2`"
        raise Fault(
            "image-refused",
            f"image {source}: its format is {name}, taken are {', '.join((*TAKEN, *CONVERTED))}; {remedy}",
        )
    try:
        return Examined(name, int(inspector.virtual_size))
    except Exception as problem:
        raise Fault("image-invalid", f"image {source}: its {name} header is damaged; get a whole one") from problem


def _check_looks(path: Path, source: str, declared: str | None) -> None:
    """Raise Fault for what is certainly no disk."""
    look = _look(path)
    if look is not None:
        said = "" if declared is None else f"declared as {declared}, but "
        raise Fault("image-invalid", f"image {source}: {said}no disk image, it looks like {look}")


def _look(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "an empty file"
    for magic, look in LOOKS:
        if start.startswith(magic):
            return look
    lowered = start.lstrip().lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "an HTML page: give the address of the image itself"
    if all(byte >= 0x20 or byte in b"\t\r\n" for byte in start):
        return "text"
    return None
