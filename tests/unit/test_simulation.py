"""What thousands of simulated nodes share: a pace that etcd and Placement can bear, threads that outlive failures."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.auditor import NODES_PER_SECOND
from placet.model import ImageRef
from placet.networks import subnet_count
from placet.simulation.boots import BOOTS
from placet.simulation.nodes import AtOnce, ReadyImages
from placet.simulation.pace import BEATS_PER_S, LISTS_PER_S, Pace
from placet.simulation.pools import Pool, Share
from placet.simulation.shapes import (
    FIRST_SUBNET,
    MAX_NODES,
    RANGE,
    hypervisor_of,
    inventory_of,
    name_of,
    node_of,
)
from placet.watching import RELIST_S
from tests.support.nodes import until

SEED = "11111111-2222-4333-8444-555555555555"


@given(nodes=st.integers(1, MAX_NODES), ttl_s=st.integers(3, 60))
def test_however_many_there_are_they_ask_no_more_than_so_much_together(nodes: int, ttl_s: int) -> None:
    pace = Pace(nodes, ttl_s)
    assert nodes / (pace.ttl_s / 3) <= BEATS_PER_S
    assert nodes / pace.relist_s <= LISTS_PER_S + 1e-6
    assert nodes / pace.audit_s <= NODES_PER_SECOND + 1e-6
    assert pace.ttl_s >= ttl_s and pace.relist_s >= RELIST_S, "none is hastier than a real one"


def test_a_few_have_the_pace_of_real_ones() -> None:
    pace = Pace(100, 15)
    assert (pace.ttl_s, pace.relist_s, pace.audit_s) == (15, 30.0, 60.0)


@given(nodes=st.integers(1, 2000))
def test_turns_are_spread_evenly_over_a_round(nodes: int) -> None:
    turns = [Pace(nodes, 15).turn(number) for number in range(1, nodes + 1)]
    gaps = [later - earlier for earlier, later in zip([0.0, *turns], turns, strict=False)]
    assert turns[-1] == 1.0
    assert max(gaps) - min(gaps) < 1e-9


def test_each_number_is_a_node_of_its_own_and_the_same_one_each_time() -> None:
    numbers = range(1, 2001)
    for made in (name_of, lambda number: node_of(SEED, number), lambda number: hypervisor_of(SEED, number)):
        assert len({made(number) for number in numbers}) == len(numbers)
    assert node_of(SEED, 7) == node_of(SEED, 7) != hypervisor_of(SEED, 7)
    assert inventory_of(7) == inventory_of(7)
    assert len({inventory_of(number)["MEMORY_MB"].total for number in numbers}) > 1


def test_there_are_subnets_for_all_of_them() -> None:
    assert subnet_count(IPv4Network(RANGE)) > FIRST_SUBNET + MAX_NODES


def test_boots_take_some_seconds() -> None:
    assert len(BOOTS) >= 20
    assert all(1 < second < 60 for boot in BOOTS for second in boot)


def test_a_pool_goes_on_after_what_fails_and_serves_again_what_asks_for_it() -> None:
    served: list[str] = []
    wake = threading.Event()

    def serve(key: str) -> float | None:
        served.append(key)
        if key == "bad":
            raise RuntimeError("as it happens")
        if key == "7 again" and served.count(key) < 3:
            return 0.0
        if key == "last":
            wake.set()
        return None

    pool = Pool("test", 1, serve)
    pool.start()
    pool.add("bad")
    Share(pool, "7").add("again")
    until(lambda: served.count("7 again") == 3, "it was served again")
    Share(pool, "8").add_later("soon", 0.01)
    until(lambda: "8 soon" in served, "it was served in its time")
    pool.add("last")
    assert wake.wait(10)
    pool.close()
    pool.join(10)


def test_what_must_go_on_is_served_again_after_it_failed() -> None:
    served: list[str] = []

    def fail(key: str) -> float | None:
        served.append(key)
        raise RuntimeError("as it happens")

    pool = Pool("test", 1, fail, retry_s=0.0)
    pool.start()
    pool.add("7")
    until(lambda: len(served) > 2, "it is tried again")
    pool.close()
    pool.join(10)


def test_what_takes_no_time_needs_no_thread_and_its_failure_is_where_its_outcome_is() -> None:
    images = ReadyImages()
    with ThreadPoolExecutor(1) as one, AtOnce() as none:
        asked = ImageRef("https://example.org/any.qcow2")
        assert none.submit(images.fetch, asked).result() == one.submit(images.fetch, asked).result()
        failed = none.submit(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        failed.result()
