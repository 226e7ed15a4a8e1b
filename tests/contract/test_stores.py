"""Both stores are held to the same behaviour: the real etcd, and the one in memory that stands in for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from placet.errors import LeaseGone, Refused, WatchLost
from placet.store import (
    Absent,
    CreatedAt,
    Delete,
    Event,
    Get,
    Holds,
    ModifiedAt,
    NonePresent,
    Present,
    Put,
    Range,
    Store,
    Transaction,
    Watch,
)
from placet.store.etcd import EtcdStore
from placet.store.memory import MemoryStore
from tests.support.services import Etcd


@dataclass
class Subject:
    store: Store
    wait_out: Callable[[float], None]
    compact: Callable[[], None]


@pytest.fixture(params=["etcd", "memory"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        now = [1000.0]
        memory = MemoryStore(lambda: now[0])

        def wait_out(seconds: float) -> None:
            now[0] += seconds
            memory.get("anything")

        yield Subject(memory, wait_out, memory.compact)
        return
    server: Etcd = request.getfixturevalue("etcd")
    store = EtcdStore(server.client, f"/test-{uuid.uuid4()}")

    def compact() -> None:
        store._client.compact(store.scan("").revision)

    yield Subject(store, time.sleep, compact)
    store.close()


def take(watch: Watch, count: int) -> list[Event]:
    found: list[Event] = []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found.extend(watch.wait(0.2))
    return found


def test_a_key_that_is_not_there_is_none(subject: Subject) -> None:
    assert subject.store.get("missing") is None


def test_a_put_value_is_read_back_with_the_revisions_of_its_making_and_last_change(subject: Subject) -> None:
    store = subject.store
    store.transact([], [Put("a", b"1")])
    first = store.get("a")
    store.transact([], [Put("a", b"2")])
    second = store.get("a")
    assert first and second
    assert (first.value, second.value) == (b"1", b"2")
    assert first.create_revision == first.mod_revision == second.create_revision < second.mod_revision


def test_a_key_made_again_has_a_new_create_revision(subject: Subject) -> None:
    store = subject.store
    store.transact([], [Put("a", b"1")])
    first = store.get("a")
    store.transact([], [Delete("a")])
    store.transact([], [Put("a", b"1")])
    second = store.get("a")
    assert first and second and second.create_revision > first.create_revision


def test_a_scan_gives_the_prefix_in_order_and_the_revision_even_when_empty(subject: Subject) -> None:
    store = subject.store
    assert store.scan("p/").revision > 0
    store.transact([], [Put("p/b", b""), Put("p/a", b""), Put("q", b"")])
    listing = store.scan("p/")
    assert [entry.key for entry in listing.entries] == ["p/a", "p/b"]
    assert listing.cluster_id == store.scan("").cluster_id


@pytest.mark.parametrize("present", [True, False])
def test_a_transaction_does_all_or_nothing(subject: Subject, present: bool) -> None:
    store = subject.store
    if present:
        store.transact([], [Put("a", b"old")])
    done = store.transact([Absent("a")], [Put("a", b"new"), Put("b", b"new")])
    assert done is not present
    assert (store.get("b") is not None) is not present


def test_compares_tell_presence_and_revisions(subject: Subject) -> None:
    store = subject.store
    store.transact([], [Put("a", b"1")])
    made = store.get("a")
    store.transact([], [Put("a", b"2")])
    changed = store.get("a")
    assert made and changed
    assert store.transact([Present("a"), CreatedAt("a", made.create_revision)], [])
    assert store.transact([ModifiedAt("a", changed.mod_revision), ModifiedAt("none", 0)], [])
    assert not store.transact([Present("none")], [])
    assert not store.transact([ModifiedAt("a", made.mod_revision)], [])


def test_several_reads_are_one(subject: Subject) -> None:
    store = subject.store
    store.transact([], [Put(f"p/{letter}", letter.encode()) for letter in "dbac"])
    store.transact([], [Put("q", b"")])

    one, none, everything, some, nothing, part = store.read(
        Get("q"),
        Get("none"),
        Range("p/"),
        Range("p/", start="p/b", limit=2),
        Range("r/", limit=1),
        Range("p/", start="p/aa", end="p/d", limit=1),
    )

    assert one.entry == store.get("q")
    assert (none.entry, none.count) == (None, 0)
    assert everything.entries == store.scan("p/").entries
    assert ([entry.key for entry in some.entries], some.count) == (["p/b", "p/c"], 3)
    assert (nothing.entries, nothing.count) == ((), 0)
    assert ([entry.key for entry in part.entries], part.count) == (["p/b"], 2)


def test_many_transactions_are_each_decided_by_itself(subject: Subject) -> None:
    store = subject.store
    store.transact([], [Put("taken/3", b"")])
    asked = [Transaction([Absent(f"taken/{n}")], [Put(f"taken/{n}", b"new"), Delete(f"old/{n}")]) for n in range(200)]

    revisions = store.transact_all(asked)

    assert [revision > 0 for revision in revisions] == [number != 3 for number in range(200)]
    for number in (0, 4, 199):
        entry = store.get(f"taken/{number}")
        assert entry and entry.create_revision == revisions[number]
    third = store.get("taken/3")
    assert third and third.value == b""
    assert store.transact_all([]) == ()


def test_transactions_with_large_values_go_in_several_requests(subject: Subject) -> None:
    asked = [Transaction([], [Put(f"a/{number}", b"x" * 200_000)]) for number in range(12)]
    assert all(subject.store.transact_all(asked))
    assert len(subject.store.scan("a/").entries) == 12


def test_two_transactions_on_one_key_are_refused(subject: Subject) -> None:
    with pytest.raises(Refused, match="duplicate key"):
        subject.store.transact_all([Transaction([], [Put("a", b"1")]), Transaction([], [Put("a", b"2")])])
    assert subject.store.get("a") is None


def test_that_nothing_is_under_a_prefix_can_be_compared(subject: Subject) -> None:
    store = subject.store
    assert store.transact([NonePresent("p/")], [Put("q", b"")])
    store.transact([], [Put("p/a", b"")])
    assert not store.transact([NonePresent("p/")], [])
    assert store.transact([NonePresent("p/b")], [])


def test_keys_go_with_their_lease(subject: Subject) -> None:
    store = subject.store
    lease = store.grant_lease(5)
    store.transact([], [Put("leased", b"", lease)])
    subject.wait_out(0.1)
    assert store.refresh_lease(lease) > 0
    deadline = time.monotonic() + 60
    while store.get("leased") and time.monotonic() < deadline:
        subject.wait_out(0.3)
    assert store.get("leased") is None
    assert store.refresh_lease(lease) == 0


def test_a_revoked_lease_takes_its_keys_and_can_be_revoked_again(subject: Subject) -> None:
    store = subject.store
    lease = store.grant_lease(60)
    store.transact([], [Put("leased", b"", lease)])
    store.revoke_lease(lease)
    store.revoke_lease(lease)
    assert store.get("leased") is None


def test_a_put_under_a_lease_that_is_gone_is_refused(subject: Subject) -> None:
    lease = subject.store.grant_lease(60)
    subject.store.revoke_lease(lease)
    with pytest.raises(LeaseGone, match="lease not found"):
        subject.store.transact([], [Put("a", b"", lease)])


def test_a_lease_can_have_a_number_that_is_known_before(subject: Subject) -> None:
    store, lease = subject.store, uuid.uuid4().int >> 66
    assert store.grant_lease(60, lease) == lease
    assert store.grant_lease(60, lease) == lease, "there already: that is fine"
    assert store.transact([], [Put("numbered", b"", lease)])
    store.revoke_lease(lease)
    assert store.get("numbered") is None


def test_a_value_can_be_compared(subject: Subject) -> None:
    store = subject.store
    assert not store.transact([Holds("valued", b"")], [Put("valued", b"one")]), "absent is not empty"
    store.transact([], [Put("valued", b"one")])
    assert not store.transact([Holds("valued", b"two")], [Put("valued", b"three")])
    assert store.transact([Holds("valued", b"one")], [Put("valued", b"two")])


def test_more_than_128_operations_are_refused(subject: Subject) -> None:
    with pytest.raises(Refused, match="too many operations"):
        subject.store.transact([], [Put(f"k{number}", b"") for number in range(129)])


def test_a_value_of_two_mebibytes_is_refused(subject: Subject) -> None:
    with pytest.raises(Refused, match=r"too large|larger than max"):
        subject.store.transact([], [Put("a", b"x" * 2 * 2**20)])


def test_a_watch_from_a_revision_sees_what_came_before_it_was_opened(subject: Subject) -> None:
    store = subject.store
    revision = store.scan("w/").revision
    store.transact([], [Put("w/a", b"1"), Put("other", b"")])
    watch = store.watch(["w/"], revision + 1)
    store.transact([], [Put("w/b", b"2")])
    store.transact([], [Delete("w/a")])
    events = take(watch, 3)
    watch.close()
    assert [(event.key, event.entry.value if event.entry else None) for event in events] == [
        ("w/a", b"1"),
        ("w/b", b"2"),
        ("w/a", None),
    ]


def test_one_watch_serves_several_prefixes(subject: Subject) -> None:
    store = subject.store
    watch = store.watch(["x/", "y/"], store.scan("").revision + 1)
    store.transact([], [Put("x/1", b""), Put("y/1", b""), Put("z/1", b"")])
    assert {event.key for event in take(watch, 2)} == {"x/1", "y/1"}
    watch.close()


def test_a_watch_from_a_compacted_revision_is_lost(subject: Subject) -> None:
    store = subject.store
    old = store.scan("").revision
    for number in range(3):
        store.transact([], [Put("c", str(number).encode())])
    subject.compact()
    watch = store.watch(["c"], old + 1)
    with pytest.raises(WatchLost, match="compacted"):
        take(watch, 1)


def test_a_closed_watch_is_lost(subject: Subject) -> None:
    watch = subject.store.watch(["a"], subject.store.scan("").revision + 1)
    watch.close()
    with pytest.raises(WatchLost):
        take(watch, 1)


def test_a_wait_without_changes_comes_back_empty_in_time(subject: Subject) -> None:
    watch = subject.store.watch(["a"], subject.store.scan("").revision + 1)
    started = time.monotonic()
    assert watch.wait(0.2) == ()
    assert time.monotonic() - started < 60
    watch.close()
