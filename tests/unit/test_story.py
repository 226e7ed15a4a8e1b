"""Events: told in the transaction that makes them true, on leases that trim them, and never in anybody's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from placet import keys
from placet.errors import LeaseGone, PlacetError, Refused, Unreachable
from placet.leases import HOUR_S, Kept, lease_of
from placet.model import Happening, decode
from placet.store import Absent, Compare, Operation, Put
from placet.store.memory import MemoryStore
from placet.story import KEPT_PER_SUBJECT, TRIM_EVERY, Note, Story

NOON = 500_000 * HOUR_S + 1800.0


class Clock:
    """Seconds since the epoch, and those that leases are measured by."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class FailingStore(MemoryStore):
    """One whose transactions end with an error."""

    def __init__(self, error: PlacetError) -> None:
        super().__init__(lambda: 0.0)
        self._error = error

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        raise self._error


def story(store: Any, clock: Clock | None = None, writer: str = "11112222-3333") -> Story:
    return Story(store, "tester", writer, clock or Clock())


def told(store: MemoryStore, subject: str = "vm") -> list[Happening]:
    return [decode(Happening, entry.value, entry.key) for entry in store.scan(keys.events(subject)).entries]


def test_an_event_says_who_did_what_to_what_and_why() -> None:
    store = MemoryStore(lambda: 0.0)
    story(store).tell(Note("vm", "placed", "on node n"))
    assert told(store) == [Happening("vm", NOON, "tester", "placed", "on node n")]


def test_a_transaction_and_its_event_take_effect_together() -> None:
    store = MemoryStore(lambda: 0.0)
    assert story(store).transact([Absent("a")], [Put("a", b"1")], Note("vm", "placed"))
    entry, event = store.scan("").entries
    assert {entry.key, event.key.split("/")[0]} == {"a", "events"}
    assert entry.mod_revision == event.mod_revision


def test_a_refused_transaction_tells_nothing() -> None:
    store = MemoryStore(lambda: 0.0)
    store.transact([], [Put("a", b"0")])
    assert not story(store).transact([Absent("a")], [Put("a", b"1")], Note("vm", "placed"))
    assert [entry.value for entry in store.scan("").entries] == [b"0"]


def test_the_hours_lease_is_granted_by_whoever_finds_it_missing_and_shared() -> None:
    store = MemoryStore(lambda: 0.0)
    one, other = story(store), story(store, writer="44445555")
    one.tell(Note("vm", "placed"))
    other.tell(Note("vm", "destroyed"))
    assert {entry.lease for entry in store.scan("").entries} == {lease_of(Kept.EVENT, NOON)}
    assert len(told(store)) == 2


def test_events_end_with_their_lease_three_days_later() -> None:
    clock, passed = Clock(), [0.0]
    store = MemoryStore(lambda: passed[0])
    story(store, clock).tell(Note("vm", "placed"))
    passed[0] = Kept.EVENT.value
    assert len(told(store)) == 1
    passed[0] = Kept.EVENT.value + HOUR_S + 1
    assert told(store) == []


def test_another_lease_that_is_gone_is_an_error_and_nothing_is_done() -> None:
    store = MemoryStore(lambda: 0.0)
    with pytest.raises(LeaseGone):
        story(store).transact([], [Put("a", b"1", lease=77)], Note("vm", "placed"))
    assert store.scan("").entries == ()


def test_only_the_newest_of_a_subject_are_kept() -> None:
    store = MemoryStore(lambda: 0.0)
    writing = story(store)
    many = KEPT_PER_SUBJECT + 3 * TRIM_EVERY
    for number in range(many):
        writing.tell(Note("vm", f"n{number}"))
    writing.tell(Note("other", "placed"))
    assert [each.what for each in told(store)] == [f"n{number}" for number in range(many - KEPT_PER_SUBJECT, many)]
    assert len(told(store, "other")) == 1


@pytest.mark.parametrize("error", [Unreachable("away"), Refused("no space"), LeaseGone("never there")])
def test_telling_never_raises(error: PlacetError) -> None:
    store = FailingStore(error)
    story(store).tell(Note("vm", "placed"))
    with pytest.raises(type(error)):
        story(store).transact([], [], Note("vm", "placed"))


def test_keys_go_up_even_while_the_clock_goes_an_hour_back() -> None:
    clock = Clock()
    store = MemoryStore(lambda: 0.0)
    writing = story(store, clock)
    for number, jump in enumerate((0.0, 0.0, -HOUR_S, 1.0, -HOUR_S, HOUR_S)):
        clock.now += jump
        writing.tell(Note("vm", f"n{number}"))
    assert [each.what for each in told(store)] == [f"n{number}" for number in range(6)]


def test_two_writers_at_one_moment_do_not_write_over_each_other() -> None:
    store = MemoryStore(lambda: 0.0)
    for writer in ("aaaa", "bbbb"):
        story(store, writer=writer).tell(Note("vm", writer))
    assert {each.what for each in told(store)} == {"aaaa", "bbbb"}
