"""What a node's agent does again and again: each duty is a call, and when it is due again is its answer.

Who calls is somebody else's business: agent.py gives each duty a thread, placet/simulation shares a few threads among
thousands of nodes. What fails is told and tried again, ever more slowly; a duty never raises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random

from placet import keys
from placet.auditor import Auditor
from placet.errors import PlacetError, Unreachable, WatchLost
from placet.heartbeat import Heartbeat
from placet.log import warn
from placet.store import Store
from placet.watching import Watcher
from placet.worker import Worker

RETRY_S = 0.5
MAX_RETRY_S = 10.0


class Duties:
    """One node's. `look_at` may be called by many threads for different instances, the others by one at a time each.

    `look_later` has an instance looked at after some seconds. What all nodes of a process lose at once (etcd) they ask
    for again over `spread_s` seconds.
    """

    def __init__(
        self,
        worker: Worker,
        heartbeat: Heartbeat,
        watcher: Watcher,
        auditor: Auditor,
        look_later: Callable[[str, float], None],
        random: Random,
        spread_s: float = 2 * RETRY_S,
    ) -> None:
        self._worker = worker
        self._heartbeat = heartbeat
        self._watcher = watcher
        self._auditor = auditor
        self._look_later = look_later
        self._random = random
        self._spread_s = spread_s
        self._failures: dict[str, int] = {}
        self._doubtful = False
        self.is_ending = False

    def carry_out_destroys(self, node: str, store: Store) -> None:
        """Before the node says that it is alive: what must go, goes first. Raises Unreachable."""
        for entry in store.scan(keys.destroys(node)).entries:
            self.look_at(keys.last(entry.key))

    def look_at(self, instance: str) -> None:
        """One reconcile."""
        try:
            self._worker.reconcile(instance)
            self._failures.pop(instance, None)
        except Exception as problem:  # an edge: it reports whatever it is
            failures = self._failures[instance] = self._failures.get(instance, 0) + 1
            delay_s = min(MAX_RETRY_S, RETRY_S * 2 ** min(failures - 1, 10)) * self._random.uniform(0.8, 1.2)
            known = isinstance(problem, PlacetError)
            warn("retry", instance=instance, reason=problem if known else repr(problem), in_s=round(delay_s, 1))
            self._look_later(instance, delay_s)
            with contextlib.suppress(PlacetError):  # etcd itself may be what does not answer
                self._worker.say_why(instance, str(problem) if known else "an error that the node's log tells")

    def beat(self) -> float:
        """Say that the node is alive."""
        self._heartbeat.beat(self._watcher.used)
        return self._heartbeat.interval_s

    def audit(self) -> float:
        """Do the audit that is due, if one is."""
        return self._auditor.turn()

    def watch(self, timeout_s: float) -> float:
        """Pass on what changes within `timeout_s`, or list; the seconds to pause before the next call."""
        try:
            self._watcher.step(timeout_s)
        except (WatchLost, Unreachable) as problem:
            self._doubtful = True
            return self._pause("watch-lost", problem, RETRY_S / 2 + self._random.uniform(0, self._spread_s / 2))
        except PlacetError as problem:
            return self._pause("list-failed", problem, RETRY_S * 5)
        except Exception as problem:  # an edge: watching must go on, or nothing would be seen again
            self._watcher.doubt()
            return self._pause("watcher-failed", problem, RETRY_S * 5)
        if self._doubtful:  # etcd answers again: is it still the one we know?
            self._auditor.hurry()
        self._doubtful = False
        return 0.0

    def _pause(self, event: str, problem: Exception, pause_s: float) -> float:
        if not self.is_ending:
            warn(event, reason=problem if isinstance(problem, PlacetError) else repr(problem))
        return pause_s
