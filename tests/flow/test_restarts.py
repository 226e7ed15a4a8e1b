"""Guests that end by themselves, and agents that start again and again."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from placet.compute_config import FakeConfig
from placet.lifecycle import Power, State
from placet.node import Node, build_node
from placet.placement import Placement
from placet.query import DISABLED_TRAIT
from placet.reconcile import MAX_RESTARTS
from placet.resources import Inventory
from tests.support.clouds import TestCloud
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine, until


def end(machine: FakeMachine, node: Node, instance: str, power: Power) -> None:
    """What a guest does by itself: it crashes, or powers itself off."""
    with machine.hypervisor.lock:
        machine.hypervisor.domains[instance].power = power
    node.driver._call_out(instance)  # type: ignore[attr-defined]


def events(command: ScheduleCommand, subject: str, what: str) -> list[str]:
    rows = json.loads(command("events", subject, "-f", "json").out)
    return [row["reason"] for row in rows if row["what"] == what]


def is_running(machine: FakeMachine, instance: str) -> bool:
    return machine.hypervisor.domains[instance].power is Power.RUNNING


def test_a_guest_that_crashed_is_an_error_by_default_and_not_started_again(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web")
    end(machine, node, instance, Power.CRASHED)
    until(lambda: cloud.instances.get(instance).state is State.ERROR, "ERROR")
    assert "guest-crashed" in events(command, "web", "fault")[0]
    assert not is_running(machine, instance) and events(command, "web", "restarted") == []
    assert cloud.held(instance), "an ERROR keeps its allocation"
    assert command("destroy", "web").code == 0


def test_on_failure_a_guest_comes_back_from_a_crash_but_stays_off_when_it_powered_off(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web", "--restart", "on-failure")
    end(machine, node, instance, Power.CRASHED)
    until(lambda: is_running(machine, instance), "it is started again")
    until(lambda: events(command, "web", "restarted"), "an event tells of it")
    assert events(command, "web", "restarted") == ["by its policy, 1 of at most 3 times of late"]
    end(machine, node, instance, Power.SHUTOFF)
    until(lambda: cloud.instances.get(instance).state is State.SHUTOFF, "SHUTOFF")
    assert not is_running(machine, instance)


def test_always_means_also_after_a_power_off_but_not_for_ever(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web", "--restart", "always")
    for number in range(1, MAX_RESTARTS + 1):
        end(machine, node, instance, Power.SHUTOFF if number % 2 else Power.CRASHED)
        until(lambda number=number: len(events(command, "web", "restarted")) == number, "restarted")  # type: ignore[misc]
        until(lambda: is_running(machine, instance), "it runs again")
    end(machine, node, instance, Power.CRASHED)
    until(lambda: cloud.instances.get(instance).state is State.ERROR, "it is given up")
    assert not is_running(machine, instance)
    assert "ended again and again" in events(command, "web", "fault")[0]
    assert len(events(command, "web", "restarted")) == MAX_RESTARTS


def test_an_agent_that_was_away_brings_back_what_crashed_meanwhile(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan("alive/").entries, "alive")
        instance = command.place("web", "--restart", "on-failure")
    end(machine, node, instance, Power.CRASHED)
    with machine.agent():
        until(lambda: is_running(machine, instance), "it is started again")


def test_a_hundred_restarts_are_one_provider_with_one_subnet(cloud: TestCloud, machine: FakeMachine) -> None:
    ids = set()
    for _ in range(100):
        node = build_node(machine.config, machine._choose)
        ids.add(node.id)
        node.retire()
    (provider,) = cloud.placement.providers()
    assert {provider.uuid} == ids
    assert len(cloud.store.scan("subnets/").entries) == 1
    assert DISABLED_TRAIT in cloud.placement.traits(provider.uuid)[0]
    assert len(cloud.store.scan("nodes/").entries) == 1, "its identity alone: none of them served"


def test_an_inventory_that_somebody_edits_meanwhile_is_read_again_not_written_over(
    cloud: TestCloud, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_node(machine.config, machine._choose).retire()
    (provider,) = cloud.placement.providers()
    put = Placement.put_inventories
    meddled: list[bool] = []

    def put_late(placement: Placement, uuid: str, inventories: dict[str, Inventory], generation: int) -> bool:
        if not meddled:
            found, current = placement.inventories(uuid)
            meddled.append(put(placement, uuid, {**found, "PCI_DEVICE": Inventory(2)}, current))
        return put(placement, uuid, inventories, generation)

    monkeypatch.setattr(Placement, "put_inventories", put_late)
    machine.vcpus += 1
    build_node(machine.config, machine._choose).retire()
    offered, _ = cloud.placement.inventories(provider.uuid)
    assert meddled == [True]
    assert offered["PCI_DEVICE"].total == 2 and offered["VCPU"].total == machine.vcpus


def test_traits_that_somebody_edits_meanwhile_are_read_again_not_written_over(
    cloud: TestCloud, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Placement.put_traits
    meddled: list[bool] = []

    def put_late(placement: Placement, uuid: str, traits: Iterable[str], generation: int) -> bool:
        if not meddled:
            found, current = placement.traits(uuid)
            meddled.append(put(placement, uuid, [*found, "STORAGE_DISK_SSD"], current))
        return put(placement, uuid, traits, generation)

    monkeypatch.setattr(Placement, "put_traits", put_late)
    machine.fake = FakeConfig()
    build_node(machine.config, machine._choose).retire()
    (provider,) = cloud.placement.providers()
    found, _ = cloud.placement.traits(provider.uuid)
    assert meddled == [True]
    assert {"STORAGE_DISK_SSD", "COMPUTE_NODE", DISABLED_TRAIT} <= found
