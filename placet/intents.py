"""Intents: "I am about to claim this UUID". Steps 1 and 3 of a request's way; the mutex that Placement is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from placet import keys
from placet.doors import Doors
from placet.errors import Conflict, LeaseGone, NotYet, Unreachable
from placet.model import INTENT_TTL_S, Intent, encode
from placet.request import Request
from placet.store import Absent, CreatedAt, Delete, ModifiedAt, Put, Store, Transaction

T = TypeVar("T")
ATTEMPTS = 3
FRESH_S = INTENT_TTL_S / 6


class Lease:
    """The lease of one or several intents. It ends by itself: an intent is deleted, never left to be revoked."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._made_at = self._kept_at = monotonic()
        self.id = store.grant_lease(INTENT_TTL_S)

    @property
    def is_fresh(self) -> bool:
        """Whether another intent may be put under it."""
        return self._monotonic() - self._made_at < FRESH_S

    def keep(self, surely: bool = False) -> bool:
        """Have it last; False when it has ended. What was kept a moment ago is asked about only to be sure."""
        now = self._monotonic()
        if now - self._kept_at < INTENT_TTL_S / 3 and not surely:
            return True
        self._kept_at = now
        return self._store.refresh_lease(self.id) > 0


@dataclass
class OpenIntent:
    """Our intent as it stands in etcd, with the revisions that the commit compares. `asked` are the nodes,
    or parts of them (child providers), of which we may have claimed something."""

    lease: Lease
    revision: int
    index_revision: int
    name_revision: int
    asked: set[str] = field(default_factory=set)

    def keep(self, instance: str, surely: bool = False) -> None:
        """Raises NotYet when its lease has ended meanwhile."""
        if not self.lease.keep(surely):
            raise NotYet(f"placing {instance} took over {INTENT_TTL_S} s and was given up; ask again")


@dataclass(frozen=True)
class Opening:
    """A request whose index and name were free, as of these revisions (0: there was none)."""

    request: Request
    index_revision: int = 0
    name_revision: int = 0


class Intents:
    """Opens intents and takes them back."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lease: Lease | None = None

    def open(self, opening: Opening, doors: Doors | None = None) -> OpenIntent | None:
        """Our intent, made only while the index is as it was read; None when that has changed: read it again. Whoever
        has `doors` to look at learns of them by the way.

        Raises Conflict when another's is there.
        """
        reads = doors.reads if doors else ()
        lease, (revision, found) = self._under_lease(
            lambda lease: self._store.transact_and_read(_making(opening, lease), reads)
        )
        if doors:
            doors.learn(found)
        instance = opening.request.instance
        if not revision and self._store.get(keys.intent(instance)) is not None:
            raise Conflict(f"{instance} is being placed by another request; ask again in a minute")
        return _open(opening, lease, revision)

    def open_all(self, openings: Sequence[Opening]) -> list[OpenIntent | None]:
        """One for each opening, all under one lease; None where something is in the way: see `open`."""
        lease, revisions = self._under_lease(
            lambda lease: self._store.transact_all([_making(each, lease) for each in openings])
        )
        return [_open(each, lease, revision) for each, revision in zip(openings, revisions, strict=True)]

    def _under_lease(self, make: Callable[[Lease], T]) -> tuple[Lease, T]:
        """Have intents made; and again when nothing was made because somebody had revoked the lease."""
        try:
            lease = self._fresh_lease()
            return lease, make(lease)
        except LeaseGone:
            lease = self._lease = Lease(self._store, self._monotonic)
            return lease, make(lease)

    def _fresh_lease(self) -> Lease:
        """One that has most of its time before it; whoever places one after the other needs few."""
        if self._lease is None or not self._lease.is_fresh:
            self._lease = Lease(self._store, self._monotonic)
        return self._lease

    def take_back(self, instance: str, intent: OpenIntent) -> bool:
        """Delete our intent; False when it was gone. An unanswered transaction is sent again, as a commit is."""
        key = keys.intent(instance)
        for _ in range(ATTEMPTS - 1):
            try:
                return self._store.transact([CreatedAt(key, intent.revision)], [Delete(key)])
            except Unreachable:
                continue
        return self._store.transact([CreatedAt(key, intent.revision)], [Delete(key)])


def _open(opening: Opening, lease: Lease, revision: int) -> OpenIntent | None:
    return OpenIntent(lease, revision, opening.index_revision, opening.name_revision) if revision else None


def _making(opening: Opening, lease: Lease) -> Transaction:
    request = opening.request
    key = keys.intent(request.instance)
    value = encode(Intent(request.instance, request.request_id))
    unchanged = ModifiedAt(keys.instance(request.instance), opening.index_revision)
    return Transaction([Absent(key), unchanged], [Put(key, value, lease.id)])
