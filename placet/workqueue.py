"""A queue of instances to look at. Each is in it once, and with one worker at a time.

A key added while a worker has it is queued once more when that worker is done; a key added while it waits stays
where it is. The same three sets as in other controllers of this kind: waiting, in work, and to be done again.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable


class WorkQueue:
    """Thread-safe. Invariants: a key in `_order` is in `_waiting` and the other way round; one in `_again` is in
    `_working`; none is in both `_waiting` and `_working`; `_due` has each later key once, at its earliest time, and
    what stands in `_later` with another time is void."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._order: deque[str] = deque()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._closed = False

    def add(self, key: str) -> None:
        """Have `key` looked at, soon."""
        with self._changed:
            self._add(key)

    def add_later(self, key: str, delay_s: float) -> None:
        """Have `key` looked at after a while."""
        with self._changed:
            due = self._monotonic() + delay_s
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._later, (due, key))
                self._changed.notify()

    def take(self) -> str | None:
        """The next key, waiting for one; None once the queue is closed. Its taker must call `done`."""
        with self._changed:
            while not self._closed:
                self._ripen()
                if self._order:
                    key = self._order.popleft()
                    self._waiting.remove(key)
                    self._working.add(key)
                    return key
                self._changed.wait(self._until_ripe())
            return None

    def done(self, key: str) -> None:
        """The taker has finished with `key`."""
        with self._changed:
            self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self._add(key)

    def idle(self) -> bool:
        """Whether nothing waits, is in work, or is due later."""
        with self._changed:
            return not (self._waiting or self._working or self._due)

    def close(self) -> None:
        """Let every taker go home."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, key: str) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._order.append(key)
            self._changed.notify()

    def _ripen(self) -> None:
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            due, key = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key)

    def _until_ripe(self) -> float | None:
        return max(0.0, self._later[0][0] - self._monotonic()) if self._later else None
