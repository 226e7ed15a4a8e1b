"""A node falls silent: nothing is placed there, nothing restarted elsewhere; it can be given up, and come back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.faults.asking import domain_count, has_domain, is_alive, on, place, qemu_pid, shown, state
from tests.faults.conftest import restart, sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud
from tests.support.nodes import until

LEASE_S = 9  # not less: a busy machine may keep an agent from its heartbeat for seconds


def kill_and_unplug(node: LabNode) -> None:
    node.kill_agent()
    node.unplug()


def plug_and_start(node: LabNode) -> None:
    node.plug()
    node.start_agent()


DEATHS: dict[str, tuple[Callable[[LabNode], None], Callable[[LabNode], None]]] = {
    "killed and unplugged": (kill_and_unplug, plug_and_start),
    "paused": (LabNode.pause_agent, LabNode.resume_agent),
}


@pytest.fixture
def mortal(first: LabNode) -> LabNode:
    """A node whose silence is noticed soon."""
    restart(first, lease_ttl_s=LEASE_S)
    return first


def node_row(cloud: Lab, node: LabNode) -> dict[str, object]:
    rows = json.loads(cloud.schedule("nodes", "-f", "json").out)
    return dict(next(row for row in rows if row["uuid"] == node.uuid))


@pytest.mark.parametrize("death", DEATHS)
def test_a_silent_nodes_instance_is_given_up_and_placed_elsewhere_under_its_uuid(
    cloud: Lab, mortal: LabNode, second: LabNode, death: str
) -> None:
    die, return_to_life = DEATHS[death]
    instance = place(cloud, mortal, "--name", "web", "--wait")
    pid = qemu_pid(instance)
    authorities = TestCloud.make(cloud.store, cloud.placement_endpoint)
    die(mortal)
    until(lambda: not is_alive(cloud, mortal), "its lease ends")

    told = cloud.schedule(on(mortal))
    assert (told.code, told.out, told.err.count("\n")) == (3, "NO ALLOCATIONS LEFT\n", 1), told
    row = node_row(cloud, mortal)
    assert row["state"] == "down" and row["since"], row
    assert state(cloud, instance) == "UNKNOWN"
    assert qemu_pid(instance) == pid and not has_domain(second, instance), "it is left alone, and not restarted"
    told = cloud.schedule("destroy", instance, "--wait-timeout", "1")
    assert told.code == 4 and "goes when its node" in told.err and "--force" in told.err, told

    told = cloud.schedule("destroy", "--force", instance)
    assert (told.code, authorities.held(instance)) == (0, {}), told
    place(cloud, second, "--name", "web", "--wait", uuid=instance)
    held = authorities.held(instance)
    assert list(held) == [second.uuid]

    return_to_life(mortal)
    until(lambda: is_alive(cloud, mortal), "it is back")
    until(lambda: not has_domain(mortal, instance), "it removes what was given up")
    sound(cloud)
    assert domain_count(cloud, instance) == 1
    assert authorities.held(instance) == held
    assert shown(cloud, "web")["node_uuid"] == second.uuid


def test_a_lost_node_is_forgotten_and_registers_anew(cloud: Lab, mortal: LabNode) -> None:
    instance = place(cloud, mortal, "--wait")
    authorities = TestCloud.make(cloud.store, cloud.placement_endpoint)
    told = cloud.schedule("node", "forget", mortal.name)
    assert (told.code, told.err.count("\n")) == (5, 1) and "is alive" in told.err, told
    kill_and_unplug(mortal)
    until(lambda: not is_alive(cloud, mortal), "its lease ends")
    told = cloud.schedule("node", "forget", mortal.name)
    assert told.code == 5 and instance in told.err, "it still has an instance"
    assert cloud.schedule("destroy", "--force", instance).code == 0
    assert cloud.schedule("node", "forget", mortal.name).code == 0
    assert mortal.uuid not in cloud.schedule("nodes", "-f", "json").out
    assert authorities.placement.provider(mortal.uuid) is None
    assert cloud.schedule(on(mortal)).code == 3

    plug_and_start(mortal)
    mortal.wait_ready()
    assert node_row(cloud, mortal)["state"] == "up"
    assert not has_domain(mortal, instance), "what was given up goes before the node is alive"
    sound(cloud)
    again = place(cloud, mortal, "--wait")
    assert domain_count(cloud, again) == 1
