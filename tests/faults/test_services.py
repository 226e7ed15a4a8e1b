"""Placement and etcd are killed, stand still, answer nonsense; the way to them is cut, silent, slow, unplugged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from placet.resources import Inventory
from tests.faults.asking import QUERY, domain_count, on, place, schedule_by, shown, state, status
from tests.faults.conftest import restart, sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import Told
from tests.support.faulty_http import FaultyHttp, Rule, faulty_http
from tests.support.nodes import until

CONCURRENT = "placement.concurrent_update"
NOTICED_S = 120.0
NOTICED = ("event=watch-lost", "event=heartbeat-failed", "event=retry")


def when_noticed(node: LabNode, do: Callable[[], object]) -> None:
    """Do something to the node's services, and wait until its agent complains."""
    before = len(node.agent_log)
    do()
    until(lambda: any(event in node.agent_log[before:] for event in NOTICED), f"{node.name} complains", NOTICED_S)


def is_one_line(told: Told, *codes: int) -> bool:
    return told.code in codes and told.err.count("\n") == 1


def test_placement_may_die_under_a_build_and_a_destroy(cloud: Lab, first: LabNode) -> None:
    going = place(cloud, first, "--wait")
    coming = place(cloud, first)
    cloud.control.placement.kill()
    assert is_one_line(cloud.schedule("destroy", going, "--wait-timeout", "0"), 4)
    until(
        lambda: "Placement" in str(status(cloud, first, going).get("task")),
        "the node says what it waits for",
        NOTICED_S,
    )
    told = cloud.schedule("destroy", going, "--wait-timeout", "0")
    assert is_one_line(told, 4) and "Placement" in told.err, told
    told = cloud.schedule(on(first))
    assert is_one_line(told, 1) and "is not reachable" in told.err, told
    cloud.control.placement.start()
    sound(cloud)
    assert (domain_count(cloud, coming), domain_count(cloud, going)) == (1, 0)


def test_placement_may_stand_still_under_a_build_and_a_destroy(cloud: Lab, first: LabNode, tmp_path: Path) -> None:
    restart(first, placement={**first.config["placement"], "timeout_s": 2})
    going = place(cloud, first, "--wait")
    coming = place(cloud, first)
    cloud.control.placement.pause()
    told = cloud.schedule("destroy", going, "--wait-timeout", "1")
    assert is_one_line(told, 4), told
    told = schedule_by(cloud, tmp_path / "schedule.yaml", on(first), timeout_s=1)
    assert is_one_line(told, 1) and "did not answer within 1 s" in told.err, told
    until(lambda: "did not answer within 2 s" in first.agent_log, "the node complains", NOTICED_S)
    cloud.control.placement.resume()
    sound(cloud)
    assert (domain_count(cloud, coming), domain_count(cloud, going)) == (1, 0)


@pytest.fixture
def proxy(cloud: Lab) -> Iterator[FaultyHttp]:
    with faulty_http(cloud.placement_endpoint) as found:
        yield found


@pytest.mark.parametrize(
    "rule",
    [
        Rule("PUT", "/allocations/.*", 500),
        Rule("PUT", "/allocations/.*", 500, applied=True),
        Rule("PUT", "/allocations/.*", 409, times=2, code=CONCURRENT),
    ],
    ids=["500, not claimed", "500, claimed", "409, concurrent"],
)
def test_an_unclear_answer_to_a_claim_is_settled(cloud: Lab, proxy: FaultyHttp, tmp_path: Path, rule: Rule) -> None:
    proxy.inject(rule)
    instance = new_uuid()
    words = [QUERY, "--uuid", instance]
    told = schedule_by(cloud, tmp_path / "schedule.yaml", *words, endpoint=proxy.endpoint)
    assert (told.code, told.err, proxy.pending) == (0, "", 0), told
    held = TestCloud.make(cloud.store, cloud.placement_endpoint).held(instance)
    assert list(held) == [shown(cloud, instance)["node_uuid"]]


@pytest.mark.parametrize(
    "rule",
    [
        Rule("GET", "/allocation_candidates", 503),
        Rule("PUT", "/allocations/.*", 500, times=99, applied=True),
        Rule("PUT", "/allocations/.*", 403, times=99),
    ],
    ids=["no candidates", "every claim", "refused"],
)
def test_what_cannot_be_settled_is_one_line_and_leaks_nothing(
    cloud: Lab, proxy: FaultyHttp, tmp_path: Path, rule: Rule
) -> None:
    proxy.inject(rule)
    instance = new_uuid()
    told = schedule_by(cloud, tmp_path / "schedule.yaml", QUERY, "--uuid", instance, endpoint=proxy.endpoint)
    assert told.code == 1 and told.out == "" and told.err.splitlines()[-1].startswith("schedule.py: "), told


def test_etcd_may_die_under_a_build_and_a_destroy(cloud: Lab, first: LabNode) -> None:
    going = place(cloud, first, "--wait")
    coming = place(cloud, first)
    assert cloud.schedule("destroy", going, "--wait-timeout", "0").code in (0, 4)
    cloud.control.etcd.kill()
    told = cloud.schedule("list")
    assert is_one_line(told, 1) and "etcd" in told.err, told
    cloud.control.etcd.start()
    sound(cloud)
    assert (domain_count(cloud, coming), domain_count(cloud, going)) == (1, 0)


def test_etcd_may_stand_still_under_a_build_and_a_destroy(cloud: Lab, first: LabNode) -> None:
    going = place(cloud, first, "--wait")
    coming = place(cloud, first)
    assert cloud.schedule("destroy", going, "--wait-timeout", "0").code in (0, 4)
    when_noticed(first, cloud.control.etcd.pause)
    cloud.control.etcd.resume()
    sound(cloud)
    assert (domain_count(cloud, coming), domain_count(cloud, going)) == (1, 0)
    assert state(cloud, coming) == "ACTIVE"


LINKS: list[dict[str, Callable[[LabNode], None]]] = [
    {"cut": lambda node: node.link.cut(), "silent": lambda node: node.link.silence()},
    {"unplugged": LabNode.unplug, "slow": lambda node: node.link.delay(0.3)},
]


@pytest.mark.parametrize("disturbances", LINKS, ids=" and ".join)
def test_a_nodes_way_to_its_services_may_break_and_heal(
    cloud: Lab, disturbances: dict[str, Callable[[LabNode], None]]
) -> None:
    """Each node's in another way. One is being built then, one placed and one destroyed while it is so."""
    building = [place(cloud, node) for node in cloud.nodes]
    for node, (kind, disturb) in zip(cloud.nodes, disturbances.items(), strict=True):
        if kind == "slow":
            disturb(node)
        else:
            when_noticed(node, lambda node=node, disturb=disturb: disturb(node))  # type: ignore[misc]
    for instance in building:
        assert cloud.schedule("destroy", instance, "--wait-timeout", "0").code in (0, 4)
    coming = [instance for node in cloud.nodes for instance in placed_if_alive(cloud, node)]
    for node in cloud.nodes:
        node.link.heal()
        node.plug()
    sound(cloud)
    assert [domain_count(cloud, instance) for instance in building] == [0] * len(building)
    assert [state(cloud, instance) for instance in coming] == ["ACTIVE"] * len(coming)


def placed_if_alive(cloud: Lab, node: LabNode) -> list[str]:
    """An instance on a node whose lease has not ended yet; none if it has."""
    instance = new_uuid()
    told = cloud.schedule(on(node), "--uuid", instance)
    assert told.code == 0 or is_one_line(told, 3), told
    return [instance] if told.code == 0 else []


def test_what_others_offer_at_a_node_is_kept_when_it_registers_again(cloud: Lab, first: LabNode) -> None:
    """Its own classes are its own word: those are as before."""
    placement = TestCloud.make(cloud.store, cloud.placement_endpoint).placement
    placement._send("PUT", "/resource_classes/CUSTOM_LICENCE")
    own, generation = placement.inventories(first.uuid)
    bent = {**own, "CUSTOM_LICENCE": Inventory(7), "VCPU": Inventory(own["VCPU"].total, 1, 1.0)}
    assert placement.put_inventories(first.uuid, bent, generation)
    restart(first)
    found, generation = placement.inventories(first.uuid)
    assert found["CUSTOM_LICENCE"].total == 7
    assert {name: found[name] for name in own} == own
    assert placement.put_inventories(first.uuid, own, generation)
