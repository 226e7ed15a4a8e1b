"""The directory through which the agent tells the metadata service of its guests: one file an instance.

Written by the node's worker, read by md_server. The files hold user-data and keys: the directory is 0700, they are
0600. Each is replaced by a rename, so that a reader sees the old or the new and the directory's mtime changes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from placet import model
from placet.metadata import GuestRecord

SUFFIX = ".json"


class GuestRecords:
    """The writer's side."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)

    def write(self, record: GuestRecord) -> None:
        """Write the record; one that is there already and the same is left alone."""
        path = self._path(record.instance)
        value = model.encode(record)
        try:
            if path.read_bytes() == value:
                return
        except FileNotFoundError:
            pass
        descriptor, part = tempfile.mkstemp(dir=self._directory)  # 0600, and without the suffix not a record yet
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
            Path(part).rename(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def remove(self, instance: str) -> None:
        """Forget a guest; one that is not there is no error."""
        self._path(instance).unlink(missing_ok=True)

    def instances(self) -> frozenset[str]:
        """The UUIDs of all guests that have a record."""
        return frozenset(path.stem for path in self._directory.glob(f"*{SUFFIX}"))

    def _path(self, instance: str) -> Path:
        return self._directory / f"{instance}{SUFFIX}"


class GuestsByAddress:
    """The reader's side: which guest has an IP, as the files say now.

    The directory is read again when its mtime changed. Two changes within one tick of the file system's clock look
    the same, so a reading counts only once the mtime lies `SETTLED_NS` in its past.
    """

    SETTLED_NS = 50_000_000

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read_at_mtime = -1
        self._files: dict[str, tuple[tuple[int, int], GuestRecord | None]] = {}
        self._by_ip: dict[str, GuestRecord | None] = {}
        self.problems: list[str] = []

    def find(self, ip: str, now_ns: int) -> GuestRecord | None:
        """The guest whose address `ip` is. None when it is nobody's, or, of a stale record's making, two guests'.

        `now_ns` is the wall clock. What could not be read is added to `problems`, which the caller empties.
        """
        try:
            mtime = self._directory.stat().st_mtime_ns
            if mtime != self._read_at_mtime:
                self._read()
                self._read_at_mtime = mtime if now_ns - mtime > self.SETTLED_NS else -1
        except OSError as problem:
            self.problems.append(f"{self._directory}: {problem.strerror}")
            return None
        return self._by_ip.get(ip)

    def _read(self) -> None:
        files = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                    stamp = (found.st_mtime_ns, found.st_ino)
                    known = self._files.get(entry.name)
                    files[entry.name] = (
                        known if known and known[0] == stamp else (stamp, self._record(Path(entry.path)))
                    )
                except FileNotFoundError:
                    continue  # removed since it was listed
        self._files = files
        self._by_ip = {}
        for _, record in files.values():
            for ip in record.ips if record else ():
                if ip in self._by_ip:
                    self.problems.append(f"{ip} is in two guests' records: it is answered as nobody's")
                self._by_ip[ip] = None if ip in self._by_ip else record

    def _record(self, path: Path) -> GuestRecord | None:
        try:
            return model.decode(GuestRecord, path.read_bytes(), str(path))
        except model.BadRecord as problem:
            self.problems.append(str(problem))
            return None
