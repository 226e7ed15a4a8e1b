"""What `create` is given for a guest, from its words to the spec that the node gets."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path

import pytest

from placet import keys
from placet.guest_inputs import guest_file
from placet.model import ImageRecord, KeyRecord, Spec, decode, encode, raw_user_data
from placet.node import Node
from placet.store import Put
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import QUERY, ScheduleCommand, Told
from tests.support.nodes import FakeMachine

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9Zmr1pT2FTW3sMIbnyRMUhMMl7k4vY9Ugc2sLNDqkY me@laptop"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKpYbUKvnhf9nR8zq1FAqnxDHTXYcZYnQYbOzVQ8Ul2x desk"
PLACED = re.compile(r"NOTIFIED TARGET, ([0-9a-f-]{36}), OF INSTANCE ([0-9a-f-]{36})\n")


def spec_of(cloud: TestCloud, placed: Told) -> Spec:
    """The spec of the instance that a command has just placed."""
    found = PLACED.match(placed.out)
    assert found, placed
    entry = cloud.store.get(keys.spec(found[1], found[2]))
    assert entry is not None
    return decode(Spec, entry.value, entry.key)


def test_what_a_guest_is_given_is_in_its_spec_and_show_tells_of_it(
    command: ScheduleCommand, cloud: TestCloud, node: Node, tmp_path: Path
) -> None:
    script = tmp_path / "user-data.gz"
    script.write_bytes(gzip.compress(b"#!/bin/sh\n"))
    tool = tmp_path / "tool"
    tool.write_bytes(b"#!/bin/sh\necho \xff\n")
    tool.chmod(0o750)
    words = ["--user-data", str(script), "--file", f"//opt/./tool={tool}", "--hostname", "www.example.org"]
    words += ["--property", "role=db", "--property", "note=a=b", "--config-drive", "nocloud"]
    told = command(QUERY, "--name", "web", *words, "--metadata-tokens", "required", "--wait")

    spec = spec_of(cloud, told)
    assert raw_user_data(spec) == script.read_bytes()
    assert spec.files == (guest_file("/opt/tool", tool.read_bytes(), 0o750),)
    assert spec.properties == {"role": "db", "note": "a=b"}
    shown = json.loads(command("show", "web", "-f", "json").out)
    assert (shown["hostname"], shown["properties"], shown["files"]) == (
        "www.example.org",
        spec.properties,
        ["/opt/tool"],
    )
    assert (shown["config_drive"], shown["metadata_tokens"]) == ("nocloud", "required")


def test_the_image_says_what_its_guests_take_and_how_long_they_boot_unless_the_user_does(
    command: ScheduleCommand, cloud: TestCloud, node: Node, machine: FakeMachine
) -> None:
    properties = {"config_drive": "nocloud", "metadata_tokens": "required", "kind": "mini", "deadline_ready": "600"}
    record = ImageRecord("debian", str(machine.image), properties=properties)
    cloud.store.transact([], [Put(keys.image("debian"), encode(record))])

    spec = spec_of(cloud, command(QUERY, "debian"))
    assert (spec.config_drive, spec.metadata_tokens) == ("nocloud", "required")
    assert spec.deadlines == {"ip": 60, "agent": 90, "ready": 600}
    spec = spec_of(cloud, command(QUERY, "debian", "--config-drive", "none", "--metadata-tokens", "optional"))
    assert (spec.config_drive, spec.metadata_tokens) == ("none", "optional")
    spec = spec_of(cloud, command(QUERY, str(machine.image)))
    assert (spec.config_drive, spec.metadata_tokens, spec.deadlines) == ("openstack", "optional", {"ip": 300})


def test_keys_are_files_or_names_each_of_them_once(
    command: ScheduleCommand, cloud: TestCloud, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.store.transact([], [Put(keys.ssh_key("default", "laptop"), encode(KeyRecord("laptop", KEY, 1.0)))])
    file = tmp_path / "both.pub"
    file.write_text(f"# mine\n{KEY}\n\n{OTHER_KEY}\n")

    words = ["--name", "web", "--key", "laptop", "--key", str(file)]
    assert spec_of(cloud, command(QUERY, *words)).keys == (KEY, OTHER_KEY)
    assert json.loads(command("show", "web", "-f", "json").out)["keys"] == ["ssh-ed25519 me@laptop", "ssh-ed25519 desk"]
    monkeypatch.chdir(tmp_path)
    Path("laptop").mkdir()
    assert spec_of(cloud, command(QUERY, "--key", "laptop", "--key", "both.pub")).keys == (KEY, OTHER_KEY)


def test_user_data_from_standard_input_is_every_instances(
    command: ScheduleCommand, cloud: TestCloud, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"#!/bin/sh\n")))
    told = command(QUERY, "--count", "2", "--user-data", "-")
    specs = [decode(Spec, entry.value, entry.key) for entry in cloud.store.scan(keys.specs(node.id)).entries]
    assert told.code == 0 and [spec.user_data for spec in specs] == ["#!/bin/sh\n"] * 2


def test_the_same_uuid_with_another_file_is_a_conflict(command: ScheduleCommand, node: Node, tmp_path: Path) -> None:
    instance, file = new_uuid(), tmp_path / "file"
    file.write_text("one")
    words = (QUERY, "--uuid", instance, "--file", f"/etc/file={file}")
    assert command(*words).code == command(*words).code == 0
    file.write_text("two")
    assert command(*words).code == 5
