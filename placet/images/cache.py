"""The node's directory of images: each source is brought once, however many builds ask at the same time."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from placet.errors import Fault
from placet.hypervisor import CachedImage
from placet.images import inspection, local, remote
from placet.images.transfer import Limits, Source, Transfer, shown
from placet.model import ImageRef

CHECKSUM = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
PART = ".part"


@dataclass
class _Flight:
    """One image under way. `outcome` is what all who asked for it get; `listeners` hear of its progress."""

    outcome: Future[CachedImage] = field(default_factory=Future)
    listeners: list[Callable[[str], None]] = field(default_factory=list)

    def tell(self, words: str) -> None:
        for listener in tuple(self.listeners):
            listener(words)


class ImageCache:
    """Thread-safe. One process owns `directory`: unfinished files that it finds there are removed at the start.

    A file in it is named by its content's origin and its format, and is whole and inspected: it gets that name last.
    """

    def __init__(
        self,
        directory: Path,
        image_dirs: Sequence[Path],
        max_bytes: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._image_dirs = tuple(image_dirs)
        self._limits = Limits(max_bytes, timeout_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: dict[tuple[str, str | None], _Flight] = {}
        self._known: dict[Path, CachedImage] = {}
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)  # QEMU's user passes through, and lists nothing
        for left_over in directory.glob(f"*{PART}"):
            left_over.unlink(missing_ok=True)

    def fetch(self, image: ImageRef, progress: Callable[[str], None] | None = None) -> CachedImage:
        """The image on this node, brought here if it is not yet.

        `progress` hears lines like "image 43 %, 18 MB/s" from whichever thread brings it. Raises Fault:
        `image-not-found`, `image-unreachable`, `image-timeout`, `image-too-large`, `image-refused` (by a rule),
        `image-invalid` (no image, or not the declared one), `disk-full`.
        """
        key = (image.source, image.checksum)
        with self._lock:
            leads = key not in self._flights
            flight = self._flights.setdefault(key, _Flight())
            if progress is not None:
                flight.listeners.append(progress)
        if leads:
            try:
                flight.outcome.set_result(self._find_or_bring(image, flight.tell))
            except BaseException as problem:  # those who wait must hear of it, whatever it is
                flight.outcome.set_exception(problem)
            finally:
                with self._lock:
                    del self._flights[key]
        found = flight.outcome.result()
        inspection.check_declared(image.format, found, shown(image.source))
        return found

    def _find_or_bring(self, image: ImageRef, tell: Callable[[str], None]) -> CachedImage:
        checksum = _checksum(image)
        by_url = image.source.startswith(("http://", "https://"))
        if by_url and checksum is not None:
            found = self._find(_name(checksum))  # needs no word from the server
            if found is not None:
                return found
        with self._open(image.source, by_url) as source:
            name = None
            if by_url and checksum is not None:
                name = _name(checksum)
            elif source.identity is not None:
                name = _name(source.identity, checksum or "")
            found = None if name is None else self._find(name)
            return found or self._bring(shown(image.source), source, name, checksum, tell)

    def _open(self, source: str, by_url: bool) -> AbstractContextManager[Source]:
        if by_url:
            return remote.opened(source, self._limits.timeout_s)
        if "://" in source:
            raise Fault("image-refused", f"image {shown(source)}: neither a path nor an http or https URL")
        return local.opened(source, self._image_dirs)

    def _find(self, name: str) -> CachedImage | None:
        for extension in inspection.FORMATS:
            path = self._directory / f"{name}.{extension}"
            if path.exists():
                if path not in self._known:
                    self._known[path] = inspection.inspect(path, str(path))
                return self._known[path]
        return None

    def _bring(
        self, called: str, source: Source, name: str | None, checksum: str | None, tell: Callable[[str], None]
    ) -> CachedImage:
        try:
            descriptor, part_name = tempfile.mkstemp(suffix=PART, dir=self._directory)
            part = Path(part_name)
            try:
                with open(descriptor, "wb") as target:  # noqa: PTH123  (a descriptor, not a path)
                    source.copy_to(target, Transfer(called, self._limits, tell, self._clock))
                    target.flush()
                    os.fchmod(descriptor, 0o644)
                    os.fsync(descriptor)  # or a power cut leaves a good name on a file without content
                digest = _sha256(part) if checksum is not None or name is None else ""
                if checksum not in (None, digest):
                    raise Fault(
                        "image-invalid", f"image {called}: its sha256 is {digest}, not {checksum}; correct one of them"
                    )
                found = inspection.inspect(part, called)
                if found.format == "qcow2":
                    inspection.check_whole(part, called)
                return self._publish(found, name or _name(digest))
            finally:
                part.unlink(missing_ok=True)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Fault(
                "disk-full", f"image {called}: no space left in {self._directory}; free some, then try again"
            ) from problem

    def _publish(self, part: CachedImage, name: str) -> CachedImage:
        path = self._directory / f"{name}.{part.format}"
        part.path.rename(path)
        self._known[path] = CachedImage(path, part.format, part.virtual_size)
        return self._known[path]


def _checksum(image: ImageRef) -> str | None:
    if image.checksum is None:
        return None
    match = CHECKSUM.fullmatch(image.checksum)
    if match is None:
        raise Fault(
            "image-refused",
            f"image {shown(image.source)}: checksum {image.checksum!r} is not sha256: and 64 hex digits",
        )
    return match[1].lower()


def _name(*identity: str) -> str:
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:32]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
