"""How many more fit: as many as can be claimed one after the other, and not one more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from placet.candidates import SHARING_TRAIT, Candidate, ProviderSummary
from placet.fitting import Room, free_amounts, free_of, rooms, total

ASKED = st.fixed_dictionaries({"VCPU": st.integers(1, 3), "MEMORY_MB": st.integers(1, 3)})
LEFT = st.tuples(st.integers(0, 12), st.integers(0, 12))


def node(name: str, amounts: dict[str, int], vcpus: int, memory_mb: int) -> Candidate:
    summary = ProviderSummary(name, {"VCPU": (vcpus + 5, 5), "MEMORY_MB": (memory_mb, 0)}, frozenset())
    return Candidate({name: dict(amounts)}, {"": [name]}, {name: summary})


def with_pool(candidate: Candidate, pool: str, left: int, asked: int) -> Candidate:
    summary = ProviderSummary(pool, {"DISK_GB": (left, 0)}, frozenset({SHARING_TRAIT}))
    return Candidate({**candidate.allocations, pool: {"DISK_GB": asked}}, {}, {**candidate.providers, pool: summary})


def claimable(candidates: list[Candidate]) -> int:
    """What goes when they are claimed one by one, each time any that still fits."""
    free, count = free_amounts(candidates), 0
    while True:
        for candidate in candidates:
            wanted = {(p, name): n for p, amounts in candidate.allocations.items() for name, n in amounts.items()}
            if all(free[key] >= amount for key, amount in wanted.items()):
                free.update({key: free[key] - amount for key, amount in wanted.items()})
                count += 1
                break
        else:
            return count


@given(ASKED, st.lists(LEFT, max_size=4))
def test_in_all_it_is_what_can_be_claimed_one_by_one(asked: dict[str, int], left: list[tuple[int, int]]) -> None:
    candidates = [node(f"n{number}", asked, *each) for number, each in enumerate(left)]
    assert total(candidates) == claimable(candidates) == sum(room.count for room in rooms(candidates))


@given(ASKED, st.lists(LEFT, min_size=1, max_size=4), st.integers(0, 12), st.integers(1, 3))
def test_of_a_shared_pool_too(asked: dict[str, int], left: list[tuple[int, int]], pool: int, disk: int) -> None:
    candidates = [with_pool(node(f"n{number}", asked, *each), "pool", pool, disk) for number, each in enumerate(left)]
    assert total(candidates) == claimable(candidates) <= pool // disk
    assert max(room.count for room in rooms(candidates)) <= total(candidates)


@given(ASKED, LEFT, st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_of_a_node_with_several_ways_too(asked: dict[str, int], left: tuple[int, int], pools: list[int]) -> None:
    one = node("n", asked, *left)
    ways = [with_pool(one, f"p{number}", size, 2) for number, size in enumerate(pools)]
    summaries = {uuid: summary for way in ways for uuid, summary in way.providers.items()}
    ways = [Candidate(way.allocations, {}, summaries) for way in ways]
    assert total(ways) == claimable(ways) == rooms(ways)[0].count


@given(ASKED, st.lists(LEFT, max_size=4), st.integers(1, 2))
def test_a_group_that_keeps_apart_gets_no_more_than_its_share_of_a_node(
    asked: dict[str, int], left: list[tuple[int, int]], share: int
) -> None:
    candidates = [node(f"n{number}", asked, *each) for number, each in enumerate(left)]
    assert total(candidates, share) == sum(min(share, room.count) for room in rooms(candidates))


def test_what_runs_out_first_is_what_then_is_too_little() -> None:
    asked = {"VCPU": 1, "MEMORY_MB": 2}
    found = rooms([node("a", asked, 5, 5), node("b", asked, 3, 6), node("c", asked, 9, 20)])
    assert found == [Room("c", 9, ("VCPU",)), Room("b", 3, ("MEMORY_MB", "VCPU")), Room("a", 2, ("MEMORY_MB",))]


def test_a_node_with_many_ways_leaves_the_pool_to_those_with_one() -> None:
    """a may use either pool, b only p: taking p for a first would leave nothing to b."""
    asked = {"VCPU": 1, "MEMORY_MB": 1}
    a, b = node("a", asked, 2, 2), node("b", asked, 2, 2)
    ways = [with_pool(a, "p", 2, 1), with_pool(a, "q", 2, 1), with_pool(b, "p", 2, 1)]
    summaries = {uuid: summary for way in ways for uuid, summary in way.providers.items()}
    ways = [Candidate(way.allocations, {}, summaries) for way in ways]
    assert total(ways) == 4


def test_what_is_over_full_has_nothing_free() -> None:
    assert free_of(node("a", {"VCPU": 1, "MEMORY_MB": 1}, -3, 7)) == {"VCPU": 0, "MEMORY_MB": 7}
