"""Many watches on one stream of etcd's: what thousands of simulated nodes of one process share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from placet.store.watch import EtcdWatch, WatchStream


class WatchHub:
    """Thread-safe. When its stream ends all its watches are lost, and the next `watch` opens another."""

    def __init__(self, open_stream: Callable[[], WatchStream]) -> None:
        self._open_stream = open_stream
        self._lock = threading.Lock()
        self._stream: WatchStream | None = None

    def watch(self, prefixes: Sequence[str], revision: int, notify: Callable[[], None]) -> EtcdWatch:
        """As placet.store.Store.watch. `notify` is called, from another thread, whenever a `wait` of no time would
        bring changes or raise; it must not block."""
        with self._lock:
            if self._stream is None or self._stream.has_ended:
                self._stream = self._open_stream()
            return self._stream.watch(prefixes, revision, notify)

    def check(self) -> None:
        """To be called now and then, since nobody may be waiting: a silent stream is ended."""
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.check()

    def close(self) -> None:
        """Lose all its watches."""
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.end("closed")
