"""Waiting on a key of etcd: what it holds now, then each change, until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from placet.errors import Unreachable, WatchLost
from placet.store import Entry, Store

RESYNC_S = 10.0
PAUSE_S = 0.3


def follow(
    store: Store, key: str, deadline: float, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[Entry | None]:
    """Each value the key has, the present one first, None while it does not exist.

    Ends at `deadline`, by `monotonic`. A lost watch is taken up again from a fresh read, and there is one every
    ten seconds anyway, so no change is waited for in vain.
    """
    read = False
    while True:
        try:
            listing, read = store.scan(key), True
        except Unreachable:
            if not read or monotonic() >= deadline:
                raise
            time.sleep(PAUSE_S)
            continue
        yield next((entry for entry in listing.entries if entry.key == key), None)
        watch = store.watch([key], listing.revision + 1)
        try:
            resync = min(deadline, monotonic() + RESYNC_S)
            while (left := resync - monotonic()) > 0:
                for event in watch.wait(left):
                    if event.key == key:
                        yield event.entry
        except WatchLost:
            time.sleep(min(PAUSE_S, max(0.0, deadline - monotonic())))  # then read again: the loop's next turn
        finally:
            watch.close()
        if monotonic() >= deadline:
            return
