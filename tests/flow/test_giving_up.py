"""Nodes that are drained, die, are given up with what runs there, are forgotten, and come back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.errors import NothingFits
from placet.lifecycle import Power, Stage, State
from placet.model import ImageRef
from placet.node import Node
from placet.placement import Allocation
from placet.query import DISABLED_TRAIT
from placet.request import Request
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.commands import QUERY, ScheduleCommand
from tests.support.nodes import PATIENCE_S, FakeMachine, until


def wish(machine: FakeMachine, instance: str | None = None) -> Request:
    return replace(request(instance=instance), image=ImageRef(str(machine.image)))


def place_and_die(cloud: TestCloud, machine: FakeMachine, lease_ends: bool = True) -> tuple[str, str]:
    """A node with one instance, which has died: the UUIDs of both."""
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.AGENT, PATIENCE_S)
        until(machine.is_audited, "its first audit")
        machine.die(node, lease_ends)
    return node.id, asked.instance


def test_nothing_is_placed_on_a_dead_node_once_its_lease_has_ended(cloud: TestCloud, machine: FakeMachine) -> None:
    node, _ = place_and_die(cloud, machine, lease_ends=False)
    assert cloud.store.get(keys.alive(node)), "nobody said goodbye"
    assert DISABLED_TRAIT not in cloud.placement.traits(node)[0], "Placement still offers it"
    until(lambda: not cloud.store.get(keys.alive(node)), "its lease ends by itself")
    asked = wish(machine)
    with pytest.raises(NothingFits, match="1 down"):
        cloud.scheduler().create(asked)
    assert cloud.leftovers(asked.instance) == []


def test_what_was_on_a_dead_node_is_unknown_and_says_since_when(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    node, instance = place_and_die(cloud, machine)
    seen = cloud.instances.get(instance).unknown_since
    (row,) = json.loads(command("list", "-f", "json").out)
    shown = json.loads(command("show", instance, "-f", "json").out)
    (of_node,) = json.loads(command("nodes", "-f", "json").out)
    assert (row["state"], row["node"]) == (shown["state"], shown["node"]) == ("UNKNOWN", "n1")
    assert seen and row["unknown_since"] == shown["unknown_since"] >= of_node["since_at"]
    assert shown["unknown_since"] >= shown["created_at"]
    assert "UNKNOWN_FOR" in command("list").out
    assert (of_node["state"], of_node["uuid"]) == ("down", node)
    with machine.agent():
        until(lambda: cloud.instances.get(instance).state is State.ACTIVE, "it is ACTIVE again")
        assert json.loads(command("show", instance, "-f", "json").out)["unknown_since"] is None
        assert "UNKNOWN_FOR" not in command("list").out


def test_force_is_refused_while_the_node_is_alive(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web")
    told = command("destroy", "--force", "web")
    assert told.code == 5 and "is alive and can destroy" in told.err
    assert cloud.store.get(keys.destroy(node.id, instance)) is None
    assert machine.hypervisor.domains[instance].power is Power.RUNNING


def test_force_frees_at_once_what_a_dead_node_held_and_can_be_repeated(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    node, instance = place_and_die(cloud, machine)
    waiting = command("destroy", instance, "--wait-timeout", "0.1")
    assert waiting.code == 4 and "add --force" in waiting.err
    assert command("destroy", "--force", instance).code == 0
    assert cloud.held(instance) == {}
    assert json.loads(command("list", "-f", "json").out) == []
    assert cloud.instances.get(instance).state is State.DELETED
    for words in (["destroy", "--force", instance], ["destroy", instance]):
        told = command(*words)
        assert (told.code, told.err) == (0, f"{instance} was gone already\n")
    assert cloud.store.get(keys.destroy(node, instance)), "the destroy stays for the node"
    assert command.doctor() == (0, [])


def test_force_of_what_never_was_is_an_error(command: ScheduleCommand, cloud: TestCloud) -> None:
    assert command("destroy", "--force", new_uuid()).code == 1


def test_a_node_that_returns_removes_what_was_given_up_and_frees_nothing_that_is_anew_elsewhere(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, other_machine: FakeMachine
) -> None:
    old_node, instance = place_and_die(cloud, machine)
    assert command("destroy", "--force", instance).code == 0
    with other_machine.agent() as elsewhere:
        until(lambda: cloud.store.get(keys.alive(elsewhere.id)), "the other is alive")
        cloud.scheduler().create(wish(other_machine, instance))
        cloud.instances.wait_for(instance, Stage.IP, PATIENCE_S)
        held = cloud.held(instance)
        assert set(held) == {elsewhere.id}
        assert machine.hypervisor.domains[instance].power is Power.RUNNING, "the old one runs on a dead node"
        with machine.agent():
            until(lambda: cloud.store.get(keys.alive(old_node)), "the node is back")
            assert machine.hypervisor.domains == {} and machine.hypervisor.disks == set()
            assert cloud.held(instance) == held
            assert cloud.instances.get(instance).state is State.ACTIVE
            assert command.doctor() == (0, [])
            assert command("destroy", instance).code == 0
            assert cloud.held(instance) == {}


def test_a_release_of_what_one_node_holds_never_takes_what_went_to_another_meanwhile(
    cloud: TestCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, instance = cloud.add_node("n1"), cloud.add_node("n2"), new_uuid()
    assert cloud.claims.claim(instance, candidate_on(one))
    release = cloud.placement.release

    def release_late(consumer: str, held: Allocation) -> bool:
        monkeypatch.undo()
        assert cloud.claims.claim(instance, candidate_on(other))
        return release(consumer, held)

    monkeypatch.setattr(cloud.placement, "release", release_late)
    cloud.claims.release(instance, one)
    assert cloud.placement.release == release, "it came to that"
    assert set(cloud.held(instance)) == {other}
    cloud.claims.release(instance, other)
    assert cloud.held(instance) == {}


def candidate_on(node: str) -> Candidate:
    return Candidate({node: {"VCPU": 1}}, {"": [node]}, {})


def test_a_node_is_forgotten_only_when_it_is_dead_and_nothing_there_is_wanted(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        instance = command.place("web")
        refused = command("node", "forget", "n1")
        assert refused.code == 5 and "is alive; stop its agent first" in refused.err
        machine.die(node)
    refused = command("node", "forget", "n1")
    assert refused.code == 5 and instance in refused.err and "destroy --force" in refused.err
    assert command("destroy", "--force", "web").code == 0
    assert command("node", "forget", "n1").code == 0
    assert cloud.placement.providers() == []
    assert json.loads(command("nodes", "-f", "json").out) == []
    left = [entry.key for entry in cloud.store.scan("").entries if node.id in entry.key]
    assert [key for key in left if not key.startswith(keys.EVENTS)] == [keys.destroy(node.id, instance)]
    assert cloud.store.scan(keys.SUBNETS).entries == ()
    assert command("node", "forget", "n1").code == 1
    assert command.doctor() == (0, [])


def test_a_forgotten_node_that_returns_carries_out_its_destroys_and_serves_again(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    node, instance = place_and_die(cloud, machine)
    assert command("destroy", "--force", instance).code == 0
    assert command("node", "forget", node).code == 0
    assert machine.hypervisor.domains[instance].power is Power.RUNNING
    with machine.agent():
        until(lambda: cloud.store.get(keys.alive(node)), "alive")
        assert machine.hypervisor.domains == {}
        assert cloud.store.get(keys.destroy(node, instance)) is None
        assert command.place("web")
        assert command.doctor() == (0, [])


def test_a_leak_on_a_dead_node_does_not_keep_it_from_being_forgotten_but_anothers_claim_does(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(machine.is_audited, "its first audit")
        machine.die(node)
    leaked, theirs = new_uuid(), new_uuid()
    assert cloud.claims.claim(leaked, candidate_on(node.id))
    cloud.placement.claim(theirs, candidate_on(node.id), new_uuid(), None)
    refused = command("node", "forget", "n1")
    assert refused.code == 5 and theirs in refused.err
    assert json.loads(command("nodes", "-f", "json").out)[0]["uuid"] == node.id, "it is still known"
    cloud.placement.release(theirs, cloud.placement.allocation(theirs))
    assert command("node", "forget", "n1").code == 0
    assert cloud.held(leaked) == {} and cloud.placement.providers() == []


def test_a_drained_node_gets_nothing_new_over_a_restart_until_it_is_undrained(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        instance = command.place("web")
        assert command("node", "drain", "n1").err == ""
        assert command("node", "drain", node.id).err == f"{node.id} was drained already\n"
        assert machine.hypervisor.domains[instance].power is Power.RUNNING
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        assert command("nodes", "-f", "value", "-c", "state").out == "drained\n"
        refused = command("create", QUERY)
        assert (refused.code, refused.out) == (3, "NO ALLOCATIONS LEFT\n") and "drained" in refused.err
        assert command.doctor() == (0, []), "a drain is no disagreement"
        assert command("node", "undrain", "n1").err == ""
        assert command("node", "undrain", "n1").err == "n1 was not drained\n"
        assert command.place("db")
        told = [row["what"] for row in json.loads(command("events", "n1", "-f", "json").out)]
        assert [what for what in told if what in ("drained", "undrained")] == ["drained", "undrained"]


@pytest.mark.parametrize("doing", ["drain", "undrain", "forget"])
def test_a_node_that_is_not_there_is_told(command: ScheduleCommand, cloud: TestCloud, doing: str) -> None:
    told = command("node", doing, "n9")
    assert told.code == 1 and "no node 'n9'" in told.err
