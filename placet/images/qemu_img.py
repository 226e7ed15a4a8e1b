"""qemu-img, for images that `inspection` found safe: as nobody and under limits, since a guest's owner may have made
them. The format is always said, and a backing file never looked for."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from placet.errors import Fault
from placet.images.transfer import Journey, one_line

CHECK_TIMEOUT_S = 120
MEMORY_BYTES = 1 << 30
STACK_BYTES = 1 << 20  # of each of qemu-img's up to 64 threads: 8 MiB would be half of its memory
DRIVERS = {"vhd": "vpc"}  # what QEMU calls it


def check_whole(path: Path, source: str) -> None:
    """Raise Fault when the qcow2 at `path` is cut off or damaged: `qemu-img check` follows all of its tables.

    Where there is no qemu-img, nothing will boot the image either.
    """
    if shutil.which("qemu-img") is None:
        return
    with path.open("rb") as file:
        try:
            done = _run(file, CHECK_TIMEOUT_S, ["check", "-f", "qcow2", "/dev/stdin"])
        except subprocess.TimeoutExpired as problem:
            raise Fault("image-invalid", f"image {source}: could not be checked in {CHECK_TIMEOUT_S} s") from problem
    if done.returncode not in (0, 3):  # 3: space is leaked, nothing is lost
        raise Fault("image-invalid", f"image {source}: damaged or cut off ({_complaint(done)}); get a whole one")


def convert(path: Path, format: str, target: Path, journey: Journey) -> None:
    """Write the image at `path`, of this format, to the empty file `target` as qcow2.

    Raises Fault `image-invalid`, `image-timeout`, `image-too-large`; `image-refused` where there is no qemu-img.
    """
    if shutil.which("qemu-img") is None:
        raise Fault("image-refused", f"image {journey.name}: {format}, and this node has no qemu-img to convert it")
    journey.check_time("converting it")
    stdin = {"driver": "file", "filename": "/dev/stdin"}
    described = json.dumps({"driver": DRIVERS.get(format, format), "backing": None, "file": stdin})
    with path.open("rb") as file, _nobodys(target) as copy:
        words = ["convert", "-O", "qcow2", f"json:{described}", f"/proc/self/fd/{copy}"]
        try:
            done = _run(file, journey.remaining_s, words, copy, journey.limits.max_bytes)
        except subprocess.TimeoutExpired as problem:
            raise Fault(
                "image-timeout", f"image {journey.name}: converting it from {format} took too long; give it as qcow2"
            ) from problem
    if done.returncode != 0 and os.strerror(errno.EFBIG) in done.stderr:
        journey.limits.check_size(journey.name, journey.limits.max_bytes + 1)
    if done.returncode != 0:
        raise Fault(
            "image-invalid",
            f"image {journey.name}: cannot be converted from {format} ({_complaint(done)}); give it as qcow2",
        )


@contextmanager
def _nobodys(path: Path) -> Iterator[int]:
    """A descriptor of the file at `path`, which is nobody's for so long: it is opened once more by its number."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            shutil.chown(path, "nobody", "nogroup")
        yield descriptor
    finally:
        if os.geteuid() == 0:
            os.fchown(descriptor, 0, 0)
        os.close(descriptor)


def _run(
    image: BinaryIO, timeout_s: float, words: list[str], copy: int | None = None, most_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    memory = [f"--as={MEMORY_BYTES}", f"--stack={STACK_BYTES}"]
    limits = ["prlimit", *memory, f"--cpu={int(timeout_s) + 1}", "--core=0"]
    if most_bytes is not None:
        limits.append(f"--fsize={most_bytes}")
    nobody: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if os.geteuid() == 0 else {}
    return subprocess.run(
        [*limits, "qemu-img", *words],
        stdin=image,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        cwd="/",
        env={
            **os.environ,
            "LC_ALL": "C",
            "MALLOC_ARENA_MAX": "1",
        },  # one a thread would be 64 MiB of address space each
        pass_fds=() if copy is None else (copy,),
        **nobody,
    )


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"qemu-img ended with {done.returncode}"]
    return one_line(lines[0], 200)
