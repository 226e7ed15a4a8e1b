"""Reading a console log that is rotated meanwhile, as virtlogd does it: nothing twice, nothing left out, no links."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.drivers.libvirt.console import read_console
from placet.drivers.libvirt.files import InstanceFiles
from placet.errors import Fault
from placet.hypervisor import LINE_BYTES, PIECE_BYTES

BACKUPS = 3  # placet/onebox/libvirt_files.py


class Log:
    """A console log as virtlogd writes it."""

    def __init__(self, directory: Path) -> None:
        self.files = InstanceFiles(directory)
        self.written = b""

    @property
    def path(self) -> Path:
        return self.files.console_log

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        self.written += data

    def rotate(self) -> None:
        names = [self.path, *(Path(f"{self.path}.{number}") for number in range(BACKUPS))]
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                newer.rename(older)
        self.path.touch()

    def tail(self, lines: int) -> bytes:
        """From the last `lines` on, all of it, piece by piece."""
        piece = read_console(self.files, lines, None)
        return piece.data + self.after(piece.offset)[0]

    def after(self, offset: int) -> tuple[bytes, int]:
        """What came after `offset`, piece by piece, and where that ends."""
        found = b""
        while True:
            piece = read_console(self.files, 0, offset)
            assert len(piece.data) <= PIECE_BYTES
            found, offset = found + piece.data, piece.offset
            if not piece.data:
                return found, offset


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def refusal(log: Log) -> str:
    with pytest.raises(Fault) as caught:
        read_console(log.files, 10, None)
    assert caught.value.code == "no-console"
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "lines", "last"),
    [
        (b"", 5, b""),
        (b"a\nb\nc\n", 0, b""),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"a\nlogin: ", 1, b"login: "),
        (b"a\nlogin: ", 2, b"a\nlogin: "),
        (b"\n\n\n", 2, b"\n\n"),
        (b"a\r\nb\r\n", 1, b"b\r\n"),
    ],
)
def test_the_last_lines(log: Log, text: bytes, lines: int, last: bytes) -> None:
    log.write(text)
    assert log.tail(lines) == last


def test_the_last_lines_may_begin_in_a_file_that_is_rotated(log: Log) -> None:
    for text in (b"one\n", b"two\nth", b"ree\nfour\n"):
        log.write(text)
        log.rotate()
    assert log.tail(3) == b"two\nthree\nfour\n"


def test_a_line_without_an_end_counts_as_several(log: Log) -> None:
    log.write(b"x" * 10 * LINE_BYTES)
    assert log.tail(3) == b"x" * 3 * LINE_BYTES


def test_a_piece_is_never_too_large_and_the_next_goes_on_where_it_ended(log: Log) -> None:
    log.write(b"".join(b"line %d\n" % number for number in range(20_000)))
    piece = read_console(log.files, 10_000, None)
    assert len(piece.data) == PIECE_BYTES
    assert log.tail(10_000) == b"".join(b"line %d\n" % number for number in range(10_000, 20_000))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_that_is_half_written_waits_for_its_rest(log: Log, cut: int) -> None:
    character = "🦆".encode()
    log.write(b"a" + character[:cut])
    piece = read_console(log.files, 10, None)
    assert piece.data == b"a"
    log.write(character[cut:])
    assert log.after(piece.offset)[0] == character


def test_what_is_no_character_at_all_is_not_waited_for(log: Log) -> None:
    log.write(b"\xff\xfe\x80")
    assert log.tail(1) == b"\xff\xfe\x80"


@given(st.lists(st.text(max_size=100).map(str.encode) | st.sampled_from(["rotate", "read"]), max_size=30))
def test_whoever_reads_before_all_is_rotated_away_reads_everything_once(
    tmp_path_factory: pytest.TempPathFactory, history: list[bytes | str]
) -> None:
    log = Log(tmp_path_factory.mktemp("log"))
    log.path.touch()
    offset, found, rotations = read_console(log.files, 0, None).offset, b"", 0
    for event in history:
        if isinstance(event, bytes):
            log.write(event)
        elif event == "rotate" and rotations < BACKUPS:
            log.rotate()
            rotations += 1
        elif event == "read":
            more, offset = log.after(offset)
            found, rotations = found + more, 0
    assert found + log.after(offset)[0] == log.written


def test_an_offset_whose_file_is_gone_gives_the_oldest_there_is(log: Log) -> None:
    log.write(b"old\n")
    offset = read_console(log.files, 0, None).offset  # its inode may soon be another file's
    for number in range(BACKUPS + 2):
        log.rotate()
        log.write(b"new %d\n" % number)
    found = log.after(offset)[0]
    assert found.endswith(b"new 3\nnew 4\n") and b"old" not in found


def test_a_log_that_was_emptied_by_hand_is_read_from_its_start(log: Log) -> None:
    log.write(b"a long text\n")
    offset = read_console(log.files, 0, None).offset
    os.truncate(log.path, 0)
    log.write(b"new\n")
    assert log.after(offset)[0] == b"new\n"


@pytest.mark.parametrize("offset", [-1, 0, 1, 2**200])
def test_an_offset_that_nobody_gave_is_the_oldest_there_is(log: Log, offset: int) -> None:
    log.write(b"text\n")
    assert log.after(offset)[0] == b"text\n"


def test_without_a_log_it_never_ran(log: Log) -> None:
    assert "it never ran" in refusal(log)
    assert "it never ran" in refusal(Log(log.path.parent / "gone"))


def test_a_link_is_never_followed(log: Log, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    log.path.symlink_to(secret)
    assert "console.log" in refusal(log)
    log.path.unlink()
    log.write(b"text\n")
    Path(f"{log.path}.0").symlink_to(secret)
    assert "console.log" in refusal(log)


def test_a_directory_that_is_a_link_is_never_followed(tmp_path: Path) -> None:
    real = Log(tmp_path / "real")
    real.path.parent.mkdir()
    real.write(b"text\n")
    link = tmp_path / "link"
    link.symlink_to(real.path.parent)
    assert refusal(Log(link))


def test_what_is_no_file_is_not_read(log: Log) -> None:
    os.mkfifo(log.path)
    assert "no regular file" in refusal(log)
