"""Many watches on one stream of a real etcd: each has its own changes alone, and one that is lost is lost alone, unless
the stream is."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from placet.errors import WatchLost
from placet.store import Delete, Event, Put
from placet.store import watch as store_watch
from placet.store.etcd import EtcdStore
from placet.store.watch import EtcdWatch, ranges
from placet.store.watch_hub import WatchHub
from tests.support.nodes import until
from tests.support.proxy import link_to
from tests.support.services import Etcd, etcd_server


class Rig:
    """A store, a hub on it, and how often each watch has told that there is something."""

    def __init__(self, store: EtcdStore) -> None:
        self.store = store
        self.hub: WatchHub = store.watch_hub()
        self.told: Counter[str] = Counter()

    def watch(self, *prefixes: str, revision: int | None = None, name: str = "") -> EtcdWatch:
        if revision is None:
            revision = self.store.scan("any/").revision + 1
        name = name or prefixes[0]
        return self.hub.watch(prefixes, revision, lambda: self.told.update([name]))

    def put(self, *names: str) -> None:
        for name in names:
            self.store.transact([], [Put(name, b"")])


@pytest.fixture
def rig(etcd: Etcd) -> Iterator[Rig]:
    store = EtcdStore(etcd.client, f"/hub-{uuid.uuid4()}")
    made = Rig(store)
    yield made
    made.hub.close()
    store.close()


def taken(watch: EtcdWatch, count: int) -> list[str]:
    """The keys of the next changes."""
    found: list[Event] = []

    def are_there() -> bool:
        found.extend(watch.wait(0.2))
        return len(found) >= count

    until(are_there, f"{count} changes")
    return [event.key for event in found]


def loss(watch: EtcdWatch, within_s: float = 30.0) -> str:
    """Why it is lost."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            watch.wait(0.2)
        except WatchLost as lost:
            return str(lost)
    raise AssertionError("the watch is not lost")


def streams() -> int:
    return sum(thread.name == "etcd-watch" for thread in threading.enumerate())


def test_each_has_its_own_changes_alone_and_is_told_of_them(rig: Rig) -> None:
    others = streams()
    a, b = rig.watch("a/"), rig.watch("b/")
    rig.put("a/1", "b/1", "c/1", "a/2")
    assert taken(a, 2) == ["a/1", "a/2"]
    assert taken(b, 1) == ["b/1"]
    assert rig.told["a/"] in (1, 2), "one word may be of several changes"
    assert rig.told["b/"] == 1
    assert a.wait(0) == ()
    assert streams() == others + 1


def test_one_begins_at_its_own_revision(rig: Rig) -> None:
    before = rig.store.scan("a/").revision
    rig.put("a/1")
    late = rig.watch("a/")
    early = rig.watch("a/", revision=before + 1, name="early")
    rig.put("a/2")
    assert taken(early, 2) == ["a/1", "a/2"]
    assert taken(late, 1) == ["a/2"]


def test_prefixes_of_one_directory_are_one_watch_and_what_lies_between_is_left_out(rig: Rig) -> None:
    watch = rig.watch("nodes/n/specs/", "nodes/n/destroys/", "elsewhere/")
    rig.put(
        "nodes/n/identity", "nodes/n/specs/1", "nodes/n/seen", "nodes/m/specs/1", "elsewhere/1", "nodes/n/destroys/1"
    )
    rig.store.transact([], [Delete("nodes/n/specs/1")])
    assert sorted(taken(watch, 4)) == ["elsewhere/1", "nodes/n/destroys/1", "nodes/n/specs/1", "nodes/n/specs/1"]
    assert len(watch.ids) == 2


def test_a_closed_one_is_over_and_the_others_go_on(rig: Rig) -> None:
    closed, other = rig.watch("a/"), rig.watch("a/", name="other")
    rig.put("a/1")
    taken(closed, 1)
    closed.close()
    closed.close()
    rig.put("a/2")
    assert "closed" in loss(closed)
    assert taken(other, 2) == ["a/1", "a/2"]
    rig.hub.watch(["b/"], 0, lambda: None).close()  # before etcd has answered


def test_one_that_is_compacted_is_lost_alone(rig: Rig) -> None:
    old, good = rig.store.scan("a/").revision, rig.watch("a/")
    rig.put("a/1", "a/2")
    assert taken(good, 2) == ["a/1", "a/2"]
    rig.store._client.compact(rig.store.scan("a/").revision)
    lost = rig.watch("a/", revision=old, name="lost")
    assert "compacted" in loss(lost)
    assert rig.told["lost"] == 1
    rig.put("a/3")
    assert taken(good, 1) == ["a/3"]


def test_one_from_a_revision_that_never_was_is_lost_alone(rig: Rig) -> None:
    good = rig.watch("a/")
    assert "went back" in loss(rig.watch("a/", revision=rig.store.scan("a/").revision + 1000, name="future"))
    rig.put("a/1")
    assert taken(good, 1) == ["a/1"]


def test_when_the_stream_is_lost_all_are_told_and_the_next_sees_what_was_missed(tmp_path: object) -> None:
    with etcd_server() as server:
        store = EtcdStore(server.client)
        rig = Rig(store)
        watches = [rig.watch(f"{number}/") for number in range(20)]
        rig.put("0/1")
        assert taken(watches[0], 1) == ["0/1"]
        seen = store.scan("0/").revision
        server.kill()
        assert len({loss(watch) for watch in watches}) == 1
        until(lambda: all(rig.told[f"{number}/"] for number in range(20)), "all were told")
        server.start()
        until(lambda: _is_up(rig), "etcd answers")
        rig.put("0/2")
        assert taken(rig.watch("0/", revision=seen + 1), 1) == ["0/2"]
        rig.hub.close()
        store.close()


def _is_up(rig: Rig) -> bool:
    try:
        rig.put("up")
    except Exception:
        return False
    return True


def test_a_silent_stream_is_ended_although_nobody_waits(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_watch, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(store_watch, "SILENCE_S", 3.0)
    with link_to(etcd.port) as link:
        store = EtcdStore({"host": "127.0.0.1", "port": link.port, "timeout": 2.0}, f"/hub-{uuid.uuid4()}")
        rig = Rig(store)
        rig.hub.check()
        watch = rig.watch("a/")
        rig.put("a/1")
        taken(watch, 1)
        time.sleep(4)  # longer than the silence that ends it: the heart beats
        rig.hub.check()
        assert watch.wait(0) == ()
        told = rig.told["a/"]
        link.silence()

        def has_ended() -> bool:
            rig.hub.check()
            return rig.told["a/"] > told

        until(has_ended, "it is told")
        assert "silent for" in loss(watch)
        link.heal()
        rig.hub.close()
        store.close()


def test_a_closed_hub_loses_all_and_leaves_no_thread(rig: Rig) -> None:
    others = streams()
    watches = [rig.watch(f"{number}/") for number in range(10)]
    rig.hub.close()
    assert {"closed" in loss(watch) for watch in watches} == {True}
    until(lambda: streams() == others, "its thread has ended")


def test_a_thousand_lose_and_double_nothing_while_some_come_and_go(rig: Rig) -> None:
    revision = rig.store.scan("n/").revision + 1
    watches = [rig.watch(f"n/{number}/", revision=revision) for number in range(1000)]
    for number in range(0, 1000, 10):
        watches[number].close()
        watches[number] = rig.watch(f"n/{number}/", revision=revision)
        rig.store.transact([], [Put(f"n/{each}/x", b"") for each in range(number, number + 10)])
    for number, watch in enumerate(watches):
        assert taken(watch, 1) == [f"n/{number}/x"]
    time.sleep(0.2)  # not for a condition: nothing more may come
    assert not any(watch.wait(0) for watch in watches)


def test_what_etcd_watches_for_prefixes() -> None:
    assert ranges(["nodes/n/specs/", "nodes/n/destroys/"], "/p/") == [(b"/p/nodes/n/destroys/", b"/p/nodes/n/specs0")]
    assert ranges(["a/", "z/"], "/p/") == [(b"/p/a/", b"/p/a0"), (b"/p/z/", b"/p/z0")]
    assert ranges([""], "/p/") == [(b"/p/", b"/p0")]
