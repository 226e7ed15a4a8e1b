"""What happened, for people and audits: events in etcd that trim themselves. Written by whoever acts, along every step.

`events/<subject>/<microseconds>-<writer>` holds one; the subject is an instance or a node. They end with their hour's
lease (placet/leases.py), and of one subject only the newest are kept.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from placet import keys
from placet.errors import LeaseGone, PlacetError
from placet.leases import Kept, lease_of, ttl_of
from placet.log import warn
from placet.model import Happening, encode
from placet.store import Compare, Delete, Operation, Put, Store

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
        try:
            done = self._store.transact(compares, operations)
        except LeaseGone:  # nothing was applied: this hour's lease is not there yet
            for lease in {each.lease for each in operations if isinstance(each, Put)}:
                if ttl_s := ttl_of(lease):
                    self._store.grant_lease(ttl_s, lease)
            done = self._store.transact(compares, operations)
        if done:
            self._trim(events)
        return done

    def tell(self, *events: Note) -> None:
        """Write events that belong to no transaction. It never raises: a story that can't be told stops nobody."""
        try:
            self.transact([], [], *events)
        except PlacetError as problem:
            warn("event-not-written", reason=problem)

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
