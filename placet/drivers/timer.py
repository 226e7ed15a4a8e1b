"""Many timers, one thread, and none while nothing is due."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from placet.log import warn


class SharedTimer:
    """Calls back from its own thread, in the order in which the calls are due. Callbacks must not block."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running = False

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` after `delay_s` seconds."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), callback))
            if self._running:
                self._wake.notify()
                return
            self._running = True
        threading.Thread(target=self._run, name="shared-timer", daemon=True).start()

    def _run(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception as problem:  # an edge: the other timers go on
                warn("timer-callback-failed", reason=repr(problem))

    def _next(self) -> Callable[[], None] | None:
        """Sleeps until the first is due; None when there is none left, and the thread ends."""
        with self._wake:
            while self._due:
                wait_s = self._due[0][0] - time.monotonic()
                if wait_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._wake.wait(wait_s)
            self._running = False
            return None
