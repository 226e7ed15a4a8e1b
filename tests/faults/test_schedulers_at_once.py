"""Many schedule.py at once, for more than there is: exactly what fits is placed, the others are told, nothing stays."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from placet import keys
from placet.placement import Placement
from tests.faults.asking import QUERY
from tests.faults.conftest import sound
from tests.lab.lab import Lab
from tests.support.clouds import TestCloud

FIT = (1, 2)  # VCPUs of the two nodes
ASKING = 3 * sum(FIT)


@pytest.fixture
def placement(cloud: Lab) -> Iterator[Placement]:
    """Placement, in which the nodes offer few VCPUs for the time of the test."""
    placement = TestCloud.make(cloud.store, cloud.placement_endpoint).placement
    before = {node.uuid: placement.inventories(node.uuid)[0] for node in cloud.nodes}
    try:
        for node, total in zip(cloud.nodes, FIT, strict=True):
            few = replace(before[node.uuid]["VCPU"], total=total, max_unit=total, reserved=0, allocation_ratio=1.0)
            _, generation = placement.inventories(node.uuid)
            assert placement.put_inventories(node.uuid, {**before[node.uuid], "VCPU": few}, generation)
        yield placement
    finally:
        for uuid, inventory in before.items():
            _, generation = placement.inventories(uuid)
            assert placement.put_inventories(uuid, inventory, generation)


@contextlib.contextmanager
def sampled_usage(cloud: Lab, placement: Placement) -> Iterator[list[tuple[int, ...]]]:
    """How many VCPUs are used of each node, again and again while it lasts."""
    samples: list[tuple[int, ...]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            samples.append(tuple(placement.usages(node.uuid).get("VCPU", 0) for node in cloud.nodes))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join(60)


def test_of_many_schedulers_at_once_as_many_succeed_as_fit(cloud: Lab, placement: Placement) -> None:
    with sampled_usage(cloud, placement) as samples, ThreadPoolExecutor(ASKING) as pool:
        told = [asked.result() for asked in [pool.submit(cloud.schedule, QUERY) for _ in range(ASKING)]]

    winners = [each for each in told if each.code == 0]
    losers = [each for each in told if each.code != 0]
    assert len(winners) == sum(FIT), told
    assert all(each.out.startswith("NOTIFIED TARGET, ") and each.err == "" for each in winners), winners
    assert {(each.code, each.out, each.err.count("\n")) for each in losers} == {(3, "NO ALLOCATIONS LEFT\n", 1)}, losers
    assert all("lack VCPU" in each.err for each in losers), losers
    assert samples and all(used <= fit for sample in samples for used, fit in zip(sample, FIT, strict=True)), samples
    sound(cloud)
    specs = [len(cloud.store.scan(keys.specs(node.uuid)).entries) for node in cloud.nodes]
    assert tuple(specs) == FIT, "each node has what it has room for"
