"""Random samples of the nodes that are alive."""

from __future__ import annotations

import uuid
from collections import Counter
from random import Random

import pytest

from placet import keys
from placet.sampling import PARTS, Sampling
from placet.store import Found, Put, Range, Read
from placet.store.memory import MemoryStore


class Counting(MemoryStore):
    """Counts the keys that etcd would have looked at for each exchange."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.looked: list[int] = []

    def read(self, *reads: Read) -> tuple[Found, ...]:
        assert all(isinstance(each, Range) and each.limit for each in reads)
        found = super().read(*reads)
        self.looked.append(sum(each.count for each in found))
        return found


def alive(count: int) -> tuple[Counting, set[str]]:
    store, random = Counting(), Random(count)
    nodes = {str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(count)}
    for node in nodes:
        store.transact([], [Put(keys.alive(node), b"{}")])
    return store, nodes


@pytest.mark.parametrize("count", [40, 600])
def test_a_sample_is_bounded_and_every_node_is_in_some(count: int) -> None:
    store, nodes = alive(count)
    sampling, seen = Sampling(store, Random(1), lambda: 0.0), Counter[str]()
    for _ in range(count * 5):
        found = sampling.take(8)
        assert len({each.node for each in found.digests}) == len(found.digests) == 8
        seen.update(each.node for each in found.digests)
    assert set(seen) == nodes


def test_few_nodes_are_counted_and_taken_all() -> None:
    store, nodes = alive(40)
    sampling = Sampling(store, Random(1), lambda: 0.0)
    few, known = sampling.take(100)
    assert ({each.node for each in few}, known) == (nodes, 40)
    assert sampling.take(8).alive == 40


def test_of_many_nodes_only_a_part_is_looked_at_and_the_rest_is_reckoned() -> None:
    store, _ = alive(4000)
    sampling = Sampling(store, Random(1), lambda: 0.0)
    reckoned = [sampling.take(8).alive for _ in range(200)]
    assert len(store.looked) == 200, "one exchange each"
    assert max(store.looked) < 2 * 4000 / PARTS
    assert 3900 < sum(reckoned) / 200 < 4100


def test_whoever_does_not_know_how_many_there_are_asks_again_once() -> None:
    store, _ = alive(40)
    sampling = Sampling(store, Random(1), lambda: 0.0)
    for _ in range(3):
        assert len(sampling.take(16).digests) == 16
    assert len(store.looked) == 4


def test_no_nodes_make_an_empty_sample() -> None:
    store, _ = alive(0)
    assert Sampling(store, Random(1), lambda: 0.0).take(16) == ([], 0)


@pytest.mark.parametrize("start", [0, 1, 2**128 - 2**124, 2**128 - 1])
def test_behind_the_last_key_comes_the_first(start: int) -> None:
    store, nodes = alive(600)

    random = Random()
    random.randrange = lambda *_: start  # type: ignore[method-assign]
    found = {each.node for each in Sampling(store, random, lambda: 0.0).take(8).digests}
    order = sorted(nodes, key=lambda node: (uuid.UUID(node).int - start) % 2**128)
    assert found == set(order[:8])
