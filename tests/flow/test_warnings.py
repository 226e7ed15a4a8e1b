"""Guests that run and do not come as far as their image promises in time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from placet import keys
from placet.compute_config import FakeConfig
from placet.lifecycle import Power, Stage, State
from placet.model import ImageRecord, decode, encode
from placet.node import Node
from placet.store import Put
from tests.support.clouds import TestCloud
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine, until

SOON_S = 0.3
QUERY = "resources=VCPU:1,MEMORY_MB:64,DISK_GB:1"


@pytest.fixture
def machine(machine: FakeMachine) -> FakeMachine:
    """Its guests boot when the test says so."""
    machine.fake = FakeConfig(boot_s=3600)
    return machine


@pytest.fixture
def impatient(cloud: TestCloud, command: ScheduleCommand) -> None:
    """The image says that an IP is there soon."""
    entry = cloud.store.get(keys.image("mini"))
    assert entry is not None
    record = replace(decode(ImageRecord, entry.value, entry.key), properties={"deadline_ip": str(SOON_S)})
    cloud.store.transact([], [Put(entry.key, encode(record))])


def place(command: ScheduleCommand) -> str:
    told = command("create", QUERY, "mini", "--name", "web")
    assert told.code == 0, told.err
    return told.out.split("INSTANCE ")[1][:36]


def boot(machine: FakeMachine, node: Node, instance: str) -> None:
    with machine.hypervisor.lock:
        domain = machine.hypervisor.domains[instance]
        domain.booted_at = domain.agent_at = 0.0
    node.driver._call_out(instance)  # type: ignore[attr-defined]


def warning_of(cloud: TestCloud, instance: str) -> str | None:
    status = cloud.instances.get(instance).status
    return status.warning if status else None


def warnings_told(command: ScheduleCommand) -> list[str]:
    rows = json.loads(command("events", "web", "-f", "json").out)
    return [row["reason"] for row in rows if row["what"] == "warning"]


def test_one_that_is_late_stays_active_and_its_warning_is_shown_until_it_comes(
    cloud: TestCloud, command: ScheduleCommand, machine: FakeMachine, node: Node, impatient: None
) -> None:
    instance = place(command)
    until(lambda: warning_of(cloud, instance), "a warning")

    shown = json.loads(command("show", "web", "-f", "json").out)
    expected = f"no ip after {SOON_S:g} s; the console's last lines: {instance}: on | {instance}: booting"
    assert (shown["state"], shown["stage"], shown["warning"]) == ("ACTIVE", "started", expected)
    assert command("list").err == f"web: no ip after {SOON_S:g} s; see `show`\n"
    assert warnings_told(command) == [expected]

    boot(machine, node, instance)
    until(lambda: cloud.instances.get(instance).stage is Stage.AGENT, "it is up")
    assert warning_of(cloud, instance) is None
    assert command("list").err == ""


def test_an_agent_that_starts_later_watches_the_same_deadline(
    cloud: TestCloud, command: ScheduleCommand, machine: FakeMachine, impatient: None
) -> None:
    with machine.agent() as first:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        instance = place(command)
        until(lambda: cloud.instances.get(instance).state is State.ACTIVE, "it runs")
        machine.die(first)
    with machine.agent():
        until(lambda: warning_of(cloud, instance), "a warning")


def test_after_a_new_start_of_its_domain_the_deadline_counts_from_there(
    cloud: TestCloud, command: ScheduleCommand, machine: FakeMachine, node: Node, impatient: None
) -> None:
    instance = place(command)
    until(lambda: cloud.instances.get(instance).state is State.ACTIVE, "it runs")
    boot(machine, node, instance)
    until(lambda: cloud.instances.get(instance).stage is Stage.AGENT, "it is up")

    node.driver.stop(instance)
    until(lambda: cloud.instances.get(instance).state is State.SHUTOFF, "it is off")
    node.driver.start(instance)
    until(lambda: warning_of(cloud, instance), "a warning")

    status = cloud.instances.get(instance).status
    assert status is not None and (status.power, status.stage) == (Power.RUNNING, Stage.STARTED)
