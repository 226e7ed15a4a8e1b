"""A few threads that serve what thousands of nodes have to do, each kind in a queue of its own.

So a Placement that does not answer holds up audits, and no beat of a heart; and no change waits behind a list.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from placet.log import warn
from placet.workqueue import WorkQueue

# does what a key names; the seconds until it is to be done again, None for not of itself
Serve = Callable[[str], "float | None"]


class Pool:
    """A queue and its threads. Keys begin with the number of their node. What fails is served again after `retry_s`,
    None for what somebody else names again."""

    def __init__(self, name: str, threads: int, serve: Serve, retry_s: float | None = None) -> None:
        self._serve = serve
        self._retry_s = retry_s
        self._queue = WorkQueue()
        self.add = self._queue.add
        self.add_later = self._queue.add_later
        self.idle = self._queue.idle
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        """Serve until `close`."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Begin nothing more."""
        self._queue.close()

    def join(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)

    def _run(self) -> None:
        while (key := self._queue.take()) is not None:
            again_s = self._retry_s
            try:
                again_s = self._serve(key)
            except Exception as problem:  # the thread's edge: it goes on
                warn("duty-failed", key=key, reason=repr(problem))
            if again_s is not None:
                self._queue.add_later(key, again_s)
            self._queue.done(key)


class Share:
    """A node's share of a pool: it adds keys as if the queue were its own."""

    def __init__(self, pool: Pool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    def add(self, key: str) -> None:
        """Have it served soon."""
        self._pool.add(f"{self._prefix} {key}")

    def add_later(self, key: str, delay_s: float) -> None:
        """Have it served after a while."""
        self._pool.add_later(f"{self._prefix} {key}", delay_s)


@dataclass(frozen=True)
class Pools:
    """All of a process: looks at instances, watches and lists, leases, audits, errands."""

    looks: Pool
    watches: Pool
    beats: Pool
    audits: Pool
    errands: Pool

    @property
    def all(self) -> tuple[Pool, ...]:
        """Each of them."""
        return (self.looks, self.watches, self.beats, self.audits, self.errands)
