"""One image on its way into the cache: fetched, compared with its checksum, unpacked, looked at, converted, named.

Each step takes only what the one before it found good; no tool sees what was not inspected, nothing is unpacked whose
checksum is wrong. Whatever goes wrong, nothing of it is left.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from placet.errors import Fault
from placet.hypervisor import CachedImage
from placet.images import inspection, qemu_img, unpacking
from placet.images.directory import TEMPORARY, Facts, ImageDirectory
from placet.images.inspection import Examined
from placet.images.part import opened_part
from placet.images.transfer import Journey, Source, Transfer

CHUNK_BYTES = 1 << 20


class Bringing:
    """Into one directory."""

    def __init__(self, directory: ImageDirectory) -> None:
        self._directory = directory

    def bring(
        self, source: Source, part_name: str, checksum: str | None, declared: str | None, journey: Journey
    ) -> CachedImage:
        """What `source` gives; `checksum` (64 hex digits) and the format are compared with the declared ones.

        Raises Fault: see `ImageCache.fetch`.
        """
        journey.limits.check_size(journey.name, source.size or 0)
        self._directory.make_room(journey.name, source.size or 0)
        with _full_disks_told(journey.name, self._directory.path):
            with opened_part(self._directory.path / part_name) as part:
                source.copy_to(part, Transfer(journey))
                part.file.flush()
                journey.tell("image: checking")
                digest = _sha256(part.path, journey)
                if checksum not in (None, digest):
                    raise Fault(
                        "image-invalid",
                        f"image {journey.name}: its sha256 is {digest}, not {checksum}; correct one of them",
                    )
                there = self._directory.find(digest)
                if there is not None:
                    inspection.check_declared(declared, there[1], journey.name)
                    return there[0]
                return self._take(part.path, digest, declared, journey)

    def _take(self, fetched: Path, digest: str, declared: str | None, journey: Journey) -> CachedImage:
        size = fetched.stat().st_size
        with ExitStack() as stack:
            plain = self._unpacked(stack, fetched, journey)
            found = inspection.examine(plain, journey.name, declared, journey.check_time)
            journey.limits.check_virtual_size(journey.name, found.virtual_size)
            ready, format, virtual_size = plain, found.format, found.virtual_size
            if found.format in inspection.CONVERTED:
                ready, virtual_size = self._converted(stack, plain, found, journey)
                format = "qcow2"
            ready.chmod(0o644)
            if format == "qcow2":
                qemu_img.check_whole(ready, journey.name)
            _sync(ready)
            self._directory.make_room(journey.name, ready.stat().st_blocks * 512)
            return self._directory.publish(ready, digest, Facts(format, virtual_size, size, found))

    def _unpacked(self, stack: ExitStack, fetched: Path, journey: Journey) -> Path:
        if unpacking.compression_of(fetched) is None:
            return fetched
        plain = stack.enter_context(_temporary(self._directory.path))
        with plain.open("r+b") as target:
            unpacking.unpack(fetched, target, journey)
        unpacking.check_not_packed_again(plain, journey.name)
        return plain

    def _converted(self, stack: ExitStack, plain: Path, found: Examined, journey: Journey) -> tuple[Path, int]:
        journey.tell("image: converting")
        copy = stack.enter_context(_temporary(self._directory.path))
        plain.chmod(0o644)
        qemu_img.convert(plain, found.format, copy, journey)
        result = inspection.examine(copy, journey.name, "qcow2", journey.check_time)
        journey.limits.check_virtual_size(journey.name, result.virtual_size)
        return copy, result.virtual_size


@contextmanager
def _temporary(directory: Path) -> Iterator[Path]:
    """An empty file there; it goes at the end of the `with` unless it was given another name."""
    descriptor, name = tempfile.mkstemp(suffix=TEMPORARY, dir=directory)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _full_disks_told(name: str, directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Fault("disk-full", f"image {name}: no space left in {directory}; free some, then try again") from problem


def _sha256(path: Path, journey: Journey) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            journey.check_time("checking it")
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Or a power cut leaves a good name on a file without content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
