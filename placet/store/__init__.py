"""The store seam: what Placet asks of etcd. Steps 1, 3 and 5 of a request's way go through it.

`placet.store.etcd` is the real one, `placet.store.memory` the one for fast tests; one contract suite holds both to
the same behaviour. Keys are relative to the cloud's prefix (placet/keys.py), values are bytes (placet/model.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """A key with its value and the revisions at which it was made and last changed."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True)
class Listing:
    """All entries under a prefix, in the order of their keys, as of one revision of the named etcd cluster."""

    entries: tuple[Entry, ...]
    revision: int
    cluster_id: int


@dataclass(frozen=True)
class Event:
    """A change of a key: `entry` is what it holds now, None when it was deleted."""

    key: str
    entry: Entry | None
    revision: int


@dataclass(frozen=True)
class Absent:
    """Holds when the key does not exist."""

    key: str


@dataclass(frozen=True)
class Present:
    """Holds when the key exists."""

    key: str


@dataclass(frozen=True)
class CreatedAt:
    """Holds when the key exists and was made at this revision: the same incarnation of it."""

    key: str
    revision: int


@dataclass(frozen=True)
class ModifiedAt:
    """Holds when the key was last changed at this revision; 0 for a key that does not exist."""

    key: str
    revision: int


@dataclass(frozen=True)
class Holds:
    """Holds when the key exists and has this value."""

    key: str
    value: bytes


@dataclass(frozen=True)
class NonePresent:
    """Holds when no key is under this prefix."""

    key: str


@dataclass(frozen=True)
class Put:
    """Have a key hold a value, for as long as the lease, if any, lasts."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True)
class Delete:
    """Have a key be gone; it may be already."""

    key: str


@dataclass(frozen=True)
class Get:
    """Read one key."""

    key: str


@dataclass(frozen=True)
class Range:
    """Read keys under a prefix in their order: from `start` on (a whole key; "": from the first) up to `end`, which is
    not among them ("": to the last), at most `limit` (0: all)."""

    prefix: str
    start: str = ""
    limit: int = 0
    end: str = ""


@dataclass(frozen=True)
class Found:
    """What a Get or Range found. `count` is how many keys it would have found without a limit."""

    entries: tuple[Entry, ...]
    count: int

    @property
    def entry(self) -> Entry | None:
        """The one that a Get asked for."""
        return self.entries[0] if self.entries else None


Compare = Absent | Present | CreatedAt | ModifiedAt | Holds | NonePresent
Operation = Put | Delete
Read = Get | Range


@dataclass(frozen=True)
class Transaction:
    """All operations if all compares hold, else nothing."""

    compares: Sequence[Compare]
    operations: Sequence[Operation]


class Watch(Protocol):
    """A stream of changes from a revision on."""

    def wait(self, timeout_s: float) -> tuple[Event, ...]:
        """The next changes, oldest first; empty when none came within the time. Raises WatchLost when changes may
        have been missed (stream lost, refused, compacted, silent past the heartbeat): list again, then watch."""

    def close(self) -> None:
        """End the stream; a `wait` under way raises WatchLost."""


class Store(Protocol):
    """Thread-safe. Every call has a deadline and raises Unreachable when etcd does not answer within it, Refused when
    it answers with an error, LeaseGone when that is that a Put's lease is not there. After Unreachable a transaction
    may have been applied or may yet be."""

    def get(self, key: str) -> Entry | None:
        """What a key holds."""

    def scan(self, prefix: str) -> Listing:
        """Everything under a prefix."""

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        """Carry out all operations if all compares hold, else nothing; tells which."""

    def read(self, *reads: Read) -> tuple[Found, ...]:
        """Several reads in one exchange, all as of one revision; at most 128."""

    def transact_all(self, transactions: Sequence[Transaction]) -> tuple[int, ...]:
        """Several transactions in few exchanges, each decided by itself: the revision at which it took effect, 0 where
        a compare did not hold. No two may put or delete the same key."""

    def transact_and_read(self, transaction: Transaction, reads: Sequence[Read]) -> tuple[int, tuple[Found, ...]]:
        """A transaction, and right after it, whether it took effect or not, some reads: in one exchange. The revision
        at which it took effect (0: it did not), and what was found."""

    def grant_lease(self, ttl_s: int, lease: int = 0) -> int:
        """A new lease's id; with `lease`, that one, which may be there already and then keeps the time it has."""

    def refresh_lease(self, lease: int) -> int:
        """Renew it; the seconds it has now, 0 when it is gone."""

    def revoke_lease(self, lease: int) -> None:
        """End it and delete the keys under it. One that is gone is fine."""

    def watch(self, prefixes: Sequence[str], revision: int) -> Watch:
        """Changes of all keys under the prefixes, from `revision` on (inclusive)."""

    def alarms(self) -> tuple[str, ...]:
        """What etcd itself complains of, such as NOSPACE, upon which it takes no more writes."""

    def close(self) -> None:
        """Let go of the connection."""
