"""kill -9 of the agent at each named point of a build and of a destroy, with a real guest; then it is started again.

One guest goes through all points of its build, and one through all of its destroy: each start of the agent finds what
the kill at the point before has left.
"""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.faults.asking import domain_count, place, state
from tests.faults.conftest import sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode

KILLED = 128 + signal.SIGKILL
BUILD = [
    "build.spec-read",
    "build.status-written",
    "build.image-half-fetched",
    "build.disk-made",
    "build.domain-defined",
    "build.domain-started",
    "build.ip-seen",
    "build.ip-written",
]
DESTROY = [
    "destroy.asked",
    "destroy.domain-gone",
    "destroy.disk-gone",
    "destroy.allocation-gone",
    "destroy.keys-gone",
]


def start_to_die_at(node: LabNode, point: str) -> None:
    """Start the node's agent, to be killed when it gets to a point."""
    node.start_agent(env={"PLACET_FAILPOINT": point})


def fresh_image(cloud: Lab) -> str:
    """An image that no node has cached."""
    path = cloud.image.with_name(f"fresh-{len(list(cloud.image.parent.iterdir()))}.qcow2")
    shutil.copyfile(cloud.image, path)
    return str(path)


def test_a_build_that_is_killed_at_every_point_goes_on(cloud: Lab, first: LabNode) -> None:
    first.stop_agent()
    start_to_die_at(first, BUILD[0])
    first.wait_ready()
    instance = place(cloud, first, "--image", fresh_image(cloud))
    for following in BUILD[1:]:
        assert first.wait_agent_exit() == KILLED, f"the point before {following} was reached"
        start_to_die_at(first, following)
    assert first.wait_agent_exit() == KILLED
    first.start_agent()
    sound(cloud)
    assert state(cloud, instance) == "ACTIVE"
    assert domain_count(cloud, instance) == 1


def test_a_destroy_that_is_killed_at_every_point_goes_on(cloud: Lab, first: LabNode) -> None:
    instance = place(cloud, first, "--wait")
    assert domain_count(cloud, instance) == 1
    first.stop_agent()
    start_to_die_at(first, DESTROY[0])
    first.wait_ready()
    told = cloud.schedule("destroy", instance, "--wait-timeout", "1")
    assert told.code == 4, told
    for following in DESTROY[1:]:
        assert first.wait_agent_exit() == KILLED, f"the point before {following} was reached"
        start_to_die_at(first, following)
    assert first.wait_agent_exit() == KILLED
    first.start_agent()
    sound(cloud)
    assert domain_count(cloud, instance) == 0
    assert cloud.schedule("destroy", instance).code == 0, "it is gone, and says so"


@pytest.mark.parametrize("point", ["build.disk-made", "build.domain-started"])
def test_a_destroy_wins_over_a_build_whose_node_is_down(cloud: Lab, first: LabNode, point: str) -> None:
    first.stop_agent()
    start_to_die_at(first, point)
    first.wait_ready()
    instance = place(cloud, first)
    assert first.wait_agent_exit() == KILLED
    assert cloud.schedule("destroy", instance, "--wait-timeout", "0.5").code == 4
    first.start_agent()
    sound(cloud)
    assert domain_count(cloud, instance) == 0
    assert cloud.schedule("ip", instance).code == 1
