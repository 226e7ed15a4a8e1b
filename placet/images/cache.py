"""The node's images: each is brought once, however many builds ask for it at the same time, and found again after."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from placet.errors import Fault
from placet.hypervisor import CachedImage
from placet.images import inspection, local
from placet.images.addresses import HostRules
from placet.images.bringing import Bringing
from placet.images.directory import ImageDirectory
from placet.images.origins import Origin, name_of
from placet.images.part import SUFFIX
from placet.images.places import place_of
from placet.images.remote import Web
from placet.images.transfer import Journey, Limits, Source, scheme_of, shown
from placet.model import ImageRef

CHECKSUM = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass
class _Flight:
    """One image under way. `outcome` is what all who asked for it get; `listeners` hear of its progress."""

    outcome: Future[CachedImage] = field(default_factory=Future)
    listeners: list[Callable[[str], None]] = field(default_factory=list)

    def tell(self, words: str) -> None:
        for listener in tuple(self.listeners):
            listener(words)


class ImageCache:
    """Thread-safe. One process owns `directory`: unfinished files that it finds there are removed at the start, but
    for downloads that can go on."""

    def __init__(
        self,
        directory: Path,
        image_dirs: Sequence[Path],
        limits: Limits,
        hosts: Sequence[str] = (),
        in_use: Callable[[], Set[Path]] = frozenset,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`hosts` are those that images may come from (see `HostRules`), `in_use` says on which files disks lie."""
        self._directory = ImageDirectory(directory, limits.cache_bytes, in_use, now)
        self._image_dirs = tuple(image_dirs)
        self._limits = limits
        self._rules = HostRules(tuple(hosts))
        self._web = Web(self._rules, pause)
        self._clock = clock
        self._bringing = Bringing(self._directory)
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}

    def fetch(self, image: ImageRef, progress: Callable[[str], None] | None = None) -> CachedImage:
        """The image on this node, brought here if it is not yet.

        `progress` hears lines like "image 43 %, 18 MB/s" from whichever thread brings it. Raises Fault:
        `image-not-found`, `image-unreachable`, `image-timeout`, `image-too-large`, `image-refused` (by a rule),
        `image-invalid` (no image, or not the declared one), `image-cache-full`, `disk-full`.
        """
        key = name_of(image.source, image.checksum, image.format)
        with self._lock:
            leads = key not in self._flights
            flight = self._flights.setdefault(key, _Flight())
            if progress is not None:
                flight.listeners.append(progress)
        if leads:
            try:
                flight.outcome.set_result(self._find_or_bring(image, key, flight.tell))
            except BaseException as problem:  # those who wait must hear of it, whatever it is
                flight.outcome.set_exception(problem)
            finally:
                with self._lock:
                    del self._flights[key]
        return flight.outcome.result()

    def _find_or_bring(self, image: ImageRef, key: str, tell: Callable[[str], None]) -> CachedImage:
        journey = Journey(shown(image.source), self._limits, tell, self._clock)
        inspection.check_known(image.format, journey.name)
        checksum = _checksum(image)
        self._check_source(image.source, journey.name)
        if checksum is not None and (found := self._found(checksum, image, journey.name)):
            return found  # needs no word from anybody
        known = self._directory.origin(image.source) if checksum is None else None
        with self._open(image.source, known.version if known else {}, journey) as source:
            if known is not None and known.version and source.version == known.version:
                found = self._found(known.digest, image, journey.name)
                if found is not None:
                    self._directory.remember(image.source, known)  # its time is that of the last look
                    return found
            found = self._bringing.bring(source, f"{key}{SUFFIX}", checksum, image.format, journey)
            self._directory.remember(image.source, Origin(journey.name, found.digest, source.version))
            return found

    def _found(self, digest: str, image: ImageRef, name: str) -> CachedImage | None:
        there = self._directory.find(digest)
        if there is None:
            return None
        cached, examined = there
        inspection.check_declared(image.format, examined, name)
        return cached

    def _check_source(self, source: str, name: str) -> None:
        """What can be told without asking anybody."""
        scheme = scheme_of(source)
        if scheme in ("http", "https"):
            self._rules.check_host(name, place_of(source, name).host)
        elif scheme not in ("", "file"):
            raise Fault("image-refused", f"image {name}: {scheme} URLs are not taken; give a path, or an http(s) URL")

    def _open(self, source: str, known: dict[str, str], journey: Journey) -> AbstractContextManager[Source]:
        scheme = scheme_of(source)
        if scheme in ("http", "https"):
            return self._web.opened(source, known, journey)
        return local.opened(local.path_of(source) if scheme == "file" else source, journey.name, self._image_dirs)


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
