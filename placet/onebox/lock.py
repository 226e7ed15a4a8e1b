"""One up.sh at a time on a state directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(directory: Path, waiting: Callable[[], None], create: bool = False) -> Iterator[None]:
    """Hold the directory's lock; `waiting` is called if somebody else has it. Raises FileNotFoundError when the
    directory is not there, or was removed while this waited, and it is not to be created."""
    handle = _lock(directory, waiting, create)
    try:
        yield
    finally:
        os.close(handle)


def _lock(directory: Path, waiting: Callable[[], None], create: bool) -> int:
    while True:
        if create:
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        if directory.exists() and directory.stat().st_ino == os.fstat(handle).st_ino:
            return handle
        os.close(handle)  # a `destroy` removed it meanwhile
