"""Telling the cloud that a node is up: `alive/<node>` under a lease, and `seen`, which outlives it.

The lease is renewed by monotonic time, so that a jump of the clock ends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from placet import keys
from placet.errors import PlacetError
from placet.log import log, warn
from placet.model import encode
from placet.node_records import Alive, Seen
from placet.schema import changed
from placet.store import Absent, Present, Put, Store, Transaction

SEEN_EVERY_S = 30.0


class Heartbeat:
    """`beat` is called again and again by one thread; it never raises, an outage is told once and then waited out.
    `restore` may come from another."""

    def __init__(
        self, store: Store, alive: Alive, ttl_s: int, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._alive = alive
        self._ttl_s = ttl_s
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._lease = 0
        self._written: Alive | None = None
        self._seen_at = float("-inf")
        self._failing = False

    @property
    def interval_s(self) -> float:
        """How often to beat: three chances within the lease's time."""
        return self._ttl_s / 3

    def begin(self, used: dict[str, int], lease: int) -> Transaction:
        """What a first beat writes under `lease`, for whoever begins many nodes at once, and then calls `begun`."""
        alive = changed(self._alive, used=used)
        return Transaction([], [Put(keys.alive(alive.node), encode(alive), lease), self._seen()])

    def begun(self, used: dict[str, int], lease: int) -> None:
        """What `begin` gave is in etcd: the next beat renews it."""
        self._lease, self._written = lease, changed(self._alive, used=used)
        self._seen_at = self._monotonic()

    def beat(self, used: dict[str, int]) -> bool:
        """Renew the lease, or take a new one; write what has changed. Tells whether etcd has it."""
        try:
            with self._lock:
                self._renew(changed(self._alive, used=used))
            self._say_seen()
        except PlacetError as problem:
            if not self._failing:
                warn("heartbeat-failed", reason=problem)
            self._failing = True
            return False
        if self._failing:
            log("heartbeat-back")
        self._failing = False
        return True

    def restore(self) -> None:
        """Put `alive` back at once if somebody deleted it under a lease that lives. Raises PlacetError."""
        with self._lock:
            key = keys.alive(self._alive.node)
            if self._written is not None and self._store.get(key) is None:
                self._store.transact([Absent(key)], [Put(key, encode(self._written), self._lease)])

    def stop(self) -> bool:
        """Say goodbye: the lease and `alive` with it end now. Tells whether etcd has heard it."""
        try:
            if self._lease:
                self._store.revoke_lease(self._lease)
            self._store.transact([], [self._seen(stopped=True)])
        except PlacetError as problem:
            warn("goodbye-failed", reason=problem)
            return False
        return True

    def _renew(self, alive: Alive) -> None:
        if self._failing:  # what is back may be an older backup of that etcd, with our lease and without our key
            self._written = None
        if self._lease == 0 or self._store.refresh_lease(self._lease) == 0:
            self._lease, self._written = self._store.grant_lease(self._ttl_s), None
            log("lease", node=alive.node, ttl_s=self._ttl_s)
        if alive != self._written:
            self._store.transact([], [Put(keys.alive(alive.node), encode(alive), self._lease)])
            self._written = alive

    def _say_seen(self) -> None:
        now = self._monotonic()
        if now - self._seen_at >= SEEN_EVERY_S:
            seen = self._seen()
            if not self._store.transact([Present(keys.alive(self._alive.node))], [seen]):
                self._written = None  # somebody deleted it: the next beat puts it back
                self._store.transact([], [seen])
            self._seen_at = now

    def _seen(self, stopped: bool = False) -> Put:
        return Put(keys.seen(self._alive.node), encode(Seen(self._alive.node, self._clock(), stopped)))
