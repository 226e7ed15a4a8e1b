"""The specs that a node keeps for itself: for nobody else's eyes, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from placet.model import encode
from placet.spec_files import SpecFiles
from tests.unit.test_model import SPEC


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=oct)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A state directory, under different umasks."""
    before = os.umask(request.param)
    yield tmp_path / "specs"
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_remembered_comes_back_after_a_restart(directory: Path) -> None:
    SpecFiles(directory).remember(SPEC)
    assert SpecFiles(directory).all() == {SPEC.instance: SPEC}


def test_nobody_else_may_read_them(directory: Path) -> None:
    SpecFiles(directory).remember(SPEC)
    assert mode(directory) == 0o700
    assert [mode(path) for path in directory.iterdir()] == [0o600]


def test_the_last_one_remembered_counts(directory: Path) -> None:
    files = SpecFiles(directory)
    files.remember(SPEC)
    files.remember(replace(SPEC, power="stopped"))
    assert files.all()[SPEC.instance].power == "stopped"
    assert len(list(directory.iterdir())) == 1


def test_what_is_forgotten_is_gone_and_can_be_forgotten_again(directory: Path) -> None:
    files = SpecFiles(directory)
    files.remember(SPEC)
    files.forget(SPEC.instance)
    files.forget(SPEC.instance)
    assert files.all() == {} and list(directory.iterdir()) == []


def test_one_half_written_is_not_there_and_does_not_stay_in_the_way(directory: Path) -> None:
    files = SpecFiles(directory)
    (directory / f"{SPEC.instance}.part").write_bytes(encode(SPEC)[:20])
    assert files.all() == {}
    files.remember(SPEC)
    assert files.all() == {SPEC.instance: SPEC}


def test_a_write_that_fails_leaves_the_old_one_and_no_rest(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = SpecFiles(directory)
    files.remember(SPEC)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            files.remember(replace(SPEC, power="stopped"))
    assert files.all() == {SPEC.instance: SPEC}
    assert len(list(directory.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 9}', b"\xff\xfe"])
def test_one_that_cannot_be_read_does_not_hide_the_others(directory: Path, content: bytes) -> None:
    files = SpecFiles(directory)
    files.remember(SPEC)
    (directory / "broken.json").write_bytes(content)
    (directory / "a-directory.json").mkdir()
    assert files.all() == {SPEC.instance: SPEC}
