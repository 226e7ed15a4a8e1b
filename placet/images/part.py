"""The unfinished file of an image that is being fetched, and the note beside it by which a restarted agent goes on.

The note says of which version of the source the file holds the beginning. It counts only until the machine boots
anew: after a power cut a file may have its length and not its content.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".part"
NOTE_SUFFIX = ".part-note"
KEPT_S = 86400.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Part:
    """The file at `path`, open for reading and writing; `file` stands at its end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self._note = path.with_suffix(NOTE_SUFFIX)

    @property
    def size(self) -> int:
        """How many bytes are here."""
        return self.file.seek(0, os.SEEK_END)

    def begin(self, validator: str | None) -> None:
        """Make it empty, to hold the source's version `validator` (see RFC 9110, 13.1.5); None: one without a name."""
        self._note.unlink(missing_ok=True)
        self.file.seek(0)
        self.file.truncate()
        if validator is not None:
            self._note.write_text(json.dumps({"validator": validator, "boot": _boot_id()}))

    @property
    def validator(self) -> str | None:
        """Of which version the file holds the beginning, as far as that is certain."""
        return _read_note(self._note)


@contextlib.contextmanager
def opened_part(path: Path) -> Iterator[Part]:
    """The part at `path`, made now or kept from before. It goes at the end of the `with`, unless the process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "r+b") as file:  # noqa: PTH123  (a descriptor, not a path)
            yield Part(path, file)
    finally:
        remove_part(path)


def remove_part(path: Path) -> None:
    """The file and its note."""
    path.unlink(missing_ok=True)
    path.with_suffix(NOTE_SUFFIX).unlink(missing_ok=True)


def remove_stale_parts(directory: Path) -> None:
    """At the start of a process: what nobody can go on with, and what nobody asked for again within a day."""
    for path in directory.glob(f"*{SUFFIX}"):
        fresh = path.stat().st_mtime > time.time() - KEPT_S
        if not fresh or _read_note(path.with_suffix(NOTE_SUFFIX)) is None:
            remove_part(path)
    for note in directory.glob(f"*{NOTE_SUFFIX}"):
        if not note.with_suffix(SUFFIX).exists():
            note.unlink(missing_ok=True)


def _read_note(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text())
        return str(found["validator"]) if found["boot"] == _boot_id() else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that was cut off
        return None


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()
