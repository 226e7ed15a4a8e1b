"""A guest's console from afar: through etcd, its node, and back; piece by piece, and for as long as it lives."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from placet import keys
from placet.config import BESIDE_SCRIPT
from placet.hypervisor import PIECE_BYTES
from placet.node import Node
from tests.support.clouds import TestCloud
from tests.support.commands import QUERY, ScheduleCommand
from tests.support.gated_http import gated_http
from tests.support.nodes import FakeMachine, until


@pytest.fixture
def vm(command: ScheduleCommand, node: Node) -> str:
    return command.place("vm")


def write(machine: FakeMachine, instance: str, text: bytes) -> None:
    """As the guest does."""
    with machine.hypervisor.lock:
        machine.hypervisor.domains[instance].console += text


class Follower:
    """`schedule.py console --follow` in a process of its own; `text` is what it has printed so far."""

    def __init__(self, command: ScheduleCommand, *words: str) -> None:
        argv = [sys.executable, str(BESIDE_SCRIPT / "schedule.py"), "--config", str(command.config), "console", *words]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.text += line

    def end(self, timeout_s: float = 60) -> tuple[int, str]:
        """Its exit code, and what it said on stderr."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        assert self.process.stderr
        return code, self.process.stderr.read()


@contextlib.contextmanager
def following(command: ScheduleCommand, *words: str) -> Iterator[Follower]:
    follower = Follower(command, *words, "--follow")
    try:
        yield follower
    finally:
        follower.process.kill()
        follower.end()
        for pipe in (follower.process.stdout, follower.process.stderr):
            if pipe:
                pipe.close()


def test_the_last_lines_are_shown(command: ScheduleCommand, machine: FakeMachine, vm: str) -> None:
    write(machine, vm, b"one\r\ntwo\r\nlogin: ")
    assert command("console", "vm", "--lines", "2").out == "two\nlogin: "
    assert command("console", vm[:8]).out.endswith(f"{vm}: booting\none\ntwo\nlogin: ")
    assert command("console", "vm", "--lines", "0").out == ""


def test_more_than_fits_into_one_answer_comes_in_several(
    command: ScheduleCommand, machine: FakeMachine, vm: str
) -> None:
    lines = [f"line {number} {'🦆' * 20}" for number in range(1500)]
    text = "".join(f"{line}\r\n" for line in lines).encode()
    assert len(text) > 3 * PIECE_BYTES
    write(machine, vm, text)
    assert command("console", "vm", "--lines", "1500").out.splitlines() == lines


def test_the_worst_that_a_guest_can_write_fits_into_an_answer(
    command: ScheduleCommand, machine: FakeMachine, vm: str
) -> None:
    write(machine, vm, b"\0" * PIECE_BYTES + b"\xff" * PIECE_BYTES)
    told = command("console", "vm", "--lines", "64", "--raw")
    assert told.code == 0 and told.out.count("\0") + told.out.count("�") == 2 * PIECE_BYTES


def test_nothing_of_a_guests_steers_the_terminal_unless_it_is_asked_for(
    command: ScheduleCommand, machine: FakeMachine, vm: str
) -> None:
    write(machine, vm, b"\x1b]0;owned\x07\x1b[31mred\x1b[0m\x08\n")
    assert command("console", "vm", "--lines", "1").out == "red?\n"
    assert command("console", "vm", "--lines", "1", "--raw").out == "\x1b]0;owned\x07\x1b[31mred\x1b[0m\x08\n"


def test_nothing_is_left_of_the_asking(command: ScheduleCommand, cloud: TestCloud, node: Node, vm: str) -> None:
    command("console", "vm")
    assert cloud.store.scan(keys.operations(node.id)).entries == ()
    assert cloud.store.scan(keys.results(node.id)).entries == ()


def test_following_goes_on_until_the_instance_is_destroyed(
    command: ScheduleCommand, machine: FakeMachine, vm: str
) -> None:
    with following(command, "vm", "--lines", "1") as follower:
        until(lambda: follower.text == f"{vm}: booting\n", "it shows the last line")
        for number in range(3):
            write(machine, vm, f"line {number}\n".encode())
            until(lambda number=number: f"line {number}\n" in follower.text, "it shows what came since")  # type: ignore[misc]
        assert command("destroy", "vm").code == 0
        assert follower.end() == (0, "")
        assert follower.text == f"{vm}: booting\nline 0\nline 1\nline 2\n"


def test_following_ends_at_an_interrupt(command: ScheduleCommand, vm: str) -> None:
    with following(command, "vm") as follower:
        until(lambda: "booting" in follower.text, "it shows something")
        follower.process.send_signal(signal.SIGINT)
        assert follower.end() == (130, "schedule.py: interrupted\n")


def test_one_that_is_yet_to_start_says_so_and_following_waits_for_it(
    command: ScheduleCommand, machine: FakeMachine, node: Node
) -> None:
    with gated_http(machine.image) as server:
        instance = command(QUERY, server.url, "--name", "vm").out.split()[-1]
        until(lambda: server.asked, "its image is on its way")
        told = command("console", "vm")
        assert told.code == 4
        assert told.err.startswith(f"schedule.py: {instance} was never started: stage claimed for "), told
        with following(command, "vm") as follower:
            server.open.set()
            until(lambda: "booting\n" in follower.text, "it shows the first words")


def test_one_that_failed_before_it_ran_says_why(
    command: ScheduleCommand, machine: FakeMachine, cloud: TestCloud
) -> None:
    machine.fake = replace(machine.fake, fail={"start": 1.0})
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        command(QUERY, "--name", "vm")
        until(lambda: "failed at stage" in command("console", "vm").err, "it failed")
        told = command("console", "vm")
        assert (told.code, told.out) == (4, "") and "the fake driver fails here" in told.err


def test_a_silent_node_is_named_and_since_when(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        command.place("vm")
    for words in (["console", "vm"], ["console", "vm", "--follow"]):
        told = command(*words)
        assert told.code == 4 and "node n1, which has the console, is silent for " in told.err, told


def test_one_that_is_on_its_way_out_is_not_taken_for_one_that_is_yet_to_start(
    command: ScheduleCommand, machine: FakeMachine, node: Node, vm: str
) -> None:
    node.driver._config.fail["remove_disk.unreachable"] = 1.0  # type: ignore[attr-defined]
    assert command("destroy", "vm", "--wait-timeout", "0").code == 4
    until(lambda: vm not in machine.hypervisor.domains, "its domain is gone")
    told = command("console", "vm")
    assert told.code == 1 and f"{vm} is being destroyed" in told.err, told
    told = command("console", "vm", "--follow")
    assert (told.code, told.out, told.err) == (0, "", "")


def test_one_that_is_gone_has_none(command: ScheduleCommand, vm: str) -> None:
    command("destroy", "vm")
    told = command("console", vm)
    assert (told.code, told.err) == (1, f"schedule.py: {vm} was destroyed, and its console with it\n")
    assert command("console", "vm").code == 1


@pytest.mark.parametrize(
    ("words", "says"), [(("vm", "--lines", "-1"), "--lines"), (("vm", "--lines", "x"), "--lines"), ((), "INSTANCE")]
)
def test_wrong_words_are_exit_2(command: ScheduleCommand, words: tuple[str, ...], says: str) -> None:
    told = command("console", *words)
    assert told.code == 2 and says in told.err
