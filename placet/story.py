"""What happened, for people and audits: events in etcd that trim themselves. Written by whoever acts, along every step.

`events/<subject>/<microseconds>-<writer>` holds one; the subject is an instance or a node. They end with their hour's
lease (placet/leases.py), and of one subject only the newest are kept.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from placet import keys
from placet.errors import LeaseGone, PlacetError
from placet.leases import Kept, lease_of, ttl_of
from placet.log import warn
from placet.model import Happening, encode
from placet.store import Compare, Delete, Operation, Put, Store, Transaction

T = TypeVar("T")

KEPT_PER_SUBJECT = 100
TRIM_EVERY = 20


@dataclass(frozen=True)
class Note:
    """An event to be written: about which instance or node, one stable word, a line for people."""

    subject: str
    what: str
    reason: str = ""


class Story:
    """One writer of events. `actor` is who acts, in a few words; `writer` keeps two writers' keys apart."""

    def __init__(self, store: Store, actor: str, writer: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._actor = actor
        self._writer = writer[:8]
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._written: Counter[str] = Counter()

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation], *events: Note) -> bool:
        """A transaction that tells of itself: either all of it takes effect, its events too, or nothing."""
        operations = [*operations, *(self._put(event) for event in events)]
        done = self._with_leases(lambda: self._store.transact(compares, operations), operations)
        if done:
            self._trim(events)
        return done

    def transact_all(self, told: Sequence[tuple[Transaction, Note]]) -> list[bool]:
        """Many transactions that each tell of themselves, each decided by itself."""
        whole = [Transaction(each.compares, [*each.operations, self._put(note)]) for each, note in told]
        done = self._with_leases(
            lambda: self._store.transact_all(whole), [each for one in whole for each in one.operations]
        )
        self._trim([note for (_, note), revision in zip(told, done, strict=True) if revision])
        return [revision > 0 for revision in done]

    def tell(self, *events: Note) -> None:
        """Write events that belong to no transaction. It never raises: a story that can't be told stops nobody."""
        try:
            self.transact([], [], *events)
        except PlacetError as problem:
            warn("event-not-written", reason=problem)

    def _with_leases(self, transact: Callable[[], T], operations: Sequence[Operation]) -> T:
        """Carry it out; and again when nothing was applied because this hour's lease was not there yet."""
        try:
            return transact()
        except LeaseGone:
            for lease in {each.lease for each in operations if isinstance(each, Put)}:
                if ttl_s := ttl_of(lease):
                    self._store.grant_lease(ttl_s, lease)
            return transact()

    def _put(self, event: Note) -> Put:
        now = self._clock()
        with self._lock:
            self._last = max(self._last + 1, int(now * 1_000_000))
            key = keys.event(event.subject, self._last, self._writer)
        happening = Happening(event.subject, now, self._actor, event.what, event.reason)
        return Put(key, encode(happening), lease_of(Kept.EVENT, now))

    def _trim(self, events: Sequence[Note]) -> None:
        """Now and then, drop the oldest of a subject that has too many."""
        for event in events:
            self._written[event.subject] += 1
            if self._written[event.subject] % TRIM_EVERY:
                continue
            try:
                old = self._store.scan(keys.events(event.subject)).entries[:-KEPT_PER_SUBJECT]
                self._store.transact([], [Delete(entry.key) for entry in old[:100]])
            except PlacetError as problem:
                warn("events-not-trimmed", reason=problem)
