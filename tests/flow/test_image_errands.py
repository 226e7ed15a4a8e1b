"""Nodes that fetch images because somebody asks for it: meanwhile all else goes on, and whoever asked may go away."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from placet import keys, schema, wiring
from placet.config import BESIDE_SCRIPT
from placet.errand_records import Errand
from placet.model import ImageRecord, ImageRef, decode, encode
from placet.node import Node
from placet.node_records import Alive
from placet.store import Delete, Put
from tests.support.clouds import TestCloud
from tests.support.commands import QUERY, ScheduleCommand
from tests.support.gated_http import GatedHttp, gated_http
from tests.support.image_files import MIB, qcow2, sha256
from tests.support.nodes import FakeMachine, until


def assert_nobody_asks(cloud: TestCloud) -> None:
    left = [each.key for each in cloud.store.scan(keys.NODES).entries if "/operations/" in each.key]
    assert left == []


@pytest.fixture
def server(machine: FakeMachine) -> Iterator[GatedHttp]:
    with gated_http(qcow2(machine.state_dir / "far.qcow2", data=True)) as found:
        yield found


@contextlib.contextmanager
def agent_process(machine: FakeMachine, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """compute.py as a process, on that machine's directory."""
    path = directory / "compute.yaml"
    path.write_text(yaml.safe_dump(schema.plain(machine.config)))
    argv = [sys.executable, str(BESIDE_SCRIPT / "compute.py"), "--config", str(path)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def adding(cloud: TestCloud, source: str) -> Iterator[list[ImageRecord | Exception]]:
    """An `image add` under way in a thread, and what came of it."""
    outcome: list[ImageRecord | Exception] = []

    def add() -> None:
        try:
            outcome.append(wiring.images(cloud.store).add(ImageRecord("far", source), None, lambda *_: None))
        except Exception as problem:
            outcome.append(problem)

    thread = threading.Thread(target=add)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(120)


def test_a_download_under_way_holds_up_no_build_no_audit_and_no_console(
    command: ScheduleCommand, cloud: TestCloud, node: Node, server: GatedHttp
) -> None:
    with adding(cloud, server.url) as outcome:
        until(lambda: server.asked, "its node fetches it")
        command.place("vm")
        assert command("console", "vm").code == 0
        assert command("doctor").code == 0
        assert outcome == []
        server.open.set()
    (added,) = outcome
    assert isinstance(added, ImageRecord) and added.virtual_size == 64 * MIB


def test_builds_and_an_add_of_the_same_image_fetch_it_once(
    command: ScheduleCommand, cloud: TestCloud, node: Node, server: GatedHttp
) -> None:
    with adding(cloud, server.url) as outcome:
        until(lambda: server.asked, "its node fetches it")
        told = command(QUERY, server.url, "--count", "3", "--name", "vm")
        assert told.code == 0
        flights = node.agent._worker._fetches._images._flights
        until(lambda: [len(each.listeners) for each in tuple(flights.values())] == [1 + 3], "all wait for the same")
        server.open.set()
        until(lambda: command("ip", "vm-3").code == 0, "it is built")
    assert isinstance(outcome[0], ImageRecord) and server.asked == 1


def test_progress_is_told_as_long_as_it_takes(cloud: TestCloud, node: Node, server: GatedHttp) -> None:
    heard: list[tuple[str, str | None]] = []

    def hear(name: str, report: object) -> None:
        heard.append((name, getattr(report, "task", None)))
        if len(heard) == 3:
            server.open.set()

    wiring.images(cloud.store).add(ImageRecord("far", server.url), None, hear)
    assert len(heard) >= 3 and all(name == "n1" and task and task.startswith("image") for name, task in heard)


def test_a_download_under_way_holds_up_no_agents_end_and_the_next_goes_on(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, server: GatedHttp, tmp_path: Path
) -> None:
    with agent_process(machine, tmp_path) as first:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        with adding(cloud, server.url) as outcome:
            until(lambda: server.asked == 1, "its node fetches it")
            first.terminate()
            assert first.wait(60) == 0
            with agent_process(machine, tmp_path):
                until(lambda: server.asked == 2, "the next fetches it again")
                server.open.set()
                until(lambda: outcome, "it is added")
    assert isinstance(outcome[0], ImageRecord), outcome


def test_warming_has_every_node_that_is_alive_fetch_it(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, other_machine: FakeMachine
) -> None:
    with machine.agent(), other_machine.agent():
        until(lambda: len(cloud.store.scan(keys.ALIVE).entries) == 2, "both are alive")
        with gated_http(machine.image) as server:
            server.open.set()
            command("image", "add", "far", server.url, "--no-fetch")
            told = command("image", "warm", "far", "-f", "json")
            assert told.code == 0 and server.asked == 2
            rows = [(row["node"], row["image"], row["digest"]) for row in json.loads(told.out)]
            assert rows == [("n1", "here", sha256(machine.image)), ("n2", "here", sha256(machine.image))]
            assert command("image", "warm", "far", "--node", "n2").out.splitlines()[1].split()[:2] == ["n2", "here"]


def test_warming_names_each_node_that_has_not_got_it(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, other_machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        with other_machine.agent():
            until(lambda: len(cloud.store.scan(keys.ALIVE).entries) == 2, "both are alive")
            qcow2(machine.state_dir / "images" / "deb12.qcow2")  # on the first alone
            command("image", "add", "deb12", "deb12.qcow2", "--no-fetch")
            told = command("image", "warm", "deb12")
            assert told.code == 1 and "1 of 2 have not got deb12: node n2: image deb12.qcow2: no such file" in told.err
            rows = [line.split()[:3] for line in told.out.splitlines()[1:]]
            assert rows == [["n1", "here", "-"], ["n2", "missing", "image-not-found"]]
        told = command("image", "warm", "deb12", "--node", "n1", "--node", "n2")
        assert told.code == 1 and "1 of 2 have not got deb12: node n2 is not alive" in told.err


def test_warming_without_any_node_is_not_there_yet(command: ScheduleCommand) -> None:
    assert command("image", "warm", "mini").code == 4


def test_one_who_is_interrupted_leaves_no_question_behind(cloud: TestCloud, node: Node, server: GatedHttp) -> None:
    def interrupt(name: str, report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wiring.images(cloud.store).add(ImageRecord("far", server.url), None, interrupt)
    assert_nobody_asks(cloud)
    server.open.set()
    assert cloud.store.get(keys.image("far")) is None


def test_a_node_that_says_it_is_alive_and_does_nothing_is_given_up(
    command: ScheduleCommand, cloud: TestCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its agent is of another age, or hangs."""
    monkeypatch.setattr("placet.asking.ANSWER_S", 1.0)
    cloud.store.transact([], [Put(keys.alive("n"), encode(Alive("n", "n9", "", "", "fake", "qemu", 1.0)))])
    told = command("image", "add", "deb12", "/x.qcow2")
    assert told.code == 4 and "said nothing for" in told.err
    assert_nobody_asks(cloud)
    cloud.store.transact([], [Delete(keys.alive("n"))])


def test_what_is_asked_of_a_node_is_under_a_lease(cloud: TestCloud, node: Node, server: GatedHttp) -> None:
    seen: list[tuple[ImageRef | None, bool]] = []

    def look(name: str, report: object) -> None:
        (entry,) = cloud.store.scan(keys.operations(node.id)).entries
        seen.append((decode(Errand, entry.value, entry.key).image, entry.lease != 0))
        server.open.set()

    wiring.images(cloud.store).add(ImageRecord("far", server.url), None, look)
    assert seen[0] == (ImageRef(server.url), True)
