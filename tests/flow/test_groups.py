"""Instances that are placed with regard to each other: what fifty schedulers at once cannot break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from placet import keys
from placet.errors import Conflict, NothingFits, NotYet, PlacetError, Usage
from placet.model import Group, Index, Mark, decode, encode
from placet.placing import Placed
from placet.request import Request
from placet.store import Delete, Put
from tests.support.clouds import TestCloud, request

LITTLE = "resources=VCPU:1,MEMORY_MB:64,DISK_GB:1"


def member(policy: str | None, group: str = "web", query: str = LITTLE) -> Request:
    return replace(request(query), group=group, group_policy=policy)


def place(cloud: TestCloud, requests: Sequence[Request]) -> list[Placed | PlacetError]:
    """Each by a scheduler of its own, all at once."""

    def one(asked: Request) -> Placed | PlacetError:
        try:
            return cloud.scheduler().create(asked)
        except (NothingFits, NotYet) as problem:
            return problem

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(one, requests))


def nodes_of(outcomes: Sequence[object]) -> Counter[str]:
    return Counter(outcome.node for outcome in outcomes if isinstance(outcome, Placed))


def members(cloud: TestCloud, group: str = "web") -> list[str]:
    return [entry.key for entry in cloud.store.scan(keys.group_members("default", group)).entries]


def destroy(cloud: TestCloud, placed: Placed) -> None:
    """As its node does it."""
    gone = [key for key in cloud.leftovers(placed.instance) if key != "allocation"]
    cloud.store.transact([], [Delete(key) for key in gone])
    cloud.claims.release(placed.instance)


def test_fifty_at_once_never_put_two_of_an_anti_affinity_group_on_one_node(cloud: TestCloud) -> None:
    nodes = [cloud.add_node(f"n{number}", vcpus=64) for number in range(6)]
    asked = [member("anti-affinity") for _ in range(50)]

    outcomes = place(cloud, asked)

    assert nodes_of(outcomes) == dict.fromkeys(nodes, 1)
    assert len(members(cloud)) == 6
    for one, outcome in zip(asked, outcomes, strict=True):
        if not isinstance(outcome, Placed):
            assert cloud.leftovers(one.instance) == []


def test_fifty_at_once_never_put_an_affinity_group_on_two_nodes(cloud: TestCloud) -> None:
    for number in range(4):
        cloud.add_node(f"n{number}", vcpus=64)

    outcomes = place(cloud, [member("affinity") for _ in range(50)])

    ((node, count),) = nodes_of(outcomes).items()
    assert count == 50
    entry = cloud.store.get(keys.group("default", "web"))
    assert entry and decode(Group, entry.value, "").node == node


def test_an_affinity_group_that_fills_its_node_goes_nowhere_else(cloud: TestCloud) -> None:
    cloud.add_node("n1", vcpus=3)
    cloud.add_node("n2", vcpus=3)
    outcomes = []
    for _ in range(5):
        outcomes += place(cloud, [member("affinity")])
    assert list(nodes_of(outcomes).values()) == [3]


def test_soft_policies_are_wishes(cloud: TestCloud) -> None:
    nodes = [cloud.add_node(f"n{number}", vcpus=3) for number in range(2)]
    apart = [cloud.scheduler().create(member("soft-anti-affinity", "apart")) for _ in range(4)]
    assert nodes_of(apart) == dict.fromkeys(nodes, 2)
    together = [cloud.scheduler().create(member("soft-affinity", "together")) for _ in range(2)]
    assert nodes_of(together) == dict.fromkeys(nodes, 1)  # there was room for one on each


def test_soft_affinity_goes_where_its_members_are(cloud: TestCloud) -> None:
    for number in range(5):
        cloud.add_node(f"n{number}", vcpus=16)
    placed = [cloud.scheduler().create(member("soft-affinity")) for _ in range(4)]
    assert list(nodes_of(placed).values()) == [4]


def test_a_member_that_is_gone_holds_no_slot(cloud: TestCloud) -> None:
    cloud.add_node("n1", vcpus=8)
    first = cloud.scheduler().create(member("anti-affinity"))
    with pytest.raises(NothingFits, match="without --group web"):
        cloud.scheduler().create(member(None))
    cloud.store.transact([], [Delete(keys.spec(first.node, first.instance)), Delete(keys.instance(first.instance))])
    cloud.claims.release(first.instance)

    second = cloud.scheduler().create(member(None))

    assert [key.rsplit("/", 1)[1] for key in members(cloud)] == [second.instance]


def test_an_affinity_group_without_members_is_bound_to_no_node(cloud: TestCloud) -> None:
    first_node = cloud.add_node("n1", vcpus=8)
    placed = [cloud.scheduler().create(member("affinity"))]
    second_node = cloud.add_node("n2", vcpus=64, memory_mb=2**16, disk_gb=1000)
    placed.append(cloud.scheduler().create(member(None)))
    assert list(nodes_of(placed)) == [first_node]
    cloud.store.transact([], [Put(keys.closed(first_node), encode(Mark("test", 1.0)))])
    with pytest.raises(NothingFits):
        cloud.scheduler().create(member(None))
    for each in placed:
        destroy(cloud, each)
    assert cloud.scheduler().create(member(None)).node == second_node


def test_a_new_group_needs_a_policy_and_a_used_one_keeps_it(cloud: TestCloud) -> None:
    cloud.add_node("n1", vcpus=8)
    with pytest.raises(Usage, match="group 'web' is new: say --policy"):
        cloud.scheduler().create(member(None))
    placed = cloud.scheduler().create(member("affinity"))
    with pytest.raises(Conflict, match="'web' is one of affinity, not anti-affinity"):
        cloud.scheduler().create(member("anti-affinity"))
    destroy(cloud, placed)
    assert cloud.scheduler().create(member("anti-affinity"))


def test_the_index_knows_the_group_and_the_choice_that_was_made(cloud: TestCloud) -> None:
    node = cloud.add_node("n1", vcpus=8)
    placed = cloud.scheduler().create(member("anti-affinity"))
    entry = cloud.store.get(keys.instance(placed.instance))
    assert entry
    index = decode(Index, entry.value, "")
    assert index.group == "web"
    assert index.why["policy"] == "spread"
    assert index.why["group"] == {"name": "web", "policy": "anti-affinity"}
    assert [(each["node"], each["name"], each["outcome"]) for each in index.why["nodes"]] == [(node, "n1", "chosen")]


def test_a_host_is_the_only_one_and_those_to_avoid_are_none(cloud: TestCloud) -> None:
    small = cloud.add_node("small", vcpus=2)
    big = cloud.add_node("big", vcpus=64, memory_mb=2**16, disk_gb=1000)
    there = cloud.scheduler().create(replace(request(), host=small))
    elsewhere = cloud.scheduler().create(replace(request(), avoid=(big,)))
    assert (there.node, elsewhere.node) == (small, small)
    with pytest.raises(NothingFits):
        cloud.scheduler().create(replace(request("resources=VCPU:4"), host=small))
    with pytest.raises(NothingFits):
        cloud.scheduler().create(replace(request(), avoid=(small, big)))
