"""How what guests publish gets from the node's files to etcd: noticed, paced, and only while the instance is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from placet import keys
from placet.guest_records import GuestRecords
from placet.lifecycle import Stage
from placet.model import decode
from placet.node_records import Published
from placet.published import PAUSE_S, Publications, PublishedWatch, with_ready
from placet.reconcile import new_status
from placet.store import Delete, Put
from placet.store.memory import MemoryStore
from tests.support.md_server import guest

WEB, DB = guest("web", "10.0.0.1"), guest("db", "10.0.0.2")
NODE, INSTANCE = "n1", WEB.instance
START = 1_800_000_000.0


class Node:
    """A watch whose time passes by `now`; what it passes on is in `looks`."""

    def __init__(self, directory: Path) -> None:
        self.records = GuestRecords(directory / "metadata")
        for record in (WEB, DB):
            self.records.write(record)
        self.now, self.looks = 1000.0, list[str]()
        self.restart()

    def restart(self) -> None:
        self.watch = PublishedWatch(self.records, self.looks.append, lambda: START + self.now, lambda: self.now)

    def publish(self, instance: str = INSTANCE, text: str = "a") -> None:
        self.records.published.write(Published(instance, self.now, data={"key": text}))

    def step(self, seconds: float = 0.0) -> list[str]:
        self.now += seconds
        self.looks.clear()
        self.watch.step()
        return sorted(self.looks)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_each_change_is_passed_on_once(node: Node) -> None:
    assert node.step() == []
    node.publish()
    assert node.step() == [INSTANCE]
    assert node.step(10) == []
    node.publish(text="b")
    node.publish(DB.instance)
    assert node.step() == [INSTANCE, DB.instance]


def test_what_was_published_while_nobody_watched_is_passed_on_at_the_start(node: Node) -> None:
    node.publish()
    node.step()
    node.restart()
    assert node.step() == [INSTANCE]


def test_who_publishes_again_and_again_is_looked_at_now_and_then(node: Node) -> None:
    looks = 0
    for number in range(80):
        node.publish(text=str(number))
        looks += len(node.step(PAUSE_S / 8))
    assert looks == 10
    assert node.step(PAUSE_S) == [INSTANCE], "the last of it is not forgotten"
    assert node.step(PAUSE_S) == []


def test_who_publishes_much_is_looked_at_more_rarely(node: Node) -> None:
    node.publish(text="x" * 128 * 1024)
    assert node.step() == [INSTANCE]
    node.publish(text="y" * 128 * 1024)
    node.publish(DB.instance)
    assert node.step(4.0) == [DB.instance], "the others do not wait for that"
    assert node.step(5.0) == [INSTANCE]


def test_what_a_guest_said_that_is_no_more_is_thrown_away(node: Node) -> None:
    node.records.remove(INSTANCE)
    node.publish()
    assert node.step() == []
    assert node.records.published.instances() == frozenset()


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore(lambda: START)
    found.transact([], [Put(keys.spec(NODE, INSTANCE), b"{}")])
    return found


def written(store: MemoryStore) -> dict[str, str] | None:
    entry = store.get(keys.published(NODE, INSTANCE))
    return decode(Published, entry.value, entry.key).data if entry else None


def revision(store: MemoryStore) -> int:
    entry = store.get(keys.spec(NODE, INSTANCE))
    assert entry is not None
    return entry.create_revision


def test_it_is_written_when_it_is_new_and_only_then(node: Node, store: MemoryStore) -> None:
    publications = Publications(NODE, store, node.records.published)
    assert publications.read(INSTANCE) is None
    for text in ("a", "b"):
        node.publish(text=text)
        found = publications.read(INSTANCE)
        assert found is not None
        assert publications.write(found, revision(store)) and written(store) == {"key": text}
        before = store.scan("").revision
        assert publications.write(found, revision(store))
        assert store.scan("").revision == before


def test_nothing_is_written_for_one_that_goes_or_is_gone_or_is_another_by_now(node: Node, store: MemoryStore) -> None:
    publications, published, made = Publications(NODE, store, node.records.published), Published(INSTANCE, 1.0), 0
    spec, destroy = keys.spec(NODE, INSTANCE), keys.destroy(NODE, INSTANCE)
    made = revision(store)
    for change in ([Put(destroy, b"{}")], [Delete(destroy), Delete(spec)], [Put(spec, b"{}")]):
        store.transact([], change)
        assert not publications.write(published, made)
    assert written(store) is None
    assert publications.write(published, revision(store))


def test_a_directory_that_cannot_be_read_stops_nothing(node: Node, store: MemoryStore, tmp_path: Path) -> None:
    node.publish()
    path = tmp_path / "published" / f"{INSTANCE}.json"
    path.unlink()
    path.mkdir()
    assert Publications(NODE, store, node.records.published).read(INSTANCE) is None


def test_ready_is_a_stage_reached_when_the_guest_said_so_and_for_good() -> None:
    status = new_status(INSTANCE, NODE, START)
    ready = with_ready(status, Published(INSTANCE, 5.0, ready_at=START + 4.0))

    assert (ready.stage, ready.stages["ready"]) == (Stage.READY, START + 4.0)
    assert with_ready(ready, Published(INSTANCE, 9.0, ready_at=START + 8.0)) == ready
    assert with_ready(ready, None) == ready
    assert with_ready(status, Published(INSTANCE, 5.0)) == status
