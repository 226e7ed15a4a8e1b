"""The command line: its first word decides, its output fits where it goes, its errors are one line."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from placet.cli import output
from placet.cli.main import _parsed, main, routed
from placet.config import BESIDE_SCRIPT
from placet.errors import Usage

UUID = "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"


@pytest.mark.parametrize(
    ("argv", "verb"),
    [
        (["resources=VCPU:1"], "create"),
        (["--config", "f", "resources=VCPU:1", "img"], "create"),
        ([UUID], "ip"),
        (["7b0c6a3e"], "ip"),
        (["list"], "list"),
        (["destroy", UUID], "destroy"),
    ],
)
def test_the_first_word_decides(argv: list[str], verb: str) -> None:
    assert verb in routed(argv)[:3]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["lst"], "unknown verb 'lst' (did you mean 'list'?)"),
        (["7b0c6a3"], "unknown verb '7b0c6a3'"),
        (["list", "--frmat", "json"], "unrecognized arguments: --frmat"),
        (["list", "--form", "json"], "unrecognized arguments: --form"),
        (["destroy"], "required: INSTANCE"),
        (["destroy", "\udcff"], "is not UTF-8"),
        (["destroy", "web", "--wait-timeout", "nan"], "invalid seconds value: 'nan'"),
        (["resources=VCPU:1", "a", "--image", "b", "--config", "/dev/null"], "unrecognized"),
        (["--config", "/nonexistent", "list"], "/nonexistent: no such file"),
        (["resources=VCPU:1", "--wait-for", "login"], "invalid choice: 'login' (choose from 'ip', 'agent', 'ready')"),
        (["resources=VCPU:1", "--config-drive", "iso"], "choose from 'auto', 'openstack', 'nocloud', 'none'"),
        (["resources=VCPU:1", "--metadata-tokens", "yes"], "choose from 'auto', 'optional', 'required'"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_2(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_asking_for_an_ip_loads_neither_keystoneauth_nor_libvirt() -> None:
    code = (
        "import sys; from placet.cli.main import main; main(['--config', '/dev/null', '" + UUID + "']);"
        "print([name for name in ('keystoneauth1', 'requests', 'libvirt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=BESIDE_SCRIPT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (190, "3m10s"), (7500, "2h05m"), (273_600, "3d4h"), (-5, "0s")]
)
def test_ages_have_two_units(seconds: float, text: str) -> None:
    assert output.age(seconds) == text


def test_control_characters_never_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = argparse.Namespace(format="table", column=None)
    output.show_rows([{"name": "a\x1b[31m\nb"}], ["name"], shown)
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["resources=VCPU:1", "mini", "--name", "web"], ["resources=VCPU:1", "--name", "web", "mini"]]
)
def test_the_image_may_stand_before_or_behind_flags(words: list[str]) -> None:
    arguments = _parsed(routed(words))
    assert (arguments.query, arguments.image, arguments.name) == ("resources=VCPU:1", "mini", "web")


@pytest.mark.parametrize("form", output.FORMATS)
def test_every_format_shows_what_there_is(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = argparse.Namespace(format=form, column=None)
    output.show_rows([{"name": "web", "ip": None}], ["name", "ip"], shown)
    output.show_one({"name": "web", "ip": None}, shown)
    assert capsys.readouterr().out.count("web") == 2


def test_an_unknown_column_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Usage, match="did you mean 'name'"):
        output.show_rows([{"name": "web"}], ["name"], argparse.Namespace(format="table", column=["nam"]))
