"""What people see beside rows: sizes, and progress that only a terminal gets."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from placet.cli import output
from placet.cli.main import main
from placet.config import BESIDE_SCRIPT


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, None),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 * 2**20, "64 MiB"),
        (2**31, "2 GiB"),
        (int(2.25 * 2**30), "2.2 GiB"),
        (5 * 2**40, "5 TiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_sizes_are_in_the_largest_unit_that_fits(count: int, text: str | None) -> None:
    assert output.size(count) == text


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_one_line_of_a_terminal_and_gone_in_the_end(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stderr = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(KeyboardInterrupt), output.progress() as tell:
        tell("node n1: image 43 %, 18 MB/s")
        tell("node n1: \x1b[31m" + "x" * 100)
        raise KeyboardInterrupt
    shown = stderr.getvalue()
    if not terminal:
        assert shown == ""
        return
    lines = shown.split("\r")
    assert lines[1].rstrip() == "node n1: image 43 %, 18 MB/s"
    assert "\x1b" not in shown and "\n" not in shown and all(len(line) < 40 for line in lines)
    assert lines[-2].strip() == lines[-1] == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["image", "lst"], "argument DOING: invalid choice: 'lst'"),
        (["image", "lst"], "(did you mean 'list'?)"),
        (["key", "ad", "x", "y"], "(did you mean 'add'?)"),
        (["image", "list", "-f", "jsn"], "(did you mean 'json'?)"),
        (["node", "xyz", "n1"], "(choose from 'drain', 'undrain', 'forget'); "),
        (["image"], "required: DOING"),
        (["imgae"], "unknown verb 'imgae' (did you mean 'image'?)"),
    ],
)
def test_a_word_that_is_none_gets_the_nearest_as_a_hint(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("words", [["image", "list"], ["key", "list"], ["console", "vm"]])
def test_no_verb_loads_more_than_it_needs(words: list[str]) -> None:
    code = (
        f"import sys; from placet.cli.main import main; main(['--config', '/dev/null', *{words}]);"
        "print([name for name in ('keystoneauth1', 'requests', 'libvirt', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=BESIDE_SCRIPT, check=True)
    assert done.stdout.strip() == "[]"
