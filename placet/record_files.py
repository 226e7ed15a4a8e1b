"""Directories of records, one JSON file an instance, which two programs or two lives of one share.

The files hold user-data and keys: a directory is 0700, they are 0600. Each is replaced by a rename, so that a reader
sees the old or the new, and the directory's mtime tells that something changed.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIX, PART = ".json", ".part"


class RecordFiles:
    """One directory, made when it is not there. Of one instance's file there is one writer at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)

    def read(self, instance: str) -> bytes | None:
        """What is there; None when nothing is. Raises OSError."""
        try:
            return self.path(instance).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, instance: str, value: bytes) -> None:
        """Put `value` there, whole or not at all. Raises OSError."""
        part = self.path(instance).with_suffix(PART)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
            part.replace(self.path(instance))
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def remove(self, instance: str) -> None:
        """Forget one instance, and what a writer that died may have left; one that is not there is no error."""
        self.path(instance).unlink(missing_ok=True)
        self.path(instance).with_suffix(PART).unlink(missing_ok=True)

    def instances(self) -> frozenset[str]:
        """The UUIDs of all that have a file."""
        return frozenset(path.stem for path in self.directory.glob(f"*{SUFFIX}"))

    def has(self, instance: str) -> bool:
        """Whether one instance has a file."""
        return self.path(instance).exists()

    def path(self, instance: str) -> Path:
        return self.directory / f"{instance}{SUFFIX}"


class RecordsInMemory:
    """The same without files, for nodes that are simulated: they end with the process, and so do their guests."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def read(self, instance: str) -> bytes | None:
        return self._values.get(instance)

    def write(self, instance: str, value: bytes) -> None:
        self._values[instance] = value

    def remove(self, instance: str) -> None:
        self._values.pop(instance, None)

    def instances(self) -> frozenset[str]:
        return frozenset(self._values)

    def has(self, instance: str) -> bool:
        return instance in self._values

    def path(self, instance: str) -> Path:
        """A name for messages."""
        return Path(f"{instance}{SUFFIX}")


def records_in(directory: Path | None) -> RecordFiles | RecordsInMemory:
    """Files in a directory; without one, none."""
    return RecordsInMemory() if directory is None else RecordFiles(directory)


class Changes:
    """Which files of such a directory were put or removed since the last look; the first look finds all there are.

    The directory is read again only when its mtime changed. Two changes within one tick of the file system's clock
    look the same, so a reading counts only once the mtime lies `SETTLED_NS` in its past.
    """

    SETTLED_NS = 50_000_000

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read_at_mtime = -1
        self._stamps: dict[Path, tuple[int, int]] = {}

    def look(self, now_ns: int) -> dict[Path, bool]:
        """The files that changed, and whether each is there now. `now_ns` is the wall clock. Raises OSError."""
        mtime = self._directory.stat().st_mtime_ns
        if mtime == self._read_at_mtime:
            return {}
        before, self._stamps = self._stamps, self._stamps_now()
        self._read_at_mtime = mtime if now_ns - mtime > self.SETTLED_NS else -1
        put = {path: True for path, stamp in self._stamps.items() if before.get(path) != stamp}
        return put | {path: False for path in before.keys() - self._stamps.keys()}

    def _stamps_now(self) -> dict[Path, tuple[int, int]]:
        found = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # removed since it was listed
                found[Path(entry.path)] = (status.st_mtime_ns, status.st_ino)
        return found
