"""Placing one instance whose likeliest node was looked at ahead, by what the request before it has left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.errors import Unreachable
from placet.model import Mark, encode
from placet.sampling import FRESH_S
from placet.store import Delete, Put
from tests.support.clouds import TestCloud, request
from tests.support.lost import FlakyPlacement, FlakyStore, Wire, at
from tests.support.offers import drain


class Scene:
    """One scheduler and the calls that it makes, in their order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cloud = TestCloud.on_models(lambda: self.now)
        self.wire = Wire(at({}))
        self.placement = FlakyPlacement(self.cloud.placement, self.wire)
        self.scheduler = self.cloud.scheduler(self.placement, FlakyStore(self.cloud.store, self.wire))

    def create(self, **words: Any) -> tuple[str, list[str]]:
        """Where one more went, and the calls that it took."""
        before = len(self.wire.calls)
        placed = self.scheduler.create(request("resources=VCPU:1", **words))
        return placed.node, [call.partition(".")[2] for call in self.wire.calls[before:]]


@pytest.fixture
def scene() -> Iterator[Scene]:
    found = Scene()
    found.cloud.add_node("n1", vcpus=32, memory_mb=65536)
    found.create()  # grants the lease and learns of shared pools
    yield found


FEWEST = ["candidates", "read", "transact_and_read", "claim", "transact"]


def test_a_request_asks_by_what_the_one_before_has_left_and_takes_three_exchanges_with_etcd(scene: Scene) -> None:
    for _ in range(3):
        assert scene.create()[1] == FEWEST


def test_what_was_left_long_ago_is_not_used(scene: Scene) -> None:
    scene.now += FRESH_S
    assert scene.create()[1] == ["read", "candidates", *FEWEST[2:]]


def test_a_node_that_has_gone_since_is_not_committed_to(scene: Scene) -> None:
    (first,) = (entry.key for entry in scene.cloud.store.scan(keys.ALIVE).entries)
    scene.cloud.store.transact([], [Delete(first)])
    other = scene.cloud.add_node("n2")
    node, calls = scene.create()
    assert node == other
    assert calls.count("transact") == 2, "the commit noticed"
    assert scene.cloud.placement.usages(keys.last(first))["VCPU"] == 1, "only the first one's"


def test_a_node_that_was_drained_since_is_not_even_claimed(scene: Scene) -> None:
    (first,) = (keys.last(entry.key) for entry in scene.cloud.store.scan(keys.ALIVE).entries)
    other = scene.cloud.add_node("n2")
    drain(scene.cloud, first)
    node, calls = scene.create()
    assert (node, calls.count("claim")) == (other, 1)


def test_nor_is_one_that_is_to_destroy_an_earlier_life(scene: Scene) -> None:
    (first,) = (keys.last(entry.key) for entry in scene.cloud.store.scan(keys.ALIVE).entries)
    other = scene.cloud.add_node("n2")
    asked = request("resources=VCPU:1")
    scene.cloud.store.transact([], [Put(keys.destroy(first, asked.instance), encode(Mark("test", 1.0)))])
    assert scene.scheduler.create(asked).node == other


def test_what_placement_refuses_meanwhile_is_told_and_leaves_nothing(scene: Scene) -> None:
    asked = request("resources=VCPU:1")

    def break_off(_parameters: object) -> list[Candidate]:
        raise Unreachable("placement is away")

    scene.placement.candidates = break_off  # type: ignore[method-assign, assignment]
    with pytest.raises(Unreachable, match="placement is away"):
        scene.scheduler.create(asked)
    assert scene.cloud.leftovers(asked.instance) == []
