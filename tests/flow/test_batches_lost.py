"""Placing a batch when any of its calls is lost, late, or the last one: every number of call with every fate.

All is in memory, as in test_lost_replies.py, which has the same for one instance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.errors import Conflict, PlacetError, Unreachable
from placet.model import INTENT_TTL_S, Index, Spec, decode
from placet.placing import Placed
from placet.request import Request
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.lost import Fate, FlakyPlacement, FlakyStore, Killed, Wire

NOW = 1_800_000_000.0
BATCH = 5
Fates = Mapping[int, Fate]
HARM = [fate for fate in Fate if fate is not Fate.PASS]


@pytest.fixture(autouse=True)
def empty_placement() -> None:
    """In place of the flow tests' own: there is no real Placement to be emptied."""


@dataclass
class Scene:
    """Two nodes that have room for the whole batch, and one more instance on them that is nobody's business."""

    now: float = NOW
    asked: list[Request] = field(default_factory=lambda: [request() for _ in range(BATCH)])
    calls: list[str] = field(default_factory=list)
    others: int = 0

    def __post_init__(self) -> None:
        self.cloud = TestCloud.on_models(lambda: self.now)
        self.nodes = [self.cloud.add_node(name, vcpus=10) for name in ("n1", "n2")]
        self.neighbour = self.cloud.scheduler().create(request()).instance
        self.before = self.cloud.held(self.neighbour)

    def place(self, fates: Fates, crowd: bool = False, late_after: int | None = None) -> dict[str, object]:
        """What came of each request, over a wire with these fates. `crowd`: others fill a node between choice and
        claim, so that the batch is split."""
        wire = Wire(lambda name, number: self._decide(name, number, fates, crowd), late_after)
        placement, store = FlakyPlacement(self.cloud.placement, wire), FlakyStore(self.cloud.store, wire)
        outcomes: dict[str, object] = {}
        with contextlib.suppress(Killed):
            for one, outcome in self.cloud.scheduler(placement, store).create_many(self.asked):
                outcomes[one.instance] = outcome
        self.calls = wire.calls
        self.settle = wire.settle
        return outcomes

    def _decide(self, name: str, number: int, fates: Fates, crowd: bool) -> Fate:
        if crowd and name == "placement.claim_many" and not self.others:
            node = self.nodes[0]
            self.others = 10 - self.cloud.placement.usages(node)["VCPU"]
            filling = Candidate({node: {"VCPU": self.others}}, {"": [node]}, {})
            assert self.cloud.claims.claim(new_uuid(), filling)
        return fates.get(number, Fate.PASS)

    def create_again(self, one: Request) -> Placed:
        try:
            return self.cloud.scheduler().create(one)
        except Conflict:
            self.now += INTENT_TTL_S + 1
            return self.cloud.scheduler().create(one)

    def specs(self, instance: str) -> list[Spec]:
        found = [self.cloud.store.get(keys.spec(node, instance)) for node in self.nodes]
        return [decode(Spec, entry.value, "") for entry in found if entry]

    def assert_placed(self, instance: str) -> None:
        """One spec, index and allocation, which say the same, and no intent."""
        (spec,) = self.specs(instance)
        entry = self.cloud.store.get(keys.instance(instance))
        assert entry and decode(Index, entry.value, "").node == spec.node
        assert self.cloud.held(instance) == spec.allocations
        assert self.cloud.store.get(keys.intent(instance)) is None


def runs(crowd: bool, fates: Sequence[Fate]) -> Iterator[Fates]:
    """Every call of an undisturbed run with every fate."""
    scene = Scene()
    outcomes = scene.place({}, crowd)
    assert all(isinstance(outcome, Placed) for outcome in outcomes.values())
    for number in range(1, len(scene.calls) + 1):
        for fate in fates:
            yield {number: fate}


def check(fates: Fates, crowd: bool, late_after: int | None, settle_first: bool) -> None:
    scene = Scene()
    outcomes = scene.place(fates, crowd, late_after)
    told = f"{fates} of {scene.calls}"
    for outcome in outcomes.values():
        assert isinstance(outcome, (Placed, Unreachable, PlacetError)), told
    if settle_first:
        scene.settle()
    for one in scene.asked:
        outcome = outcomes.get(one.instance)
        again = scene.create_again(one)
        assert not isinstance(outcome, Placed) or again == Placed(one.instance, outcome.node, repeated=True), told
    scene.settle()
    for one in scene.asked:
        scene.assert_placed(one.instance)
    assert scene.cloud.held(scene.neighbour) == scene.before
    assert sum(scene.cloud.placement.usages(node)["VCPU"] for node in scene.nodes) == BATCH + 1 + scene.others, told


def check_without_repetition(fates: Fates, crowd: bool) -> None:
    """What stays of those that were not placed is, at the most, an allocation that nothing in etcd speaks for."""
    scene = Scene()
    outcomes = scene.place(fates, crowd)
    scene.settle()
    scene.now += INTENT_TTL_S + 1
    for one in scene.asked:
        if scene.cloud.store.get(keys.instance(one.instance)):
            scene.assert_placed(one.instance)
        else:
            assert not isinstance(outcomes.get(one.instance), Placed), f"{fates} of {scene.calls}"
            assert set(scene.cloud.leftovers(one.instance)) <= {"allocation"}, f"{fates} of {scene.calls}"


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("settle_first", [False, True])
def test_whichever_call_is_lost_the_same_requests_again_are_one_instance_each(crowd: bool, settle_first: bool) -> None:
    for fates in runs(crowd, HARM):
        check(fates, crowd, None, settle_first)


@pytest.mark.parametrize("late_after", [0, 1, 2, 3])
def test_whichever_call_is_late_the_same_requests_again_are_one_instance_each(late_after: int) -> None:
    for fates in runs(True, [Fate.LATE]):
        check(fates, True, late_after, settle_first=False)


@pytest.mark.parametrize("crowd", [False, True])
def test_whichever_call_is_lost_nothing_stays_that_a_sweep_could_not_tell(crowd: bool) -> None:
    for fates in runs(crowd, HARM):
        check_without_repetition(fates, crowd)


@pytest.mark.parametrize("length", [2, 3, 5, 9, 64])
def test_however_long_an_outage_the_same_requests_again_are_one_instance_each(length: int) -> None:
    for fate in (Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE):
        for first in runs(True, [fate]):
            (number,) = first
            check(dict.fromkeys(range(number, number + length), fate), True, None, settle_first=True)
