"""Which content each source had when it was last asked: one small file a source, beside the images.

A source is known by its hash, since a URL may hold a secret; the file tells it as messages do.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from placet import schema

PREFIX = "source-"
FORGOTTEN_AFTER_S = 90 * 86400.0  # URLs that are never the same twice, signed ones, would pile up


@dataclass(frozen=True)
class Origin:
    """`version` is what the source said of itself (see `transfer.Source`); `digest` is that of the image's bytes."""

    source: str
    digest: str
    version: dict[str, str] = field(default_factory=dict)


class Origins:
    """The files of one directory. Its caller sees to it that one thread writes at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, source: str) -> Origin | None:
        """None when this source was never asked, or nobody remembers."""
        return _read(self._path(source))

    def write(self, source: str, origin: Origin) -> None:
        """Remember it. Raises OSError."""
        path = self._path(source)
        replace_text(path, json.dumps(schema.plain(origin)))

    def forget(self, digest: str) -> None:
        """All sources that had this content."""
        for path in self._files():
            origin = _read(path)
            if origin is not None and origin.digest == digest:
                path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """What was not asked for in a long time, or cannot be read."""
        oldest = time.time() - FORGOTTEN_AFTER_S
        for path in self._files():
            if path.stat().st_mtime < oldest or _read(path) is None:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._directory.glob(f"{PREFIX}*.json"))

    def _path(self, source: str) -> Path:
        return self._directory / f"{PREFIX}{name_of(source)}.json"


def name_of(*words: str | None) -> str:
    """A file's name for what is too long, or too secret, to be one: 32 hex digits."""
    text = "\0".join(word or "" for word in words)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def replace_text(path: Path, text: str) -> None:
    """Write a small file as a whole or not at all. Raises OSError."""
    new = path.with_suffix(".new")
    try:
        new.write_text(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _read(path: Path) -> Origin | None:
    try:
        return schema.read(Origin, json.loads(path.read_text()))
    except (OSError, ValueError, schema.Mismatch):
        return None
