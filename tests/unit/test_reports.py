"""Statuses: one is written only over the one that was read, while its spec is there and nobody asked for a destroy."""

from __future__ import annotations

import pytest

from placet import keys
from placet.lifecycle import Stage, State
from placet.model import Happening, decode
from placet.node_records import Status
from placet.reconcile import at_stage, new_status, with_fault
from placet.reports import Reports, Superseded
from placet.schema import changed
from placet.store import Delete, Put
from placet.store.memory import MemoryStore
from placet.story import Story

KEY = keys.status("n", "vm")
FRESH = new_status("vm", "n", 1.0)
ACTIVE = changed(at_stage(FRESH, Stage.STARTED, 2.0), state=State.ACTIVE)


@pytest.fixture
def store() -> MemoryStore:
    """With the spec of one instance, of which nothing is reported yet."""
    made = MemoryStore(lambda: 0.0)
    made.transact([], [Put(keys.spec("n", "vm"), b"a spec")])
    return made


@pytest.fixture
def reports(store: MemoryStore) -> Reports:
    return Reports("n", store, Story(store, "node n", "n", lambda: 9.0), lambda: 9.0)


def stored(store: MemoryStore) -> Status | None:
    entry = store.get(KEY)
    return decode(Status, entry.value, KEY) if entry else None


def events(store: MemoryStore) -> list[str]:
    found = [decode(Happening, entry.value, entry.key) for entry in store.scan(keys.events("vm")).entries]
    return [f"{each.what}: {each.reason}" for each in found]


def test_a_status_is_written_with_the_event_that_tells_of_it(store: MemoryStore, reports: Reports) -> None:
    report = reports.read("vm")
    reports.write(report, FRESH)
    reports.write(report, ACTIVE)
    assert stored(store) == ACTIVE == report.status
    assert events(store) == ["state: BUILD, at stage claimed", "state: BUILD -> ACTIVE, at stage started"]


def test_a_write_that_tells_nothing_new_is_no_event(store: MemoryStore, reports: Reports) -> None:
    report = reports.read("vm")
    reports.write(report, ACTIVE)
    reports.write(report, changed(ACTIVE, updated_at=5.0))
    assert len(events(store)) == 1 and stored(store) == changed(ACTIVE, updated_at=5.0)


def test_a_late_write_takes_nothing_back(store: MemoryStore, reports: Reports) -> None:
    late = reports.read("vm")
    reports.write(reports.read("vm"), ACTIVE)
    with pytest.raises(Superseded):
        reports.write(late, FRESH)
    assert stored(store) == ACTIVE and late.status is None
    assert len(events(store)) == 1


def test_a_late_write_over_an_older_one_takes_nothing_back_either(store: MemoryStore, reports: Reports) -> None:
    reports.write(reports.read("vm"), FRESH)
    late = reports.read("vm")
    reports.write(reports.read("vm"), ACTIVE)
    with pytest.raises(Superseded):
        reports.write(late, with_fault(FRESH, "x", "y", 3.0))
    assert stored(store) == ACTIVE


def test_nothing_is_written_of_what_has_no_spec(store: MemoryStore, reports: Reports) -> None:
    report = reports.read("vm")
    store.transact([], [Delete(keys.spec("n", "vm"))])
    with pytest.raises(Superseded):
        reports.write(report, FRESH)
    with pytest.raises(Superseded):
        reports.say(report, "waiting for an image")
    assert stored(store) is None and events(store) == []


def test_a_destroy_forbids_a_status_but_not_to_tell_what_holds_it_up(store: MemoryStore, reports: Reports) -> None:
    reports.write(reports.read("vm"), ACTIVE)
    report = reports.read("vm")
    store.transact([], [Put(keys.destroy("n", "vm"), b"{}")])
    with pytest.raises(Superseded):
        reports.write(report, changed(ACTIVE, state=State.SHUTOFF))
    reports.say(report, "the hypervisor does not answer")
    assert stored(store) == changed(ACTIVE, task="the hypervisor does not answer", updated_at=9.0)
    assert events(store)[1:] == ["waiting: the hypervisor does not answer"]


def test_what_is_waited_for_is_told_once_and_never_over_a_fault(store: MemoryStore, reports: Reports) -> None:
    report = reports.read("vm")
    reports.say(report, "fetching")
    revision = store.scan("").revision
    reports.say(report, "fetching")
    assert store.scan("").revision == revision
    failed = with_fault(FRESH, "disk-full", "no room", 3.0)
    reports.write(report, failed)
    reports.say(report, "fetching")
    assert stored(store) == failed


@pytest.mark.parametrize("value", [b"", b"{", b'{"version": 9}', b"x" * 300_000])
def test_a_status_that_cannot_be_read_is_written_over(store: MemoryStore, reports: Reports, value: bytes) -> None:
    store.transact([], [Put(KEY, value)])
    report = reports.read("vm")
    assert report.status is None
    reports.write(report, FRESH)
    assert stored(store) == FRESH
