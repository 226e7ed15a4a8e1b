"""Reading a guest's console log while virtlogd writes it: console.log, and what it has rotated to console.log.0, .1 …

An offset names a file by its inode, a place in it, and what stands before that place: a rotation, which renames files,
leaves it right, and a new file with a dead one's inode is told from it. What is in them is a guest's word; that they
are files of ours, and no links, is looked at.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from zlib import crc32

from placet.drivers.libvirt.files import InstanceFiles
from placet.errors import Fault
from placet.hypervisor import LINE_BYTES, PIECE_BYTES, ConsolePiece, start_of_lines, whole_characters

MAX_BACKUPS = 9  # virtlogd.conf's default is 3
CHECKED_BYTES = 64
PLACE_BITS, CHECK_BITS = 48, 32
PLACE = (1 << PLACE_BITS) - 1


@dataclass(frozen=True)
class Part:
    """One of a log's files, opened; `size` is what it had then, `start` that of all older ones together."""

    descriptor: int
    inode: int
    size: int
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


def read_console(files: InstanceFiles, lines: int, offset: int | None) -> ConsolePiece:
    """See placet.drivers.Driver.console. Raises Fault `no-console`."""
    with contextlib.ExitStack() as stack:
        try:
            parts = _opened(files, stack)
        except OSError as problem:
            raise Fault("no-console", f"{files.console_log}: {problem.strerror}; see to that file") from problem
        if not parts:
            raise Fault("no-console", f"instance {files.directory.name}: it has no console log, it never ran here")
        begin = _start_of_lines(parts, lines) if offset is None else _begin(parts, offset)
        data = whole_characters(_read(parts, begin, PIECE_BYTES))
        return ConsolePiece(data, _offset(parts, begin + len(data)))


def _opened(files: InstanceFiles, stack: contextlib.ExitStack) -> list[Part]:
    """Its files, oldest first. The newest is opened first: a rotation meanwhile hides none, but shows one twice."""
    try:
        directory = os.open(files.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    stack.callback(os.close, directory)
    found: dict[int, Part] = {}
    for suffix in ("", *(f".{number}" for number in range(MAX_BACKUPS))):
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(files.console_log.name + suffix, flags, dir_fd=directory)
        except FileNotFoundError:
            continue
        stack.callback(os.close, descriptor)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise Fault("no-console", f"{files.console_log}{suffix}: no regular file; remove it")
        found.setdefault(facts.st_ino, Part(descriptor, facts.st_ino, facts.st_size))
    return _in_order(list(reversed(found.values())))


def _in_order(parts: Sequence[Part]) -> list[Part]:
    starts = accumulate((part.size for part in parts), initial=0)
    return [replace(part, start=start) for part, start in zip(parts, starts, strict=False)]


def _read(parts: Sequence[Part], begin: int, count: int) -> bytes:
    """`count` bytes from `begin` on, as if the parts were one file; fewer at its end."""
    pieces, end = [], min(begin + count, parts[-1].end)
    for part in parts:
        if part.start < end and begin < part.end:
            start = max(begin, part.start)
            pieces.append(os.pread(part.descriptor, min(end, part.end) - start, start - part.start))
    return b"".join(pieces)


def _start_of_lines(parts: Sequence[Part], lines: int) -> int:
    end = parts[-1].end
    tail = _read(parts, max(0, end - lines * LINE_BYTES), lines * LINE_BYTES)
    return end - len(tail) + start_of_lines(tail, lines)


def _begin(parts: Sequence[Part], offset: int) -> int:
    """The place that an offset stands for; the oldest there is when its file is gone."""
    inode, place = offset >> PLACE_BITS + CHECK_BITS, offset >> CHECK_BITS & PLACE
    for part in parts:
        if part.inode == inode and place <= part.size and _offset_in(part, place) == offset:
            return part.start + place
    return 0


def _offset(parts: Sequence[Part], place: int) -> int:
    part = next(part for part in reversed(parts) if part.start <= place)
    return _offset_in(part, place - part.start)


def _offset_in(part: Part, place: int) -> int:
    before = os.pread(part.descriptor, min(place, CHECKED_BYTES), max(0, place - CHECKED_BYTES))
    return (part.inode << PLACE_BITS | place) << CHECK_BITS | crc32(before)
