"""Placing an instance: intent, claim, commit, with real Placement and real etcd."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.claims import Claims
from placet.config import PlacementConfig
from placet.errors import BadQuery, Conflict, NothingFits, NotYet, Unreachable, Usage
from placet.model import Index, Mark, Spec, decode, encode
from placet.placement import Allocation, Claim, Placement
from placet.scheduler import Scheduler
from placet.sharing import Sharing
from placet.store import Delete, Put, Store
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.inline import Inline


class LossyPlacement(Placement):
    """Real Placement whose first claims' answers go wrong: `applied` claims take effect all the same."""

    def __init__(self, endpoint: str, losses: int, applied: bool) -> None:
        super().__init__(PlacementConfig(endpoint))
        self._losses, self._applied = losses, applied

    def claim(self, consumer: str, candidate: Candidate, user: str, generation: int | None) -> Claim:
        if self._losses == 0:
            return super().claim(consumer, candidate, user, generation)
        self._losses -= 1
        if self._applied:
            super().claim(consumer, candidate, user, generation)
        return Claim.UNSURE


class LossyStore:
    """A store whose first answered commits are lost: `applied` ones take effect all the same."""

    def __init__(self, store: Store, losses: int, applied: bool) -> None:
        self._store, self._losses, self._applied = store, losses, applied

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def transact(self, compares: Any, operations: Any) -> bool:
        is_commit = any(isinstance(each, Put) and "/specs/" in each.key for each in operations)
        if not is_commit or self._losses == 0:
            return self._store.transact(compares, operations)
        self._losses -= 1
        if self._applied:
            self._store.transact(compares, operations)
        raise Unreachable("the answer was lost")


def endpoint(cloud: TestCloud) -> str:
    return cloud.placement._endpoint


def test_a_placed_instance_has_allocation_spec_index_and_name_and_no_intent(cloud: TestCloud) -> None:
    node = cloud.add_node("n1")
    asked = request("resources=VCPU:2,MEMORY_MB:512", name="web")
    placed = cloud.scheduler().create(asked)
    assert placed.node == node
    assert cloud.held(asked.instance) == {node: {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 1}}
    spec = cloud.store.get(keys.spec(node, asked.instance))
    assert spec and decode(Spec, spec.value, "").allocations == cloud.held(asked.instance)
    index = cloud.store.get(keys.instance(asked.instance))
    assert index and decode(Index, index.value, "").node == node
    assert cloud.store.get(keys.name("default", "web"))
    assert cloud.store.get(keys.intent(asked.instance)) is None


def test_the_same_request_again_is_the_same_answer_and_no_second_instance(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()
    first = cloud.scheduler().create(asked)
    again = cloud.scheduler().create(asked)
    assert (again.node, again.repeated) == (first.node, True)
    assert len(cloud.instances.all()) == 1


def test_another_request_under_the_same_uuid_is_a_conflict(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()
    cloud.scheduler().create(asked)
    with pytest.raises(Conflict, match=asked.instance):
        cloud.scheduler().create(request("resources=VCPU:2", instance=asked.instance))


def test_a_taken_name_is_a_conflict_and_leaves_nothing(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    cloud.scheduler().create(request(name="web"))
    second = request(name="web")
    with pytest.raises(Conflict, match="'web' is taken"):
        cloud.scheduler().create(second)
    assert cloud.leftovers(second.instance) == []


def test_a_name_whose_instance_is_gone_is_free(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    cloud.store.transact([], [Put(keys.name("default", "web"), encode(Mark("x", 1.0, new_uuid())))])
    assert cloud.scheduler().create(request(name="web"))


def test_what_fits_nowhere_says_why_and_leaves_nothing(cloud: TestCloud) -> None:
    cloud.add_node("n1", memory_mb=1024)
    asked = request("resources=MEMORY_MB:4096")
    with pytest.raises(NothingFits, match=r"1 node: 1 lack MEMORY_MB \(largest free 1024, asked 4096\)"):
        cloud.scheduler().create(asked)
    assert cloud.leftovers(asked.instance) == []


def test_without_any_node_it_says_to_start_one(cloud: TestCloud) -> None:
    with pytest.raises(NothingFits, match=r"start compute\.py"):
        cloud.scheduler().create(request())


def test_a_query_that_placement_does_not_take_is_a_usage_error_and_leaves_nothing(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request("resources=VCPU:1&required=HW_NO_SUCH_TRAIT")
    with pytest.raises(BadQuery, match="HW_NO_SUCH_TRAIT"):
        cloud.scheduler().create(asked)
    assert cloud.leftovers(asked.instance) == []


def test_nodes_that_are_down_drained_or_stopping_get_nothing(cloud: TestCloud) -> None:
    down, drained, open_node = (cloud.add_node(name) for name in ("down", "drained", "open"))
    cloud.store.transact([], [Delete(keys.alive(down)), Put(keys.closed(drained), encode(Mark("test", 1.0)))])
    assert {cloud.scheduler().create(request()).node for _ in range(4)} == {open_node}


def test_the_emptiest_node_is_chosen(cloud: TestCloud) -> None:
    cloud.add_node("small", vcpus=2)
    big = cloud.add_node("big", vcpus=64, memory_mb=65536, disk_gb=1000)
    assert cloud.scheduler().create(request()).node == big


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("losses", [1, 2, 3])
def test_a_claim_whose_answer_is_lost_is_settled_by_reading(cloud: TestCloud, losses: int, applied: bool) -> None:
    node = cloud.add_node("n1")
    asked = request()
    placed = cloud.scheduler(LossyPlacement(endpoint(cloud), losses, applied)).create(asked)
    assert placed.node == node
    assert cloud.held(asked.instance) == {node: {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}}


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("losses", [1, 2])
def test_a_commit_whose_answer_is_lost_has_one_effect(cloud: TestCloud, losses: int, applied: bool) -> None:
    cloud.add_node("n1")
    asked = request()
    store: Any = LossyStore(cloud.store, losses, applied)
    placed = cloud.scheduler(store=store).create(asked)
    assert placed.instance == asked.instance
    assert cloud.held(asked.instance)
    assert cloud.store.get(keys.intent(asked.instance)) is None


def test_a_commit_that_never_answers_but_took_effect_is_a_success(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()
    store: Any = LossyStore(cloud.store, 100, applied=True)
    assert cloud.scheduler(store=store).create(asked).instance == asked.instance
    assert cloud.held(asked.instance)


def test_a_commit_that_never_took_effect_is_taken_back_whole(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()
    store: Any = LossyStore(cloud.store, 100, applied=False)
    with pytest.raises(Unreachable):
        cloud.scheduler(store=store).create(asked)
    assert cloud.leftovers(asked.instance) == []


def test_a_node_that_was_restarted_between_choice_and_commit_is_tried_anew(cloud: TestCloud) -> None:
    node = cloud.add_node("n1")
    asked = request()

    class Restarting(Placement):
        restarts = 1

        def claim(self, *arguments: Any) -> Claim:
            if self.restarts:
                self.restarts -= 1
                cloud.revive(node)
            return super().claim(*arguments)

    placed = cloud.scheduler(Restarting(PlacementConfig(endpoint(cloud)))).create(asked)
    assert placed.node == node
    assert cloud.held(asked.instance)


def test_a_destroy_while_it_is_being_placed_wins(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()

    class Destroying(Placement):
        def claim(self, *arguments: Any) -> Claim:
            outcome = super().claim(*arguments)
            cloud.destroyer.destroy(asked.instance, "test", 1.0)
            return outcome

    with pytest.raises(Conflict, match="was destroyed while it was being placed"):
        cloud.scheduler(Destroying(PlacementConfig(endpoint(cloud)))).create(asked)
    assert cloud.store.get(keys.instance(asked.instance)) is None


def test_another_clouds_consumer_is_never_touched(cloud: TestCloud) -> None:
    node = cloud.add_node("n1")
    asked = request()
    theirs = Candidate({node: {"VCPU": 1}}, {"": [node]}, {})
    assert cloud.placement.claim(asked.instance, theirs, new_uuid(), None) is Claim.DONE
    with pytest.raises(Conflict, match="another's consumer"):
        cloud.scheduler().create(asked)
    assert cloud.held(asked.instance) == {node: {"VCPU": 1}}


def test_what_an_uuid_holds_on_another_node_sends_it_there(cloud: TestCloud) -> None:
    """A scheduler died after its claim: who asks again may be offered another node first."""
    small = cloud.add_node("small", vcpus=2)
    cloud.add_node("big", vcpus=64, memory_mb=65536, disk_gb=1000)
    asked = request()
    assert cloud.claims.claim(asked.instance, Candidate({small: {"VCPU": 1}}, {"": [small]}, {}))
    assert cloud.scheduler().create(asked).node == small
    assert set(cloud.held(asked.instance)) == {small}


def test_an_uuid_is_not_placed_beside_what_may_run_where_it_holds_something(cloud: TestCloud) -> None:
    other = cloud.add_node("other")
    cloud.add_node("free")
    cloud.store.transact([], [Put(keys.closed(other), encode(Mark("test", 1.0)))])
    asked = request()
    assert cloud.claims.claim(asked.instance, Candidate({other: {"VCPU": 1}}, {"": [other]}, {}))
    with pytest.raises(Conflict, match=f"holds amounts of {other} that nobody speaks for"):
        cloud.scheduler().create(asked)
    assert cloud.held(asked.instance) == {other: {"VCPU": 1}}
    assert cloud.leftovers(asked.instance) == ["allocation"]


def test_nothing_is_placed_where_an_earlier_life_of_its_uuid_is_yet_to_go(cloud: TestCloud) -> None:
    """A node that could not carry out a forced destroy at its start releases what the UUID holds of it, later."""
    node = cloud.add_node("n1")
    asked = request()
    cloud.store.transact([], [Put(keys.destroy(node, asked.instance), encode(Mark("test", 1.0)))])
    with pytest.raises(NotYet):
        cloud.scheduler().create(asked)
    assert cloud.held(asked.instance) == {}
    other = cloud.add_node("n2")
    assert cloud.scheduler().create(asked).node == other


def test_a_status_of_an_earlier_life_is_not_inherited(cloud: TestCloud) -> None:
    node = cloud.add_node("n1")
    asked = request()
    cloud.store.transact([], [Put(keys.status(node, asked.instance), b"of a spec that was deleted by hand")])
    cloud.scheduler().create(asked)
    assert cloud.store.get(keys.status(node, asked.instance)) is None


def test_many_at_once_never_overcommit_and_losers_leave_nothing(cloud: TestCloud) -> None:
    capacity, asking = 5, 16
    nodes = [cloud.add_node("n1", vcpus=3), cloud.add_node("n2", vcpus=2)]
    requests = [request() for _ in range(asking)]
    outcomes: dict[str, str] = {}

    def place(number: int) -> None:
        try:
            cloud.scheduler().create(requests[number])
            outcomes[requests[number].instance] = "placed"
        except NothingFits:
            outcomes[requests[number].instance] = "no room"

    threads = [threading.Thread(target=place, args=(number,)) for number in range(asking)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == ["no room"] * (asking - capacity) + ["placed"] * capacity
    assert sum(cloud.placement.usages(node)["VCPU"] for node in nodes) == capacity
    for asked in requests:
        if outcomes[asked.instance] == "no room":
            assert cloud.leftovers(asked.instance) == []


def test_one_uuid_asked_for_by_many_at_once_is_one_instance(cloud: TestCloud) -> None:
    nodes = [cloud.add_node("n1"), cloud.add_node("n2")]
    asked = request()
    told: list[str] = []

    def place() -> None:
        try:
            told.append(cloud.scheduler().create(replace(asked, request_id=new_uuid())).node)
        except Conflict as conflict:
            assert "is being placed by another request" in str(conflict)

    threads = [threading.Thread(target=place) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (node,) = set(told)
    specs = [each for each in nodes if cloud.store.get(keys.spec(each, asked.instance))]
    assert specs == [node]
    assert list(cloud.held(asked.instance)) == [node]


def test_an_index_that_is_committed_between_two_looks_is_the_answer(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()

    class Slow(LossyStore):
        """Another schedules the same request just before our intent is made."""

        overtaken = False

        def transact_and_read(self, transaction: Any, reads: Any) -> Any:
            if not self.overtaken:
                self.overtaken = True
                cloud.scheduler().create(asked)
            return self._store.transact_and_read(transaction, reads)

    store: Any = Slow(cloud.store, 0, applied=False)
    assert cloud.scheduler(store=store).create(replace(asked, request_id=new_uuid())).repeated
    assert cloud.held(asked.instance)


def test_a_lease_that_ends_while_placing_leaves_no_claim_behind(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = request()

    class Expiring(Placement):
        def claim(self, *arguments: Any) -> Claim:
            outcome = super().claim(*arguments)
            entry = cloud.store.get(keys.intent(asked.instance))
            assert entry
            cloud.store.revoke_lease(entry.lease)
            return outcome

    with pytest.raises(NotYet, match="was given up"):
        cloud.scheduler(Expiring(PlacementConfig(endpoint(cloud)))).create(asked)
    assert cloud.leftovers(asked.instance) == []


def test_a_users_limit_counts_only_nodes_that_can_be_used(cloud: TestCloud) -> None:
    drained = [cloud.add_node(f"d{number}") for number in range(3)]
    free = cloud.add_node("free", vcpus=2)
    for node in drained:
        cloud.store.transact([], [Put(keys.closed(node), encode(Mark("test", 1.0)))])
    assert cloud.scheduler().create(request("resources=VCPU:1&limit=1")).node == free


def test_what_would_be_a_record_that_nobody_reads_is_refused_before_anything_is_claimed(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    asked = replace(request(), user_data="\x01" * 60_000)
    with pytest.raises(Usage, match="let the guest fetch the rest"):
        cloud.scheduler().create(asked)
    assert cloud.leftovers(asked.instance) == []


def test_a_late_abort_never_frees_what_a_successor_holds(cloud: TestCloud) -> None:
    """A's commit fails; between A's giving up its intent and its release, B asks for the same UUID and commits."""
    cloud.add_node("n1")
    asked = request()
    successor = replace(asked, request_id=new_uuid())
    store: Any = LossyStore(cloud.store, 100, applied=False)

    class Overtaken(Claims):
        def release_as_read(self, instance: str, held: Allocation) -> None:
            cloud.scheduler().create(successor)
            super().release_as_read(instance, held)

    claims = Overtaken(cloud.placement, cloud.id)
    sharing = Sharing(cloud.placement, time.monotonic, Inline())
    words = (store, cloud.placement, claims, cloud.story(store), time.time, time.monotonic, Random(1))
    late = Scheduler(*words, sharing, Inline())
    with pytest.raises(Unreachable):
        late.create(asked)
    (node,) = cloud.held(asked.instance)
    assert cloud.store.get(keys.spec(node, asked.instance))
