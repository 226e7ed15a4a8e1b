"""Whether a file is a disk image that guests may be given. Looked at before any QEMU tool or libvirt opens it.

The format is what the bytes say (oslo.utils' inspectors, which Nova, Glance and Cinder use), never what a name says.
Taken are qcow2 without backing file, data file or unknown features, and raw disks with a partition table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from placet.errors import Fault
from placet.hypervisor import CachedImage

FORMATS = ("qcow2", "raw")
CHECK_TIMEOUT_S = 120
CHECK_MEMORY_BYTES = 1 << 30
LOOKS = (
    (b"\x1f\x8b", "gzip-compressed data: unpack it first"),
    (b"\xfd7zXZ\x00", "xz-compressed data: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data: unpack it first"),
    (b"BZh", "bzip2-compressed data: unpack it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
)


def inspect(path: Path, source: str) -> CachedImage:
    """What the file at `path` is; `source` names it in errors. Raises Fault when it is no image or not a safe one."""
    # imports cryptography (for LUKS headers): 70 ms that a node at rest need not have paid
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415

    try:
        found = format_inspector.detect_file_format(str(path))
        if found is None or found.NAME == "raw":
            raise Fault("image-invalid", f"image {source}: no disk image, it looks like {_look(path)}")
        if found.NAME not in ("qcow2", "gpt"):
            raise Fault(
                "image-refused",
                f"image {source}: its format is {found.NAME}, taken are qcow2 and raw; "
                "convert it with `qemu-img convert -O qcow2`",
            )
        found.safety_check()
    except format_inspector.ImageFormatError as problem:
        raise Fault("image-refused", f"image {source}: {problem}; give one that is plainly qcow2 or raw") from problem
    except format_inspector.SafetyCheckFailed as problem:
        reasons = ", ".join(str(failure) for failure in problem.failures.values())
        raise Fault(
            "image-refused", f"image {source}: {reasons}; a plain one comes of `qemu-img convert -O qcow2`"
        ) from problem
    if found.NAME == "gpt":  # what oslo.utils calls any disk with a partition table, MBR too
        return CachedImage(path, "raw", path.stat().st_size)
    return CachedImage(path, "qcow2", int(found.virtual_size))


def check_whole(path: Path, source: str) -> None:
    """Raise Fault when the qcow2 at `path`, found safe by `inspect`, is cut off or damaged.

    `qemu-img check` follows all of its tables; as nobody and under limits, since a guest's owner may have made them.
    Where there is no qemu-img, nothing will boot the image either.
    """
    if shutil.which("qemu-img") is None:
        return
    limits = ["prlimit", f"--as={CHECK_MEMORY_BYTES}", f"--cpu={CHECK_TIMEOUT_S}"]
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if os.geteuid() == 0 else {}
    with path.open("rb") as file:
        try:
            done = subprocess.run(
                [*limits, "qemu-img", "check", "-f", "qcow2", "/dev/stdin"],
                stdin=file,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CHECK_TIMEOUT_S,
                check=False,
                **nobody,  # type: ignore[call-overload]
            )
        except subprocess.TimeoutExpired as problem:
            raise Fault("image-invalid", f"image {source}: could not be checked in {CHECK_TIMEOUT_S} s") from problem
    if done.returncode not in (0, 3):  # 3: space is leaked, nothing is lost
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"qemu-img ended with {done.returncode}"]
        raise Fault("image-invalid", f"image {source}: damaged or cut off ({lines[0]}); get a whole one")


def check_declared(declared: str | None, image: CachedImage, source: str) -> None:
    """Raise Fault when a format was declared and it is not the one that was found."""
    if declared is None or declared == image.format:
        return
    if declared not in FORMATS:
        raise Fault("image-refused", f"image {source}: declared as {declared!r}, taken are {' and '.join(FORMATS)}")
    raise Fault(
        "image-invalid", f"image {source}: declared as {declared}, but it is {image.format}; correct the declaration"
    )


def _look(path: Path) -> str:
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
    return "raw data without a partition table (MBR or GPT)"
