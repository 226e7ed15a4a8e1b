"""A node keeps up with its keys: by a list, then by what changes, and by a list again whenever that is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from placet import keys
from placet.errors import WatchLost
from placet.model import encode
from placet.store import Delete, Put, Watch
from placet.store.memory import MemoryStore
from placet.watching import LOOK_AT_ALL_S, RELIST_S, Watcher
from tests.unit.test_model import SPEC

ONCE = SPEC.allocations[SPEC.node]
TWICE = {name: 2 * amount for name, amount in ONCE.items()}


@dataclass
class Rig:
    """A watcher of node `n`, with what it has passed on since that was last asked for."""

    now: float = 1000.0
    looked: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(lambda: self.now)
        self.watcher = Watcher("n", self.store, self.looked.append, self.asked.append, lambda: self.now)

    def put(self, *names: str) -> None:
        for name in names:
            self.store.transact([], [Put(keys.spec("n", name), encode(replace(SPEC, instance=name)))])

    def step(self) -> list[str]:
        """What one step has looked at."""
        self.looked.clear()
        self.watcher.step(0.0)
        return list(self.looked)


@pytest.fixture
def rig() -> Rig:
    """With two instances that are listed already."""
    found = Rig()
    found.put("a", "b")
    assert found.step() == ["a", "b"]
    return found


def test_what_is_there_is_listed_first_and_then_only_what_changes(rig: Rig) -> None:
    assert rig.step() == []
    rig.put("c")
    assert rig.step() == ["c"]
    rig.store.transact([], [Put(keys.destroy("n", "a"), b"{}")])
    rig.store.transact([], [Delete(keys.spec("n", "b"))])
    assert rig.step() == ["a", "b"]
    assert rig.step() == []


def test_a_destroy_without_a_spec_is_looked_at_too() -> None:
    rig = Rig()
    rig.store.transact([], [Put(keys.destroy("n", "gone"), b"{}")])
    assert rig.step() == ["gone"]


def test_other_nodes_and_other_keys_of_ours_are_not_looked_at(rig: Rig) -> None:
    for key in (keys.spec("m", "x"), keys.status("n", "x"), keys.seen("n"), keys.instance("x")):
        rig.store.transact([], [Put(key, b"{}")])
    assert rig.step() == []


def test_operations_are_passed_on_from_the_list_and_from_events() -> None:
    rig = Rig()
    rig.store.transact([], [Put(keys.operation("n", "o1"), b"{}")])
    rig.step()
    rig.store.transact([], [Put(keys.operation("n", "o2"), b"{}")])
    assert rig.step() == []
    assert rig.asked == ["o1", "o2"]


def test_a_lost_watch_is_told_and_then_everything_is_looked_at_again(rig: Rig) -> None:
    rig.put("c")
    rig.store.compact()
    with pytest.raises(WatchLost):
        rig.step()
    assert rig.step() == ["a", "b", "c"]
    assert rig.step() == []


def test_a_doubt_of_somebody_elses_does_the_same(rig: Rig) -> None:
    rig.watcher.doubt()
    assert rig.step() == ["a", "b"]


def test_a_list_every_half_minute_finds_what_no_event_told(rig: Rig) -> None:
    events = rig.watcher._watch
    assert events is not None
    rig.put("c")
    events.wait(0.0)  # swallowed: as if it had never come
    rig.now += RELIST_S - 0.1
    assert rig.step() == []
    rig.now += 0.1
    assert rig.step() == ["c"]
    rig.put("d")
    assert rig.step() == ["d"], "it watches on from the new list"


def test_what_has_not_changed_gets_a_look_every_few_minutes_all_the_same(rig: Rig) -> None:
    looked = []
    for _ in range(int(LOOK_AT_ALL_S / RELIST_S) + 1):
        rig.now += RELIST_S
        looked.append(rig.step())
    assert looked.count(["a", "b"]) == 1 and looked.count([]) == len(looked) - 1


def test_what_is_gone_from_the_list_is_not_looked_at(rig: Rig) -> None:
    rig.store.transact([], [Delete(keys.spec("n", "a"))])
    rig.watcher.doubt()
    assert rig.step() == ["b"]


def test_what_the_specs_hold_is_summed_up_and_a_bad_one_counts_nothing(rig: Rig) -> None:
    assert rig.watcher.used == TWICE
    rig.store.transact([], [Put(keys.spec("n", "b"), b"{")])
    rig.now += RELIST_S
    rig.step()
    assert rig.watcher.used == ONCE


def test_what_is_held_follows_each_event_and_the_next_list_says_the_same(rig: Rig) -> None:
    rig.put("c")
    rig.step()
    assert rig.watcher.used == {name: 3 * amount for name, amount in ONCE.items()}
    rig.put("c")
    rig.step()
    assert rig.watcher.used == {name: 3 * amount for name, amount in ONCE.items()}, "the same one again"
    rig.store.transact([], [Delete(keys.spec("n", "a"))])
    rig.store.transact([], [Put(keys.spec("n", "b"), b"{")])
    rig.store.transact([], [Delete(keys.spec("n", "never-seen"))])
    rig.step()
    assert rig.watcher.used == ONCE
    rig.store.transact([], [Delete(keys.spec("n", "c"))])
    rig.step()
    assert rig.watcher.used == {}
    rig.watcher.doubt()
    rig.step()
    assert rig.watcher.used == {}


def test_who_reads_what_is_held_keeps_what_was_read(rig: Rig) -> None:
    read = rig.watcher.used
    rig.put("c")
    rig.step()
    assert read == TWICE


def test_what_somebody_read_for_many_nodes_is_a_first_list(rig: Rig) -> None:
    rig.store.transact([], [Put(keys.destroy("n", "a"), b"{}"), Put(keys.operation("n", "o1"), b"{}")])
    listing = rig.store.scan("nodes/n/")
    rig.put("c")
    begun = Rig()
    begun.store = rig.store
    begun.watcher = Watcher("n", rig.store, begun.looked.append, begun.asked.append, lambda: begun.now)
    begun.watcher.begin(listing.entries, listing.revision)
    assert (begun.looked, begun.asked, begun.watcher.used) == (["a", "b"], ["o1"], TWICE)
    assert begun.step() == ["c"], "and from there on what changes, also what changed meanwhile"


def test_nodes_that_share_a_stream_list_at_times_of_their_own() -> None:
    rig = Rig()
    opened = []

    def open_watch(prefixes: Sequence[str], revision: int) -> Watch:
        opened.append(revision)
        return rig.store.watch(prefixes, revision)

    rig.watcher = Watcher("n", rig.store, rig.looked.append, rig.asked.append, lambda: rig.now, 200.0, open_watch)
    assert rig.watcher.list_in_s == 0.0
    rig.step()
    assert rig.watcher.list_in_s == 200.0
    rig.watcher.put_off(50.0)
    rig.now += 49.9
    rig.step()
    assert len(opened) == 1
    rig.now += 0.1
    rig.step()
    assert len(opened) == 2
    assert rig.watcher.list_in_s == 200.0
    rig.watcher.doubt()
    assert rig.watcher.list_in_s == 0.0


def test_a_closed_watcher_begins_anew_with_a_list(rig: Rig) -> None:
    rig.watcher.close()
    rig.put("c")
    assert rig.step() == ["c"]
