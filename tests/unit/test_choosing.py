"""Which nodes are asked, in which order, and how often: a store and a Placement in memory that count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.choosing import Bounds, Chooser
from placet.decision import Decision
from placet.errors import NothingFits
from placet.model import Mark, encode
from placet.node_records import Alive
from placet.offers import Offers
from placet.sharing import Sharing
from placet.store import Put
from placet.store.memory import MemoryStore
from tests.support.clouds import TestCloud, request
from tests.support.inline import Inline
from tests.support.placement_model import ModelPlacement


class CountingPlacement(ModelPlacement):
    """`asked` are the nodes that were asked about, None for all."""

    def __init__(self, shared: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.asked: list[str | None] = []
        self.shared = shared

    def candidates(self, parameters: Any) -> list[Candidate]:
        given = list(parameters)
        self.asked.append(dict(given).get("in_tree"))
        return super().candidates(given)

    def shared_classes(self) -> frozenset[str]:
        return self.shared


class World:
    """A cloud in memory; time passes by `now`."""

    def __init__(self, policy: str = "spread", shared: frozenset[str] = frozenset(), seed: int = 1) -> None:
        self.now = 0.0
        self.placement = CountingPlacement(shared)
        self.cloud = TestCloud(MemoryStore(time.monotonic), self.placement, "cloud")
        sharing = Sharing(self.placement, lambda: self.now, Inline())
        store, random = self.cloud.store, Random(seed)
        self.chooser = Chooser(store, self.placement, random, lambda: self.now, policy, sharing, Inline())
        self.offers = Offers(self.chooser, Random(seed), lambda: self.now)

    def say(self, node: str, capacity: Mapping[str, int], used: Mapping[str, int]) -> None:
        """What a node says of itself, true or not."""
        alive = Alive(node, node[:4], "", "h", "fake", "qemu", 0.0, dict(capacity), dict(used))
        self.cloud.store.transact([], [Put(keys.alive(node), encode(alive))])

    def first(self, query: str = "resources=VCPU:1", bounds: Bounds | None = None) -> str:
        found = self.chooser.options(request(query), lambda: bounds or Bounds(), Decision("spread"), None)
        return next(found).node


def test_one_node_is_asked_about_when_it_has_room() -> None:
    world = World()
    nodes = [world.cloud.add_node(f"n{number}", vcpus=4 + number) for number in range(10)]
    assert world.first() == nodes[9]
    assert world.placement.asked == [nodes[9]]


@pytest.mark.parametrize(("policy", "best"), [("spread", 1), ("pack", 2)])
def test_the_policy_decides_by_what_nodes_say(policy: str, best: int) -> None:
    world = World(policy)
    nodes = [world.cloud.add_node(f"n{number}", vcpus=8) for number in range(3)]
    for node, used in zip(nodes, (4, 1, 7), strict=True):
        world.say(node, {"VCPU": 8}, {"VCPU": used})
    assert world.first() == nodes[best]


def test_at_random_every_node_has_its_turn() -> None:
    firsts = set()
    for seed in range(40):
        world = World("random", seed=seed)
        names = {world.cloud.add_node(f"n{number}", vcpus=4 + number): number for number in range(3)}
        firsts.add(names[world.first()])
    assert firsts == {0, 1, 2}


def test_a_lie_costs_a_question_and_no_more() -> None:
    world = World()
    liar, honest = world.cloud.add_node("liar", vcpus=1), world.cloud.add_node("honest", vcpus=4)
    world.say(liar, {"VCPU": 10**9}, {})
    assert world.first("resources=VCPU:2") == honest
    assert world.placement.asked == [liar, honest]


def test_what_nodes_say_that_they_have_not_is_found_all_the_same() -> None:
    world = World()
    node = world.cloud.add_node("modest", vcpus=4)
    world.say(node, {"VCPU": 1}, {"VCPU": 1})
    assert world.first("resources=VCPU:2") == node
    assert world.placement.asked == [None]


def test_only_the_answer_for_all_says_that_nothing_fits() -> None:
    world = World()
    nodes = [world.cloud.add_node(f"n{number}", vcpus=1) for number in range(3)]
    for node in nodes:
        world.say(node, {"VCPU": 8}, {})
    with pytest.raises(NothingFits):
        world.first("resources=VCPU:2")
    assert sorted(map(str, world.placement.asked)) == sorted([*nodes, "None"])


@pytest.mark.parametrize(
    ("query", "shared", "narrowed"),
    [
        ("resources=VCPU:1", frozenset(), True),
        ("resources=VCPU:1", frozenset({"DISK_GB"}), False),
        ("resources=VCPU:1", frozenset({"CUSTOM_OTHER"}), True),
        ("resources=VCPU:1&in_tree=6f9a8d34-6a31-4a0c-9a77-0c1f4b1d2a11", frozenset(), False),
        ("resources1=VCPU:1,MEMORY_MB:1,DISK_GB:1", frozenset(), False),
        ("resources=VCPU:1&resources1=CUSTOM_GPU:1&in_tree1=6f9a8d34-6a31-4a0c-9a77-0c1f4b1d2a11", frozenset(), False),
    ],
)
def test_one_node_alone_is_asked_about_only_where_that_is_sound(
    query: str, shared: frozenset[str], narrowed: bool
) -> None:
    assert World(shared=shared).chooser.may_narrow(request(query).query) is narrowed


def test_whether_pools_are_shared_is_looked_up_once_a_minute() -> None:
    world = World()
    query = request().query
    assert world.chooser.may_narrow(query)
    world.placement.shared = frozenset({"VCPU"})
    assert world.chooser.may_narrow(query)
    world.now = 61.0
    assert not world.chooser.may_narrow(query)


def test_bounds_hold_in_a_sample_and_in_all() -> None:
    world = World()
    nodes = [world.cloud.add_node(f"n{number}", vcpus=4 + number) for number in range(4)]
    assert world.first(bounds=Bounds(never={nodes[3]: "no"})) == nodes[2]
    assert world.first(bounds=Bounds(only=nodes[0])) == nodes[0]
    assert world.first(bounds=Bounds(first=frozenset({nodes[1]}))) == nodes[1]
    assert world.first(bounds=Bounds(last={nodes[3]: 1, nodes[2]: 2})) == nodes[1]
    everyone = Bounds(never=dict.fromkeys(nodes, "no"))
    with pytest.raises(NothingFits):
        world.first(bounds=everyone)


def test_equal_requests_share_an_answer_for_a_moment() -> None:
    world = World()
    nodes = [world.cloud.add_node(f"n{number}", vcpus=10) for number in range(3)]
    query = request().query
    first, looked = world.offers.take(query, 9)
    again, _ = world.offers.take(query, 9)
    assert looked == (3, 3)
    assert Counter(option.node for option in [*first, *again]) == dict.fromkeys(nodes, 6)
    assert world.placement.asked == [None]
    world.now = 6.0
    world.offers.take(query, 1)
    assert world.placement.asked == [None, None]


def test_no_more_is_offered_than_there_is_room_for() -> None:
    world = World()
    world.cloud.add_node("n1", vcpus=3)
    query = request().query
    assert len(world.offers.take(query, 5)[0]) == 3
    assert world.offers.take(query, 5)[0] == []
    assert len(world.offers.take(request("resources=VCPU:2").query, 5)[0]) == 1


def test_a_node_that_refused_is_asked_about_anew() -> None:
    world = World()
    node = world.cloud.add_node("n1", vcpus=3)
    query = request().query
    options, _ = world.offers.take(query, 3)
    world.offers.forget(options)
    assert [option.node for option in world.offers.take(query, 1)[0]] == [node]
    assert len(world.placement.asked) == 2


def test_a_drained_node_is_offered_to_nobody() -> None:
    world = World()
    drained, fine = world.cloud.add_node("drained", vcpus=9), world.cloud.add_node("fine")
    world.cloud.store.transact([], [Put(keys.closed(drained), encode(Mark("test", 1.0)))])
    assert {option.node for option in world.offers.take(request().query, 4)[0]} == {fine}
