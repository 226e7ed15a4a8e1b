"""Which resource classes pools offer that several nodes share: of these no node may be asked about alone.

Step 1 of a request's way. Looked up once a minute; for the first time in the background, while a command still loads
what it needs besides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future

from placet.placement import Placement

KNOWN_S = 60.0


class Sharing:
    """Safe to use from many threads. `monotonic` gives seconds; `beside` runs the first lookup."""

    def __init__(self, placement: Placement, monotonic: Callable[[], float], beside: Executor) -> None:
        self._placement = placement
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._first: Future[frozenset[str]] | None = beside.submit(placement.shared_classes)
        self._known: frozenset[str] = frozenset()
        self._until = float("-inf")

    def classes(self) -> frozenset[str]:
        """As of at most a minute ago. Raises Unreachable or Refused."""
        with self._lock:
            now = self._monotonic()
            if now >= self._until:
                first, self._first = self._first, None
                self._known = first.result() if first else self._placement.shared_classes()
                self._until = now + KNOWN_S
            return self._known
