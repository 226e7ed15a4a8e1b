"""Images by name: a node says what one really is before it is recorded."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from placet import keys, wiring
from placet.model import ImageRecord, decode
from placet.node import Node
from placet.store import Put
from tests.support.clouds import TestCloud
from tests.support.commands import QUERY, ScheduleCommand, Told
from tests.support.image_files import MIB, qcow2, raw, sha256
from tests.support.nodes import FakeMachine, until


@pytest.fixture
def image(machine: FakeMachine) -> Path:
    """One on the node, below its image_dirs."""
    return qcow2(machine.state_dir / "images" / "deb12.qcow2", data=True)


def record(cloud: TestCloud, name: str) -> ImageRecord | None:
    entry = cloud.store.get(keys.image(name))
    return decode(ImageRecord, entry.value, entry.key) if entry else None


def names(command: ScheduleCommand) -> list[str]:
    return command("image", "list", "-c", "name", "-f", "value").out.split()


def assert_nobody_asks(cloud: TestCloud) -> None:
    left = [each.key for each in cloud.store.scan(keys.NODES).entries if "/operations/" in each.key]
    assert left == []


def test_an_image_is_recorded_as_its_node_finds_it(
    command: ScheduleCommand, cloud: TestCloud, node: Node, image: Path
) -> None:
    words = ["--property", "kind=cloud-init", "--property", "os=debian", "--min-memory-mb", "256"]
    assert command("image", "add", "deb12", str(image), *words) == Told(0, "", "")
    found = record(cloud, "deb12")
    assert found and found.created_at > 0
    assert (found.source, found.format, found.checksum) == (str(image), "qcow2", sha256(image))
    assert (found.virtual_size, found.size) == (64 * MIB, image.stat().st_size)
    assert (found.properties, found.min_memory_mb) == ({"kind": "cloud-init", "os": "debian"}, 256)
    assert_nobody_asks(cloud)


def test_an_instance_is_made_of_it_by_its_name(command: ScheduleCommand, node: Node, image: Path) -> None:
    command("image", "add", "deb12", "deb12.qcow2", "--min-memory-mb", "200")
    assert command(QUERY, "deb12", "--name", "vm", "--wait").code == 0
    told = command(QUERY.replace("MEMORY_MB:256", "MEMORY_MB:128"), "deb12")
    assert told.code == 2 and "needs MEMORY_MB:200" in told.err


@pytest.mark.parametrize("form", ["vmdk", "vdi", "vpc", "xz"])
def test_one_that_must_be_converted_or_unpacked_is_recorded_as_it_comes_and_boots(
    command: ScheduleCommand, cloud: TestCloud, node: Node, image: Path, form: str
) -> None:
    far = image.with_suffix(f".{form}")
    with far.open("wb") as target:
        words = "xz -kc {}" if form == "xz" else f"qemu-img convert -O {form} {{}} {far}"
        subprocess.run(words.format(image).split(), stdout=target, check=True)
    assert command("image", "add", "deb12", str(far)) == Told(0, "", "")
    found = record(cloud, "deb12")
    assert found and (found.checksum, found.size) == (sha256(far), far.stat().st_size)
    assert found.format == {"xz": "qcow2", "vpc": "vhd"}.get(form, form)
    assert command(QUERY, "deb12", "--wait").code == 0


def test_images_are_listed_and_shown(command: ScheduleCommand, node: Node, image: Path) -> None:
    command("image", "add", "deb12", str(image), "--property", "kind=plain")
    head, deb12, mini = command("image", "list").out.splitlines()
    assert head.split() == ["NAME", "FORMAT", "DISK", "DOWNLOAD", "MIN_MEMORY_MB", "DIGEST", "AGE"]
    assert deb12.split()[:4] == ["deb12", "qcow2", "64", "MiB"] and sha256(image)[:19] in deb12
    assert mini.split()[0] == "mini" and all(len(line) <= 80 for line in (head, deb12))
    (row, _) = json.loads(command("image", "list", "-f", "json").out)
    assert (row["source"], row["checksum"], row["virtual_size"]) == (str(image), sha256(image), 64 * MIB)
    assert json.loads(command("image", "show", "deb12", "-f", "json").out)["properties"] == {"kind": "plain"}
    assert command("image", "show", "deb12", "-c", "checksum", "-f", "value").out == f"{sha256(image)}\n"


def test_an_image_that_is_removed_leaves_its_instances_alone(command: ScheduleCommand, node: Node, image: Path) -> None:
    command("image", "add", "deb12", str(image))
    command.place("vm", "deb12")
    assert command("image", "remove", "deb12") == Told(0, "", "")
    assert names(command) == ["mini"]
    assert json.loads(command("show", "vm", "-f", "json").out)["state"] == "ACTIVE"
    assert command(QUERY, "deb12").code == 2


def test_the_same_again_is_fine_and_asks_no_node(command: ScheduleCommand, machine: FakeMachine, image: Path) -> None:
    with machine.agent():
        until(lambda: command("image", "add", "deb12", str(image)).code == 0, "its node is alive and adds it")
    for words in ((), ("--format", "qcow2"), ("--checksum", sha256(image))):
        assert command("image", "add", "deb12", str(image), *words) == Told(0, "", "")


@pytest.mark.parametrize("words", [("--format", "raw"), ("--checksum", "ab" * 32), ("--min-memory-mb", "9")])
def test_another_of_the_same_name_is_a_conflict(
    command: ScheduleCommand, cloud: TestCloud, node: Node, image: Path, words: tuple[str, ...]
) -> None:
    command("image", "add", "deb12", str(image))
    before = record(cloud, "deb12")
    told = command("image", "add", "deb12", str(image), *words)
    assert told.code == 5 and "image 'deb12' is there and another" in told.err
    assert record(cloud, "deb12") == before


def test_a_node_whose_file_is_another_does_not_boot_it(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, other_machine: FakeMachine, image: Path
) -> None:
    raw(other_machine.state_dir / "images" / "deb12.qcow2")
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        assert command("image", "add", "deb12", "deb12.qcow2").code == 0
    with other_machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        told = command(QUERY, "deb12", "--wait")
        assert told.code == 1 and "image-invalid" in told.err, told


def text_file(directory: Path) -> str:
    (directory / "text").write_text("hello\n")
    return "text"


def backed_image(directory: Path) -> str:
    base = qcow2(directory / "base.qcow2")
    return str(qcow2(directory / "backed.qcow2", "-b", str(base), "-F", "qcow2"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (text_file, "no disk image, it looks like text"),
        (backed_image, "backing"),
        (lambda _: "/etc/passwd", "not below image_dirs"),
        (lambda _: "none.qcow2", "no such file"),
    ],
)
def test_what_its_node_refuses_is_not_recorded_and_the_reason_is_the_error(
    command: ScheduleCommand,
    cloud: TestCloud,
    machine: FakeMachine,
    node: Node,
    made: Callable[[Path], str],
    words: str,
) -> None:
    told = command("image", "add", "bad", made(machine.state_dir / "images"))
    assert told.code == 1 and told.out == ""
    assert told.err.startswith("schedule.py: node n1: image ") and words in told.err, told
    assert names(command) == ["mini"]
    assert_nobody_asks(cloud)


@pytest.mark.parametrize(
    ("words", "says"),
    [(("--checksum", "ab" * 32), "its sha256 is"), (("--format", "raw"), "declared as raw, but it is qcow2")],
)
def test_what_is_not_as_it_was_said_to_be_is_refused(
    command: ScheduleCommand, node: Node, image: Path, words: tuple[str, ...], says: str
) -> None:
    told = command("image", "add", "deb12", str(image), *words)
    assert told.code == 1 and says in told.err
    assert names(command) == ["mini"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("Deb12", "/x"), "'Deb12' is no name"),
        (("deadbeef", "/x"), "reads as a UUID"),
        (("deb12", "ftp://example.org/a"), "images come by http"),
        (("deb12", "/x", "--checksum", "abc"), "64 hex digits"),
        (("deb12", "/x", "--format", "iso"), "--format"),
        (("deb12", "/x", "--property", "kind"), "is not KEY=VALUE"),
        (("deb12", "/x", "--property", "kind=min"), "did you mean 'mini'"),
        (("deb12", "/x", "--property", "deadline_ip=soon"), "expected seconds"),
        (("deb12", "/x", "--min-memory-mb", "-1"), "--min-memory-mb"),
        (("deb12", "/x", "--node", "n1", "--no-fetch"), "give one of them"),
        (("deb12",), "URL|NODEPATH"),
    ],
)
def test_wrong_words_are_exit_2_and_ask_no_node(command: ScheduleCommand, words: tuple[str, ...], says: str) -> None:
    told = command("image", "add", *words)
    assert (told.code, told.out) == (2, "") and says in told.err, told
    assert names(command) == ["mini"]


@pytest.mark.parametrize("doing", ["show", "remove", "warm"])
def test_an_unknown_name_gets_the_nearest_as_a_hint(command: ScheduleCommand, doing: str) -> None:
    told = command("image", doing, "mimi")
    assert (told.code, told.out) == (1, "") and "no image 'mimi' (did you mean 'mini'?)" in told.err


def test_without_a_node_it_is_recorded_only_when_nobody_shall_look_at_it(
    command: ScheduleCommand, cloud: TestCloud
) -> None:
    told = command("image", "add", "deb12", "https://example.org/deb12.qcow2")
    assert told.code == 4 and "no node is alive to fetch it" in told.err and "--no-fetch" in told.err
    words = ("deb12", "https://example.org/deb12.qcow2", "--checksum", "ab" * 32, "--no-fetch")
    assert command("image", "add", *words) == Told(0, "", "")
    assert command("image", "add", *words) == Told(0, "", ""), "and again"
    found = record(cloud, "deb12")
    assert found and (found.checksum, found.format, found.virtual_size) == (f"sha256:{'ab' * 32}", None, 0)
    assert "deb12  -" in command("image", "list").out


def test_a_node_that_is_named_and_silent_is_told(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, image: Path
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
    told = command("image", "add", "deb12", str(image), "--node", "n1")
    assert (told.code, told.err) == (4, "schedule.py: node n1 is not alive: see schedule.py nodes\n")
    assert command("image", "add", "deb12", str(image), "--node", "n7").code == 1
    assert names(command) == ["mini"]


def test_two_who_add_the_same_name_agree_or_one_is_told(cloud: TestCloud, node: Node, image: Path) -> None:
    raw(image.parent / "other.raw")
    outcomes: dict[str, list[str]] = {str(image): [], str(image.parent / "other.raw"): []}

    def add(source: str) -> None:
        try:
            wiring.images(cloud.store).add(ImageRecord("deb12", source), None, lambda *_: None)
            outcomes[source].append("added")
        except Exception as problem:
            outcomes[source].append(type(problem).__name__)

    threads = [threading.Thread(target=add, args=(source,)) for source in outcomes for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(map(tuple, outcomes.values())) == [("Conflict",) * 3, ("added",) * 3]


def test_a_record_that_cannot_be_read_hides_no_other(command: ScheduleCommand, cloud: TestCloud) -> None:
    cloud.store.transact([], [Put(keys.image("broken"), b"{")])
    assert names(command) == ["mini"]
    assert command("image", "show", "broken").code == 1
    assert command("image", "remove", "broken").code == 0
