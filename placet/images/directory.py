"""The directory of a node's images: each named by the SHA-256 of the bytes its source gave, and by its format.

Beside an image lies a file that says what it is; its time is when the image was last asked for. An image is there
when both are: it gets its name last. What instances' disks lie on is never removed, nor what was asked for lately.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from placet import schema
from placet.errors import Fault, PlacetError
from placet.hypervisor import CachedImage
from placet.images.eviction import Entry, victims
from placet.images.inspection import TAKEN, Examined
from placet.images.origins import Origin, Origins, replace_text
from placet.images.part import remove_stale_parts
from placet.log import log, warn

TEMPORARY = ".tmp"


@dataclass(frozen=True)
class Facts:
    """What is known of an image: the `format` of its file, what it was `found` to be when it came, sizes in bytes."""

    format: str
    virtual_size: int
    size: int
    found: Examined


class ImageDirectory:
    """Thread-safe. One process owns it. `in_use` says on which files instances' disks lie."""

    def __init__(
        self, path: Path, limit: int, in_use: Callable[[], Set[Path]], now: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._limit = limit
        self._in_use = in_use
        self._now = now
        self._lock = threading.RLock()
        self._origins = Origins(path)
        path.mkdir(mode=0o711, parents=True, exist_ok=True)  # QEMU's user passes through, and lists nothing
        for left_over in (*path.glob(f"*{TEMPORARY}"), *path.glob("*.new")):
            left_over.unlink(missing_ok=True)
        remove_stale_parts(path)
        self._origins.tidy()

    def find(self, digest: str) -> tuple[CachedImage, Examined] | None:
        """The image of this content, and what it was found to be; it counts as used now."""
        with self._lock:
            facts = self._facts(digest)
            if facts is None:
                return None
            self._touch(digest)
            return self._cached(digest, facts), facts.found

    def origin(self, source: str) -> Origin | None:
        """What a source had when it was last asked, if that is still here."""
        found = self._origins.read(source)
        return found if found is not None and self._facts(found.digest) is not None else None

    def remember(self, source: str, origin: Origin) -> None:
        """Keep what a source had, if there is room for it: without, it is only asked for more than it need be."""
        with self._lock:
            try:
                self._origins.write(source, origin)
            except OSError as problem:
                warn("image-source-not-remembered", image=origin.source, reason=problem)

    def publish(self, part: Path, digest: str, facts: Facts) -> CachedImage:
        """Give the finished file its name; if its content is there already, what is there stays. Raises OSError."""
        with self._lock:
            if self._facts(digest) is None:
                replace_text(self._facts_path(digest), json.dumps(schema.plain(facts)))
                part.rename(self._image_path(digest, facts.format))
                _sync(self.path)
            self._touch(digest)
            return self._cached(digest, self._facts(digest) or facts)

    def make_room(self, name: str, needed: int) -> None:
        """Remove what is unused until `needed` more bytes are within the limit, as far as that is possible.

        Raises Fault `image-cache-full` when they alone are over it.
        """
        if needed > self._limit:
            raise Fault(
                "image-cache-full",
                f"image {name}: takes {needed} bytes, over the {self._limit} that all images may take; "
                "raise image_cache_gb in compute.yaml or choose a smaller one",
            )
        with self._lock:
            entries = self._entries()
            if sum(entry.size for entry in entries) + needed > self._limit:
                self._evict(entries, needed)

    def _evict(self, entries: list[Entry], needed: int) -> None:
        try:
            in_use = {path.name for path in self._in_use()}
        except (OSError, PlacetError) as problem:  # nobody can tell what is used: nothing goes
            warn("images-in-use-unknown", reason=problem)
            return
        found = victims(entries, needed, self._limit, in_use, self._now())
        for entry in found:
            self._remove(entry)
        left = sum(entry.size for entry in entries) - sum(entry.size for entry in found) + needed
        if left > self._limit:
            warn("image-cache-over-limit", bytes=left, limit=self._limit, reason="what is left is in use")

    def _remove(self, entry: Entry) -> None:
        digest = entry.path.stem
        entry.path.unlink(missing_ok=True)
        self._facts_path(digest).unlink(missing_ok=True)
        self._origins.forget(digest)
        log("image-evicted", image=entry.path.name, bytes=entry.size)

    def _entries(self) -> list[Entry]:
        return [
            Entry(path, path.stat().st_blocks * 512, self._used_at(path.stem))
            for format in TAKEN
            for path in self.path.glob(f"*.{format}")
        ]

    def _touch(self, digest: str) -> None:
        now = self._now()
        os.utime(self._facts_path(digest), (now, now))

    def _used_at(self, digest: str) -> float:
        try:
            return self._facts_path(digest).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _facts(self, digest: str) -> Facts | None:
        try:
            facts = schema.read(Facts, json.loads(self._facts_path(digest).read_text()))
        except (OSError, ValueError, schema.Mismatch):  # none, or one that was cut off: it is brought again
            return None
        return facts if facts.format in TAKEN and self._image_path(digest, facts.format).exists() else None

    def _cached(self, digest: str, facts: Facts) -> CachedImage:
        path = self._image_path(digest, facts.format)
        return CachedImage(path, facts.format, facts.virtual_size, digest, facts.size, facts.found.format)

    def _image_path(self, digest: str, format: str) -> Path:
        return self.path / f"{digest}.{format}"

    def _facts_path(self, digest: str) -> Path:
        return self.path / f"{digest}.json"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
