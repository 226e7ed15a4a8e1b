"""One lab for all fault tests. Whatever a test does, the cloud is whole and sound when it ends, or the test fails."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.faults.checker import SETTLED_S, Place, wait_until_sound
from tests.lab.lab import Lab, lab
from tests.lab.nodes import LabNode


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    with lab(nodes=2) as found:
        yield found


@pytest.fixture
def cloud(running_lab: Lab) -> Iterator[Lab]:
    """The lab; after the test, sound with what the test left in it, by doctor's word too, and then empty."""
    configs = [copy.deepcopy(node.config) for node in running_lab.nodes]
    yield running_lab
    heal_control(running_lab)
    for node, config in zip(running_lab.nodes, configs, strict=True):
        heal(node, config)
    sound(running_lab)
    healthy(running_lab)
    left = [row["uuid"] for row in json.loads(running_lab.schedule("list", "-f", "json").out)]
    if left:
        told = running_lab.schedule("destroy", *left)
        assert told.code == 0, told.err
        sound(running_lab)


@pytest.fixture
def first(cloud: Lab) -> LabNode:
    """The node that most tests ill-treat."""
    return cloud.nodes[0]


@pytest.fixture
def second(cloud: Lab) -> LabNode:
    """The other one."""
    return cloud.nodes[1]


def heal_control(cloud: Lab) -> None:
    """etcd and Placement as they were."""
    cloud.link.heal()
    for service in (cloud.control.etcd, cloud.control.placement):
        if service.running:
            service.resume()
        else:
            service.start()


def heal(node: LabNode, config: Mapping[str, Any]) -> None:
    """Its links and daemons as they were, with the agent's settings of before."""
    node.plug()
    node.link.heal()
    if node.host.libvirtd.running:
        node.host.resume_libvirtd()
    else:
        node.host.start_libvirtd()
    if node.agent_running:
        node.resume_agent()
    if node.agent_running and node.config != config:
        node.stop_agent()
    node.config = dict(config)
    if not node.agent_running:
        node.start_agent()
    node.wait_ready()


def restart(node: LabNode, **settings: object) -> None:
    """Stop its agent and start it with other settings; returns when it is ready."""
    node.stop_agent()
    node.start_agent(settings=settings)
    node.wait_ready()


def places(cloud: Lab) -> list[Place]:
    return [Place(node.uuid, node.host.uri, node.state_dir) for node in cloud.nodes]


def sound(cloud: Lab, timeout_s: float = SETTLED_S) -> None:
    """Wait until etcd, Placement, the hypervisors and the nodes' files agree."""
    wait_until_sound(cloud.store, cloud.placement_endpoint, places(cloud), timeout_s)


def healthy(cloud: Lab) -> None:
    """doctor has nothing to say."""
    told = cloud.schedule("doctor")
    assert told.code == 0, told.out + told.err
