"""What happened, as schedule.py tells it: who did what to which instance or node, and why, in order."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from placet import keys
from placet.config import BESIDE_SCRIPT
from placet.node import Node
from placet.store import Put
from placet.story import Note
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import ScheduleCommand
from tests.support.nodes import until


class Following:
    """`schedule.py events --follow` as a process, with what it has printed so far."""

    def __init__(self, command: ScheduleCommand, *words: str) -> None:
        argv = [sys.executable, str(BESIDE_SCRIPT / "schedule.py"), "--config", str(command.config)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([*argv, "events", "--follow", *words], stdout=pipe, stderr=pipe, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        self.lines.extend(iter(self._process.stdout.readline, ""))

    def interrupt(self) -> tuple[int, str]:
        """Its exit code and what it said on stderr, after Ctrl-C."""
        self._process.send_signal(2)
        self._reader.join(60)
        assert not self._reader.is_alive(), "it goes on"
        assert self._process.stderr
        with self._process.stderr as stderr:
            told = stderr.read()
        return self._process.wait(60), told

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(60)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def following(command: ScheduleCommand) -> Iterator[list[Following]]:
    """What a test follows; ended with it."""
    found: list[Following] = []
    yield found
    for each in found:
        each.end()


def story(command: ScheduleCommand, subject: str) -> list[dict[str, str]]:
    told = command("events", subject, "-f", "json")
    assert told.code == 0, told.err
    return list(json.loads(told.out))


def test_an_instances_story_from_its_placing_to_its_end_is_told_by_name_also_when_it_is_gone(
    command: ScheduleCommand, node: Node
) -> None:
    instance = command.place("web")
    until(lambda: "agent" in story(command, "web")[-1]["reason"], "it is all up")
    assert command("destroy", "web").code == 0
    told = story(command, "web")
    assert told == story(command, instance) == story(command, instance[:8])
    assert [row["time"] for row in told] == sorted(row["time"] for row in told)
    assert {row["subject"] for row in told} == {instance}
    words = [(row["actor"], row["what"]) for row in told]
    assert words[0] == ("schedule.py", "placed")
    assert words[-2:] == [("schedule.py", "destroy-asked"), ("node n1", "destroyed")]
    assert {what for actor, what in words[1:-2] if actor == "node n1"} == {"state", "stage"}
    assert node.id in told[0]["reason"]
    reasons = " ".join(row["reason"] for row in told)
    assert "BUILD" in reasons and "ACTIVE" in reasons and "ip" in reasons


def test_a_name_is_the_one_that_has_it_now_rather_than_one_that_is_gone(command: ScheduleCommand, node: Node) -> None:
    first = command.place("web")
    assert command("destroy", "web").code == 0
    second = command.place("web")
    assert {row["subject"] for row in story(command, "web")} == {second}
    assert command("destroy", "web").code == 0
    assert {row["subject"] for row in story(command, "web")} == {second} != {first}


def test_a_fault_is_told_with_its_code_and_reason(command: ScheduleCommand, node: Node) -> None:
    told = command("resources=VCPU:1", "/nowhere/x.qcow2", "--name", "bad", "--wait")
    assert told.code == 1
    (fault,) = [row for row in story(command, "bad") if row["what"] == "fault"]
    assert fault["reason"].startswith("image-refused at stage claimed: ") and "/nowhere/x.qcow2" in fault["reason"]


def test_without_a_subject_the_whole_cloud_is_told_in_order(command: ScheduleCommand, node: Node) -> None:
    instance = command.place("web")
    assert command("node", "drain", "n1").code == 0
    rows = json.loads(command("events", "-f", "json").out)
    assert {row["subject"] for row in rows} == {instance, node.id}
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert rows[-1]["what"] == "drained"
    assert instance in command("events").out


@pytest.mark.parametrize("word", ["nobody", "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10", "7b0c6a3e6d"])
def test_an_unknown_subject_is_told(command: ScheduleCommand, node: Node, word: str) -> None:
    told = command("events", word)
    assert (told.code, told.out) == (1, "") and repr(word) in told.err


def test_an_event_that_cannot_be_read_does_not_hide_the_others(
    command: ScheduleCommand, cloud: TestCloud, node: Node
) -> None:
    instance = command.place("web")
    before = len(story(command, "web"))
    cloud.store.transact([], [Put(keys.event(instance, 1, "x"), b"{"), Put(keys.event(instance, 2, "x"), b"\xff")])
    assert len(story(command, "web")) == before > 0


def test_following_prints_what_happens_as_it_happens_and_ends_when_interrupted(
    command: ScheduleCommand, node: Node, following: list[Following]
) -> None:
    instance = command.place("web")
    following.append(Following(command, "web", "-f", "json"))
    until(lambda: any('"placed"' in line for line in following[0].lines), "what happened before")
    assert command("destroy", "web").code == 0
    until(lambda: any('"destroyed"' in line for line in following[0].lines), "what happens now")
    assert following[0].interrupt() == (130, "schedule.py: interrupted\n")
    rows = [json.loads(line) for line in following[0].lines]
    assert {row["subject"] for row in rows} == {instance}
    assert [row["what"] for row in rows] == [row["what"] for row in story(command, instance)]


def test_following_the_cloud_prints_only_what_is_new(
    command: ScheduleCommand, cloud: TestCloud, node: Node, following: list[Following]
) -> None:
    old = command.place("old")
    following.append(Following(command))
    marks = (cloud.story(cloud.store), new_uuid())

    def is_listening() -> bool:
        marks[0].tell(Note(marks[1], "knock"))
        return bool(following[0].lines)

    until(is_listening, "it follows")
    new = command.place("new")
    until(lambda: any(new in line and "placed" in line for line in following[0].lines), "the new one")
    assert not any(old in line for line in following[0].lines)


@pytest.mark.parametrize("form", ["csv", "yaml"])
def test_following_goes_only_with_forms_that_have_a_line_for_each(command: ScheduleCommand, form: str) -> None:
    assert command("events", "--follow", "-f", form).code == 2
