"""ssh keys by name, from the command line to etcd."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from placet import keys
from placet.model import KeyRecord, decode
from tests.support.clouds import TestCloud
from tests.support.commands import ScheduleCommand, Told

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/////////////////////////////////////////a me@laptop"
FINGERPRINT = "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "id_ed25519.pub"
    path.write_text(f"{KEY}\n")
    return str(path)


def test_a_key_is_added_listed_shown_and_removed(command: ScheduleCommand, cloud: TestCloud, file: str) -> None:
    assert command("key", "add", "laptop", file) == Told(0, "", "")
    entry = cloud.store.get(keys.ssh_key("default", "laptop"))
    assert entry and decode(KeyRecord, entry.value, entry.key).key == KEY
    (row,) = json.loads(command("key", "list", "-f", "json").out)
    assert (row["name"], row["type"], row["fingerprint"]) == ("laptop", "ssh-ed25519", FINGERPRINT)
    assert command("key", "show", "laptop", "-c", "key", "-f", "value").out == f"{KEY}\n"
    assert command("key", "remove", "laptop") == Told(0, "", "")
    assert json.loads(command("key", "list", "-f", "json").out) == []


def test_a_list_of_them_fits_on_80_columns(command: ScheduleCommand, file: str) -> None:
    command("key", "add", "laptop", file)
    head, row = command("key", "list").out.splitlines()
    assert head.split() == ["NAME", "FINGERPRINT", "TYPE", "AGE"]
    assert row.startswith(f"laptop  {FINGERPRINT}  ssh-ed25519  ") and len(row) <= 80


def test_without_a_key_the_list_says_how_to_add_one(command: ScheduleCommand) -> None:
    assert "schedule.py key add" in command("key", "list").err


def test_a_key_comes_by_standard_input_too(command: ScheduleCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{KEY}\n".encode())))
    assert command("key", "add", "laptop", "-").code == 0
    assert command("key", "show", "laptop", "-c", "comment", "-f", "value").out == "me@laptop\n"


def test_the_same_key_again_is_fine_and_another_is_a_conflict(
    command: ScheduleCommand, file: str, tmp_path: Path
) -> None:
    command("key", "add", "laptop", file)
    Path(file).write_text(KEY.replace("me@laptop", "another comment"))
    assert command("key", "add", "laptop", file) == Told(0, "", "")
    assert command("key", "show", "laptop", "-c", "key", "-f", "value").out == f"{KEY}\n", "the first stays"
    Path(file).write_text(OTHER)
    told = command("key", "add", "laptop", file)
    assert (told.code, "key 'laptop' is there and another" in told.err) == (5, True)


@pytest.mark.parametrize(
    ("words", "text", "code", "says"),
    [
        (("add", "Laptop"), KEY, 2, "'Laptop' is no name"),
        (("add", "laptop"), "hello", 2, "no ssh public key: its type is 'hello'"),
        (("add", "laptop"), "-----BEGIN OPENSSH PRIVATE KEY-----\n", 2, "that is a private key"),
        (("add", "laptop"), f"no-pty {KEY}", 2, "there are options before it"),
        (("show", "laptpo"), KEY, 1, "no key 'laptpo' (did you mean 'laptop2'?)"),
        (("remove", "nothing"), KEY, 1, "no key 'nothing'; `schedule.py key list` shows what there is"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    command: ScheduleCommand, file: str, words: tuple[str, ...], text: str, code: int, says: str
) -> None:
    command("key", "add", "laptop2", file)
    Path(file).write_text(text)
    told = command("key", *words, *([file] if words[0] == "add" else []))
    assert (told.code, told.out) == (code, "") and says in told.err, told
    assert command("key", "list", "-c", "name", "-f", "value").out == "laptop2\n"


@pytest.mark.parametrize(("file", "says"), [("/nonexistent", "No such file"), ("/", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(command: ScheduleCommand, file: str, says: str) -> None:
    told = command("key", "add", "laptop", file)
    assert told.code == 2 and file in told.err and says in told.err


def test_what_is_no_text_is_refused(command: ScheduleCommand, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "not text" in command("key", "add", "laptop", str(tmp_path / "binary")).err
