"""What guests publish of themselves, from the node's files through etcd to `show` and `--wait-for ready`."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from md_server.messages import Request
from md_server.publishing import Publishing
from placet import keys
from placet.errors import NotYet
from placet.guest_records import PublishedFiles
from placet.lifecycle import Stage
from placet.node import Node
from placet.store import Delete
from tests.support.clouds import TestCloud
from tests.support.commands import QUERY, ScheduleCommand
from tests.support.nodes import PATIENCE_S, FakeMachine, until

UUID = "5d0a3a9e-0000-4000-8000-000000000001"


class Guest:
    """What the metadata service does for one guest of a machine."""

    def __init__(self, machine: FakeMachine, instance: str) -> None:
        self._instance = instance
        self._files = PublishedFiles(machine.state_dir / "published")
        self._publishing = Publishing(self._files, time.time)

    def say(self, *place: str, value: str | None = "", method: str = "PUT") -> None:
        request = Request("198.19.0.2", method, "", {}, (value or "").encode())
        assert self._publishing.answer(self._instance, request, place).status == 200

    @property
    def has_said(self) -> bool:
        return self._instance in self._files.instances()


@pytest.fixture
def instance(command: ScheduleCommand, node: Node) -> str:
    return command.place("web", "--uuid", UUID)


@pytest.fixture
def guest(machine: FakeMachine, instance: str) -> Guest:
    return Guest(machine, instance)


def shown(command: ScheduleCommand) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("show", UUID, "-f", "json").out)
    return found


def key_of(node: Node) -> str:
    return keys.published(node.id, UUID)


def test_what_a_guest_publishes_is_shown_and_changes_with_it(command: ScheduleCommand, guest: Guest) -> None:
    assert (shown(command)["ready_at"], shown(command)["data"]) == (None, {})

    guest.say("data", "url", value="http://198.19.0.2/")
    guest.say("data", "state", value="busy")
    until(lambda: shown(command)["data"] == {"url": "http://198.19.0.2/", "state": "busy"}, "it is shown")
    guest.say("data", "state", value="idle")
    guest.say("data", "url", method="DELETE")
    until(lambda: shown(command)["data"] == {"state": "idle"}, "it is shown as it is now")
    assert "ready" not in shown(command)["stages"], "to publish something is not to be ready"


def test_a_guest_that_says_it_is_ready_has_reached_that_stage(
    command: ScheduleCommand, cloud: TestCloud, guest: Guest
) -> None:
    with pytest.raises(NotYet, match=f"{UUID} is not ready yet: at stage "):
        cloud.instances.wait_for(UUID, Stage.READY, 0.0)
    guest.say("data", "state", value="idle")
    guest.say("ready")

    status = cloud.instances.wait_for(UUID, Stage.READY, PATIENCE_S)

    assert status.stage is Stage.READY
    told = shown(command)
    assert (told["stage"], told["data"]) == ("ready", {"state": "idle"}), "what it said before is there by then"
    assert told["ready_at"] is not None and told["stages"]["ready"] >= told["stages"]["ip"]
    assert "ready" in [row["reason"] for row in json.loads(command("events", "web", "-f", "json").out)]


def test_create_waits_until_the_guest_is_ready(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    def boot() -> None:
        until(lambda: any(each.ip for each in cloud.instances.all()), "it has its IP")
        Guest(machine, UUID).say("ready")

    with ThreadPoolExecutor() as pool:
        booted = pool.submit(boot)
        told = command("create", QUERY, "--uuid", UUID, "--wait-for", "ready", "--wait-timeout", "60")
        booted.result()
    assert (told.code, told.out.splitlines()[-1]) == (0, shown(command)["ip"])
    assert shown(command)["stage"] == "ready"


def test_what_comes_from_a_guest_steers_no_terminal(command: ScheduleCommand, guest: Guest) -> None:
    guest.say("data", "title", value="\x1b]0;gotcha\x07")
    until(lambda: shown(command)["data"], "it is shown")
    for form in ("table", "csv", "value", "yaml", "json"):
        assert "\x1b" not in command("show", UUID, "-f", form).out


def test_what_was_published_while_no_agent_ran_is_taken_up_at_its_start(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        command.place("web", "--uuid", UUID)
    Guest(machine, UUID).say("ready")
    with machine.agent():
        cloud.instances.wait_for(UUID, Stage.READY, PATIENCE_S)


def test_a_key_that_somebody_deleted_comes_back_with_the_next_look(cloud: TestCloud, node: Node, guest: Guest) -> None:
    guest.say("data", "a", value="b")
    until(lambda: cloud.store.get(key_of(node)), "it is in etcd")
    cloud.store.transact([], [Delete(key_of(node))])
    node.queue.add(UUID)
    until(lambda: cloud.store.get(key_of(node)), "it is there again")


def test_it_goes_with_the_instance_and_is_nothing_to_the_next_of_its_uuid(
    command: ScheduleCommand, cloud: TestCloud, node: Node, guest: Guest
) -> None:
    guest.say("ready")
    cloud.instances.wait_for(UUID, Stage.READY, PATIENCE_S)
    assert command("destroy", UUID).code == 0
    assert cloud.store.scan(keys.PUBLISHED).entries == () and not guest.has_said
    guest.say("data", "late", value="of one that is gone")
    until(lambda: not guest.has_said, "it is thrown away")

    command.place("web", "--uuid", UUID)

    told = shown(command)
    assert (told["ready_at"], told["data"], "ready" in told["stages"]) == (None, {}, False)
    assert command.doctor() == (0, [])


def test_a_node_that_is_forgotten_leaves_nothing_of_it(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        command.place("web", "--uuid", UUID)
        Guest(machine, UUID).say("ready")
        cloud.instances.wait_for(UUID, Stage.READY, PATIENCE_S)
        machine.die(node)
    assert command("destroy", UUID, "--force").code == 0
    assert command("node", "forget", "n1").code == 0
    assert cloud.store.scan(keys.PUBLISHED).entries == ()
