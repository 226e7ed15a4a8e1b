"""The heartbeat: `alive` is there whenever etcd answers, however often it did not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from placet import keys
from placet.errors import LeaseGone, Unreachable
from placet.heartbeat import Heartbeat
from placet.node_records import Alive
from placet.store import Delete
from placet.store.memory import MemoryStore

ALIVE = Alive("n", "n1", "127.0.0.1", "h", "fake", "qemu", 1.0)


class Flaky:
    """A memory store whose next transactions are not answered."""

    def __init__(self, failures: int) -> None:
        self.now = 0.0
        self.store = MemoryStore(lambda: self.now)
        self._failures = failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def transact(self, compares: Any, operations: Any) -> bool:
        if self._failures:
            self._failures -= 1
            raise Unreachable("etcd does not answer")
        return self.store.transact(compares, operations)


def heartbeat(store: Any) -> Heartbeat:
    return Heartbeat(store, ALIVE, 15, time.time, time.monotonic)


def test_a_first_put_that_failed_is_made_up_for() -> None:
    store = Flaky(failures=1)
    beating = heartbeat(store)
    assert not beating.beat({})
    assert beating.beat({})
    assert store.get(keys.alive("n"))


def test_a_lease_that_ended_is_replaced_with_all_that_was_under_it() -> None:
    store = Flaky(0)
    beating = heartbeat(store)
    beating.beat({})
    store.now = 100.0
    assert store.get(keys.alive("n")) is None
    assert beating.beat({})
    assert store.get(keys.alive("n"))


def test_a_key_that_somebody_deleted_comes_back() -> None:
    store = Flaky(0)
    beating = heartbeat(store)
    beating.beat({})
    store.transact([], [Delete(keys.alive("n"))])
    beating._seen_at = float("-inf")
    beating.beat({})
    beating.beat({})
    assert store.get(keys.alive("n"))


def test_goodbye_takes_alive_away_and_leaves_seen() -> None:
    store = Flaky(0)
    beating = heartbeat(store)
    beating.beat({})
    beating.stop()
    assert store.get(keys.alive("n")) is None
    assert b'"stopped":true' in store.get(keys.seen("n")).value


def test_what_somebody_deleted_is_put_back_at_once_when_asked_under_the_same_lease() -> None:
    store = Flaky(0)
    beating = heartbeat(store)
    beating.restore()
    assert store.get(keys.alive("n")) is None, "not before the node has said that it is alive"
    beating.beat({"VCPU": 1})
    written = store.get(keys.alive("n"))
    revision = store.scan("").revision
    beating.restore()
    assert store.scan("").revision == revision
    store.transact([], [Delete(keys.alive("n"))])
    beating.restore()
    again = store.get(keys.alive("n"))
    assert (again.value, again.lease) == (written.value, written.lease)


def test_nothing_is_put_back_after_the_goodbye() -> None:
    store = Flaky(0)
    beating = heartbeat(store)
    beating.beat({})
    beating.stop()
    with pytest.raises(LeaseGone):
        beating.restore()
    assert store.get(keys.alive("n")) is None


def test_a_first_beat_that_somebody_writes_for_many_nodes_is_renewed_like_any_other() -> None:
    store = Flaky(0)
    beating = heartbeat(store)
    lease = store.grant_lease(15)
    assert store.transact_all([beating.begin({"VCPU": 1}, lease)]) != (0,)
    beating.begun({"VCPU": 1}, lease)
    written = store.get(keys.alive("n"))
    assert written and written.lease == lease and store.get(keys.seen("n"))
    store.now += 14
    assert beating.beat({"VCPU": 1})
    store.now += 14
    assert store.get(keys.alive("n")) == written, "renewed, and not written again"


def test_a_goodbye_that_etcd_does_not_hear_is_told() -> None:
    store = Flaky(failures=0)
    beating = heartbeat(store)
    beating.beat({})
    store._failures = 1
    assert not beating.stop()
    assert beating.stop()
    assert store.get(keys.alive("n")) is None
