"""The store in memory, for fast tests: etcd's semantics of revisions, transactions, leases, watches and compaction."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from placet.errors import LeaseGone, Refused, WatchLost
from placet.store import (
    Absent,
    Compare,
    CreatedAt,
    Delete,
    Entry,
    Event,
    Found,
    Get,
    Holds,
    Listing,
    NonePresent,
    Operation,
    Present,
    Put,
    Read,
    Transaction,
)

MAX_OPERATIONS = 128
MAX_VALUE_BYTES = 1536 * 1024


class MemoryStore:
    """`clock` gives monotonic seconds: leases end by it, whenever the store is next used."""

    def __init__(self, clock: Callable[[], float], cluster_id: int = 1) -> None:
        self._clock = clock
        self._cluster_id = cluster_id
        self._changed = threading.Condition()
        self._entries: dict[str, Entry] = {}
        self._history: list[Event] = []
        self._compacted = 0
        self._revision = 1
        self._leases: dict[int, tuple[float, int]] = {}
        self._lease_ids = itertools.count(1001)

    def get(self, key: str) -> Entry | None:
        with self._changed:
            self._expire()
            return self._entries.get(key)

    def scan(self, prefix: str) -> Listing:
        with self._changed:
            self._expire()
            entries = tuple(self._entries[key] for key in sorted(self._entries) if key.startswith(prefix))
            return Listing(entries, self._revision, self._cluster_id)

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        with self._changed:
            self._expire()
            self._check(compares, operations)
            if not all(self._holds(compare) for compare in compares):
                return False
            self._apply(operations)
            return True

    def read(self, *reads: Read) -> tuple[Found, ...]:
        with self._changed:
            self._expire()
            return tuple(self._found(each) for each in reads)

    def transact_all(self, transactions: Sequence[Transaction]) -> tuple[int, ...]:
        with self._changed:
            self._expire()
            touched = [operation.key for each in transactions for operation in each.operations]
            if len(set(touched)) < len(touched):
                raise Refused("etcd refused: duplicate key given in txn request")
            for each in transactions:
                self._check(each.compares, each.operations)
            revisions = []
            for each in transactions:
                holds = all(self._holds(compare) for compare in each.compares)
                if holds:
                    self._apply(each.operations)
                revisions.append(self._revision if holds else 0)
            return tuple(revisions)

    def transact_and_read(self, transaction: Transaction, reads: Sequence[Read]) -> tuple[int, tuple[Found, ...]]:
        with self._changed:
            done = self.transact(transaction.compares, transaction.operations)
            return self._revision if done else 0, self.read(*reads)

    def grant_lease(self, ttl_s: int, lease: int = 0) -> int:
        with self._changed:
            self._expire()
            if lease in self._leases:
                return lease
            lease = lease or next(self._lease_ids)
            self._leases[lease] = (self._clock() + ttl_s, ttl_s)
            return lease

    def refresh_lease(self, lease: int) -> int:
        with self._changed:
            self._expire()
            if lease not in self._leases:
                return 0
            ttl_s = self._leases[lease][1]
            self._leases[lease] = (self._clock() + ttl_s, ttl_s)
            return ttl_s

    def revoke_lease(self, lease: int) -> None:
        with self._changed:
            self._leases.pop(lease, None)
            self._apply([Delete(entry.key) for entry in self._entries.values() if entry.lease == lease])

    def watch(self, prefixes: Sequence[str], revision: int) -> MemoryWatch:
        return MemoryWatch(self, prefixes, revision)

    def alarms(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        """Nothing to let go of."""

    def compact(self) -> None:
        """Forget all history: watches that are behind are lost."""
        with self._changed:
            self._compacted = self._revision
            self._history.clear()
            self._changed.notify_all()

    def since(self, revision: int, timeout_s: float, stopped: Callable[[], bool]) -> list[Event]:
        """Changes at or after `revision`, waiting for the first. Raises WatchLost when they are compacted."""
        with self._changed:
            self._expire()
            self._changed.wait_for(lambda: stopped() or self._revision >= revision, timeout_s)
            if stopped():
                raise WatchLost("closed")
            if revision <= self._compacted and self._revision >= revision:
                raise WatchLost(f"revision {revision} is compacted")
            return [event for event in self._history if event.revision >= revision]

    def wake(self) -> None:
        """Let watchers look at whether they were closed."""
        with self._changed:
            self._changed.notify_all()

    def _check(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> None:
        if max(len(compares), len(operations)) > MAX_OPERATIONS:
            raise Refused("etcd refused: too many operations in txn request")
        for operation in operations:
            if isinstance(operation, Put) and len(operation.value) > MAX_VALUE_BYTES:
                raise Refused("etcd refused: request is too large")
            if isinstance(operation, Put) and operation.lease and operation.lease not in self._leases:
                raise LeaseGone("etcd refused: requested lease not found")

    def _found(self, read: Read) -> Found:
        if isinstance(read, Get):
            entry = self._entries.get(read.key)
            return Found((entry,) if entry else (), 1 if entry else 0)
        under = (key for key in self._entries if key.startswith(read.prefix))
        names = sorted(key for key in under if read.start <= key and (not read.end or key < read.end))
        chosen = names[: read.limit] if read.limit else names
        return Found(tuple(self._entries[key] for key in chosen), len(names))

    def _holds(self, compare: Compare) -> bool:
        if isinstance(compare, NonePresent):
            return not any(key.startswith(compare.key) for key in self._entries)
        entry = self._entries.get(compare.key)
        if isinstance(compare, Absent):
            return entry is None
        if isinstance(compare, Present):
            return entry is not None
        if isinstance(compare, CreatedAt):
            return (entry.create_revision if entry else 0) == compare.revision
        if isinstance(compare, Holds):
            return entry is not None and entry.value == compare.value
        return (entry.mod_revision if entry else 0) == compare.revision

    def _apply(self, operations: Sequence[Operation]) -> None:
        effective = [op for op in operations if isinstance(op, Put) or op.key in self._entries]
        if not effective:
            return
        self._revision += 1
        for operation in effective:
            before = self._entries.pop(operation.key, None)
            entry = None
            if isinstance(operation, Put):
                created = before.create_revision if before else self._revision
                entry = Entry(operation.key, operation.value, created, self._revision, operation.lease)
                self._entries[operation.key] = entry
            self._history.append(Event(operation.key, entry, self._revision))
        self._changed.notify_all()

    def _expire(self) -> None:
        now = self._clock()
        for lease in [lease for lease, (end, _) in self._leases.items() if end <= now]:
            del self._leases[lease]
            self._apply([Delete(entry.key) for entry in self._entries.values() if entry.lease == lease])


class MemoryWatch:
    """See placet.store.Watch."""

    def __init__(self, store: MemoryStore, prefixes: Sequence[str], revision: int) -> None:
        self._store = store
        self._prefixes = tuple(prefixes)
        self._next = revision
        self._closed = False

    def wait(self, timeout_s: float) -> tuple[Event, ...]:
        events = self._store.since(self._next, timeout_s, lambda: self._closed)
        if events:
            self._next = events[-1].revision + 1
        return tuple(event for event in events if event.key.startswith(self._prefixes))

    def close(self) -> None:
        self._closed = True
        self._store.wake()
