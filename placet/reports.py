"""The statuses a node writes: read, compared, written with the event that tells of it. Step 5 of a request's way.

A status is written only over the one that was read, so that a write that arrives late, from before a crash or a lost
reply, never takes back what is newer; only while the spec is there; and only while nobody asked for a destroy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from placet import keys
from placet.errors import PlacetError
from placet.log import log, warn
from placet.model import BadRecord, decode, encode
from placet.node_records import Status
from placet.reconcile import new_status, transition
from placet.schema import changed
from placet.store import Absent, Compare, Holds, Present, Put, Store
from placet.story import Note, Story


class Superseded(PlacetError):
    """Spec, destroy or status are not what they were when this look began: look again."""


@dataclass
class Report:
    """One instance's status as it stands in etcd, and the bytes of it; None and None while there is none."""

    instance: str
    status: Status | None
    value: bytes | None


class Reports:
    """All statuses of one node. `clock` gives seconds since the epoch."""

    def __init__(self, node: str, store: Store, story: Story, clock: Callable[[], float]) -> None:
        self._node = node
        self._store = store
        self._story = story
        self._clock = clock

    def read(self, instance: str) -> Report:
        """What is there now; one that can't be read is written over."""
        entry = self._store.get(keys.status(self._node, instance))
        if entry is None:
            return Report(instance, None, None)
        try:
            return Report(instance, decode(Status, entry.value, entry.key), entry.value)
        except BadRecord as bad:
            warn("bad-status", reason=bad)
            return Report(instance, None, entry.value)

    def begun(self, report: Report) -> Status:
        """The status so far, or that of an instance whose spec was just read."""
        return report.status or new_status(report.instance, self._node, self._clock())

    def write(self, report: Report, status: Status) -> None:
        """Put `status` in place of the one that was read. Raises Superseded."""
        destroy = Absent(keys.destroy(self._node, report.instance))
        self._put(report, status, [destroy], transition(report.status, status))
        log("status", instance=report.instance, state=status.state.value, stage=status.stage.value)

    def say(self, report: Report, task: str, is_news: bool = True) -> None:
        """Tell what an instance waits for, even while it is to go; with an event if `is_news`. Raises Superseded."""
        before = self.begun(report)
        if before.task != task and before.fault is None:
            news = ("waiting", task) if is_news else None
            self._put(report, changed(before, task=task, updated_at=self._clock()), [], news)

    def _put(self, report: Report, status: Status, compares: list[Compare], news: tuple[str, str] | None) -> None:
        instance = report.instance
        key, value = keys.status(self._node, instance), encode(status)
        as_read: Compare = Absent(key) if report.value is None else Holds(key, report.value)
        compares = [Present(keys.spec(self._node, instance)), as_read, *compares]
        events = [Note(instance, *news)] if news else []
        if not self._story.transact(compares, [Put(key, value)], *events):
            raise Superseded(f"instance {instance} changed in etcd meanwhile")
        report.status, report.value = status, value
