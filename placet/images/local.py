"""An image that is a file on this node, below one of its `image_dirs`."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from placet.errors import Fault
from placet.images.part import Part
from placet.images.transfer import Transfer, shown

FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int); fcntl has it by name from Python 3.13 on
CHUNK_BYTES = 64 * 2**20


@contextmanager
def opened(source: str, name: str, image_dirs: Sequence[Path]) -> Iterator[LocalSource]:
    """The file at the path `source`, which messages call `name`; a relative one is looked for in each of `image_dirs`,
    since every node may have its own. Raises Fault when it is not there, no file, or not below `image_dirs`."""
    try:
        path = os.path.realpath(source if source.startswith("/") else _found_in(image_dirs, source))
    except ValueError as problem:  # a NUL, or what no file's name can hold
        raise _unopened(name, problem) from problem
    if not any(Path(path).is_relative_to(os.path.realpath(directory)) for directory in image_dirs):
        dirs = ", ".join(map(str, image_dirs)) or "(none)"
        raise Fault(
            "image-refused",
            f"image {name}: not below image_dirs ({dirs}); move it there or add its directory in compute.yaml",
        )
    try:
        # the path is resolved: a link that turns up now was put there since
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        raise _unopened(name, problem) from problem
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Fault("image-invalid", f"image {name}: not a regular file; give the path of a qcow2 or raw image")
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  (a descriptor, not a path)
        yield LocalSource(name, path, file)


def path_of(url: str) -> str:
    """The path that a `file:` URL (RFC 8089) means. Raises Fault when it is another host's."""
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        raise Fault("image-refused", f"image {shown(url)}: no URL ({problem}); give the path alone") from problem
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/"):
        raise Fault("image-refused", f"image {shown(url)}: no file of this node; give its path, below image_dirs")
    return path


def _found_in(image_dirs: Sequence[Path], source: str) -> Path:
    places = [directory / source for directory in image_dirs]
    return next((place for place in places if _exists(place)), places[0] if places else Path("/") / source)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for one
        return False


class LocalSource:
    """See `transfer.Source`."""

    def __init__(self, name: str, path: str, file: BinaryIO) -> None:
        self._name = name
        self._path = path
        self._file = file
        self.version = self._version()
        self.size: int | None = os.fstat(file.fileno()).st_size

    def copy_to(self, part: Part, transfer: Transfer) -> None:
        """By reflink where the file system can, else the data alone: holes stay holes."""
        part.begin(None)
        source, copy = self._file.fileno(), part.file.fileno()
        size = os.fstat(source).st_size
        transfer.begin(0, size)
        if not _reflinked(source, copy):
            for start, end in _data_ranges(source, size):
                _copy_range(source, copy, start, end, transfer)
            os.ftruncate(copy, size)
        if self._version() != self.version:
            raise Fault("image-invalid", f"image {self._name}: changed while it was copied; try again when it is whole")

    def _version(self) -> dict[str, str]:
        found = os.fstat(self._file.fileno())
        return {
            "path": self._path,
            "size": str(found.st_size),
            "mtime_ns": str(found.st_mtime_ns),
            "inode": f"{found.st_dev}:{found.st_ino}",
        }


def _unopened(source: str, problem: OSError | ValueError) -> Fault:
    if isinstance(problem, ValueError) or problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return Fault("image-not-found", f"image {source}: no such file on this node; put it there or give a URL")
    return Fault("image-not-found", f"image {source}: cannot be opened: {problem.strerror}; mend its permissions")


def _reflinked(source: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, FICLONE, source)
    except OSError:
        return False  # another file system, or one that cannot
    return True


def _copy_range(source: int, copy: int, start: int, end: int, transfer: Transfer) -> None:
    os.lseek(copy, start, os.SEEK_SET)
    while start < end:
        sent = os.sendfile(copy, source, start, min(CHUNK_BYTES, end - start))
        if not sent:  # it has become shorter: copy_to finds out
            return
        start += sent
        transfer.advance(sent)


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
