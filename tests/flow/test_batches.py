"""Many instances at once: in batches by one caller, and put together from many callers, on real Placement and etcd."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.config import PlacementConfig
from placet.errors import BadQuery, Conflict, NothingFits
from placet.model import Mark, encode
from placet.placement import Claim, Placement
from placet.placing import Placed
from placet.request import Request
from placet.store import Delete, Put
from tests.support.clouds import TestCloud, new_uuid, request


class Counting(Placement):
    """Real Placement that counts its calls; `before_claims` is called before the first claim of many."""

    def __init__(self, cloud: TestCloud, before_claims: Callable[[], object] = lambda: None) -> None:
        super().__init__(PlacementConfig(cloud.placement._endpoint))
        self.calls: Counter[str] = Counter()
        self._before_claims = before_claims

    def candidates(self, parameters: Any) -> list[Candidate]:
        self.calls["candidates"] += 1
        return super().candidates(parameters)

    def claim(self, *arguments: Any) -> Claim:
        self.calls["claim"] += 1
        return super().claim(*arguments)

    def claim_many(self, candidates: Mapping[str, Candidate], user: str) -> Claim:
        if not self.calls["claim_many"]:
            self._before_claims()
        self.calls["claim_many"] += 1
        return super().claim_many(candidates, user)


def outcomes_of(cloud: TestCloud, requests: list[Request], placement: Placement | None = None) -> dict[str, object]:
    found = cloud.scheduler(placement).create_many(requests)
    return {one.instance: outcome for one, outcome in found}


def assert_agreed(cloud: TestCloud, nodes: list[str], placed: Mapping[str, object]) -> None:
    """Each of these, and nothing else, has one spec, and an allocation there."""
    specs = {
        keys.last(entry.key): keys.node_of(entry.key)
        for n in nodes
        for entry in cloud.store.scan(keys.specs(n)).entries
    }
    assert specs == {one: outcome.node for one, outcome in placed.items() if isinstance(outcome, Placed)}
    held = {one: node for node in nodes for one in cloud.placement.provider_allocations(node)}
    assert held == specs
    assert not cloud.store.scan(keys.INTENTS).entries


def test_a_batch_is_placed_in_few_exchanges_and_spread(cloud: TestCloud) -> None:
    nodes = [cloud.add_node(f"n{number}", vcpus=40, memory_mb=2**16, disk_gb=1000) for number in range(3)]
    placement = Counting(cloud)

    placed = outcomes_of(cloud, [request() for _ in range(30)], placement)

    assert_agreed(cloud, nodes, placed)
    assert placement.calls == {"candidates": 1, "claim_many": 1}
    assert {cloud.placement.usages(node)["VCPU"] for node in nodes} == {10}


def test_more_than_fit_are_placed_up_to_the_last_and_the_others_leave_nothing(cloud: TestCloud) -> None:
    nodes = [cloud.add_node("n1", vcpus=30), cloud.add_node("n2", vcpus=9)]
    requests = [request("resources=VCPU:1,MEMORY_MB:64,DISK_GB:1") for _ in range(60)]

    outcomes = outcomes_of(cloud, requests)

    placed = {one: outcome for one, outcome in outcomes.items() if isinstance(outcome, Placed)}
    assert len(placed) == 39
    assert_agreed(cloud, nodes, placed)
    for one in requests:
        if one.instance not in placed:
            assert isinstance(outcomes[one.instance], NothingFits)
            assert cloud.leftovers(one.instance) == []


def test_that_nothing_fits_is_found_out_once_for_all_that_are_equal(cloud: TestCloud) -> None:
    cloud.add_node("n1", vcpus=20)
    placement = Counting(cloud)
    requests = [request("resources=VCPU:1,MEMORY_MB:64,DISK_GB:1") for _ in range(150)]

    outcomes = outcomes_of(cloud, requests, placement)

    assert Counter(type(outcome) for outcome in outcomes.values()) == {Placed: 20, NothingFits: 130}
    assert placement.calls["candidates"] < 10
    assert all(cloud.leftovers(one) == [] for one, outcome in outcomes.items() if not isinstance(outcome, Placed))


def test_a_batch_that_others_were_faster_than_is_split_and_goes_elsewhere(cloud: TestCloud) -> None:
    nodes = [cloud.add_node("n1", vcpus=10), cloud.add_node("n2", vcpus=10)]

    def fill() -> None:
        candidate = Candidate({nodes[0]: {"VCPU": 6}}, {"": [nodes[0]]}, {})
        assert cloud.claims.claim(new_uuid(), candidate)

    placed = outcomes_of(cloud, [request() for _ in range(12)], Counting(cloud, fill))

    assert all(isinstance(outcome, Placed) for outcome in placed.values())
    assert [cloud.placement.usages(node)["VCPU"] for node in nodes] == [10, 8]
    specs = [entry for node in nodes for entry in cloud.store.scan(keys.specs(node)).entries]
    assert len(specs) == 12


def test_a_node_that_was_drained_or_died_meanwhile_gets_none_of_a_batch(cloud: TestCloud) -> None:
    drained, dead, fine = [cloud.add_node(name, vcpus=20) for name in ("drained", "dead", "fine")]

    def happen() -> None:
        closed = Put(keys.closed(drained), encode(Mark("test", 1.0)))
        cloud.store.transact([], [closed, Delete(keys.alive(dead))])

    placed = outcomes_of(cloud, [request() for _ in range(9)], Counting(cloud, happen))

    assert {outcome.node for outcome in placed.values() if isinstance(outcome, Placed)} == {fine}
    assert_agreed(cloud, [drained, dead, fine], placed)


def test_requests_of_one_batch_that_are_in_each_others_way_are_told_apart(cloud: TestCloud) -> None:
    nodes = [cloud.add_node("n1", vcpus=20)]
    first, twin = request(name="web"), request(name="web")
    wrong = request("resources=VCPU:1&required=HW_NO_SUCH_TRAIT")
    too_large = request("resources=VCPU:21")
    fine = request("resources=VCPU:2")

    outcomes = outcomes_of(cloud, [first, twin, wrong, too_large, fine])

    assert isinstance(outcomes[first.instance], Placed)
    assert isinstance(outcomes[twin.instance], Conflict)
    assert isinstance(outcomes[wrong.instance], BadQuery)
    assert isinstance(outcomes[too_large.instance], NothingFits)
    assert isinstance(outcomes[fine.instance], Placed)
    assert_agreed(cloud, nodes, {one: outcomes[one] for one in (first.instance, fine.instance)})


def test_the_same_batch_again_is_the_same_answer(cloud: TestCloud) -> None:
    nodes = [cloud.add_node("n1", vcpus=20)]
    requests = [request() for _ in range(5)]
    first, again = outcomes_of(cloud, requests), outcomes_of(cloud, requests)
    assert again == {
        one: Placed(one, outcome.node, repeated=True) for one, outcome in first.items() if isinstance(outcome, Placed)
    }
    assert_agreed(cloud, nodes, first)


def test_whoever_stops_listening_leaves_nothing_of_what_he_has_not_heard(cloud: TestCloud) -> None:
    cloud.add_node("n1", vcpus=20)
    requests = [request() for _ in range(5)]
    stream = cloud.scheduler().create_many(requests)
    heard, _ = next(stream)
    stream.close()  # type: ignore[attr-defined]
    for one in requests:
        assert bool(cloud.leftovers(one.instance)) == (one is heard or bool(cloud.held(one.instance)))
    assert not cloud.store.scan(keys.INTENTS).entries


def test_callers_who_come_at_the_same_time_are_placed_together(cloud: TestCloud) -> None:
    nodes = [cloud.add_node(f"n{number}", vcpus=40, memory_mb=2**16, disk_gb=1000) for number in range(3)]
    placement, together = Counting(cloud), threading.Barrier(24)
    scheduler = cloud.scheduler(placement)
    requests = [request() for _ in range(24)]

    def place(one: Request) -> Placed:
        together.wait(60)
        return scheduler.create(one)

    with ThreadPoolExecutor(24) as pool:
        placed = dict(zip((one.instance for one in requests), pool.map(place, requests), strict=True))

    assert_agreed(cloud, nodes, placed)
    assert placement.calls["claim_many"] + placement.calls["claim"] < 24


@pytest.mark.parametrize("size", [1, 7])
def test_schedulers_at_once_never_overcommit(cloud: TestCloud, size: int) -> None:
    nodes = [cloud.add_node(f"n{number}", vcpus=5) for number in range(4)]
    batches = [[request("resources=VCPU:1,MEMORY_MB:64,DISK_GB:1") for _ in range(size)] for _ in range(40 // size)]

    with ThreadPoolExecutor(len(batches)) as pool:
        outcomes = {
            k: v for found in pool.map(lambda batch: outcomes_of(cloud, batch), batches) for k, v in found.items()
        }

    placed = {one: outcome for one, outcome in outcomes.items() if isinstance(outcome, Placed)}
    assert len(placed) == 20
    assert_agreed(cloud, nodes, placed)
    assert all(isinstance(outcome, (Placed, NothingFits)) for outcome in outcomes.values())
