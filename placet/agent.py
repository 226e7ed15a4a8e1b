"""The node's agent: a watcher that queues, workers that do, an auditor that checks, a heart that beats.

Each has its threads here and its thinking elsewhere: watching.py, worker.py, auditor.py, heartbeat.py. What operators
ask for once has its own (operations.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from random import Random

from placet import keys
from placet.auditor import Auditor
from placet.drivers import Driver
from placet.errors import PlacetError, Unreachable, WatchLost
from placet.heartbeat import Heartbeat
from placet.log import log, warn
from placet.operations import Operations
from placet.published import PublishedWatch
from placet.store import Store
from placet.watching import Watcher
from placet.worker import Worker
from placet.workqueue import WorkQueue

RETRY_S = 0.5
MAX_RETRY_S = 10.0
FINISH_S = 20.0


class Agent:
    """`run` blocks until `stop` is set; guests keep running after it."""

    def __init__(
        self,
        node: str,
        store: Store,
        driver: Driver,
        worker: Worker,
        heartbeat: Heartbeat,
        watcher: Watcher,
        auditor: Auditor,
        operations: Operations,
        ensure_metadata: Callable[[], object],
        published: PublishedWatch,
        queue: WorkQueue,
        workers: int,
        random: Random,
        monotonic: Callable[[], float],
    ) -> None:
        self._node = node
        self._store = store
        self._driver = driver
        self._worker = worker
        self._heartbeat = heartbeat
        self._watcher = watcher
        self._auditor = auditor
        self._operations = operations
        self._ensure_metadata = ensure_metadata
        self._published = published
        self._workers = workers
        self._random = random
        self._monotonic = monotonic
        self._queue = queue
        self._failures: dict[str, int] = {}
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop; then finish or park what is under way."""
        self._stop = stop
        self._carry_out_destroys()
        self._driver.subscribe(self._queue.add)
        workers = [threading.Thread(target=self._work, name=f"worker-{n}", daemon=True) for n in range(self._workers)]
        watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        auditor = threading.Thread(target=self._auditor.run, args=(stop,), name="auditor", daemon=True)
        published = threading.Thread(target=self._published.run, args=(stop,), name="published", daemon=True)
        self._serve_metadata()
        if self._heartbeat.beat(self._watcher.used):
            log("ready", node=self._node)
        for thread in [*workers, watcher, auditor, published]:
            thread.start()
        self._operations.start()
        self._beat_until_stopped()
        self._heartbeat.stop()
        self._queue.close()
        self._operations.close()
        self._auditor.hurry()
        deadline = self._monotonic() + FINISH_S
        for thread in [*workers, auditor]:
            thread.join(max(0.0, deadline - self._monotonic()))
        self._worker.close()

    def _beat_until_stopped(self) -> None:
        beaten_at = self._monotonic()
        while not self._stop.wait(max(0.0, beaten_at + self._heartbeat.interval_s - self._monotonic())):
            beaten_at = self._monotonic()
            self._heartbeat.beat(self._watcher.used)
            self._serve_metadata()

    def _serve_metadata(self) -> None:
        try:
            self._ensure_metadata()
        except OSError as problem:
            warn("metadata-service-not-started", reason=problem)

    def _carry_out_destroys(self) -> None:
        """Before the node says that it is alive: what must go, goes first."""
        for entry in self._store.scan(keys.destroys(self._node)).entries:
            self._look_at(keys.last(entry.key))

    def _work(self) -> None:
        while (instance := self._queue.take()) is not None:
            try:
                self._look_at(instance)
            finally:
                self._queue.done(instance)

    def _look_at(self, instance: str) -> None:
        """One reconcile. What may work later is tried again, ever more slowly; a worker never dies of it."""
        try:
            self._worker.reconcile(instance)
            self._failures.pop(instance, None)
        except Exception as problem:  # an edge: it reports whatever it is
            failures = self._failures[instance] = self._failures.get(instance, 0) + 1
            delay_s = min(MAX_RETRY_S, RETRY_S * 2 ** min(failures - 1, 10)) * self._random.uniform(0.8, 1.2)
            known = isinstance(problem, PlacetError)
            warn("retry", instance=instance, reason=problem if known else repr(problem), in_s=round(delay_s, 1))
            self._queue.add_later(instance, delay_s)
            with contextlib.suppress(PlacetError):  # etcd itself may be what does not answer
                self._worker.say_why(instance, str(problem) if known else "an error that the node's log tells")

    def _watch(self) -> None:
        doubtful = False
        while not self._stop.is_set():
            try:
                self._watcher.step(1.0)
                if doubtful:  # etcd answers again: is it still the one we know?
                    self._auditor.hurry()
                doubtful = False
            except (WatchLost, Unreachable) as problem:
                doubtful = True
                self._pause("watch-lost", problem, RETRY_S * self._random.uniform(0.5, 1.5))
            except PlacetError as problem:
                self._pause("list-failed", problem, RETRY_S * 5)
            except Exception as problem:  # the thread's edge: it must not die, or nothing would be seen again
                self._watcher.doubt()
                self._pause("watcher-failed", problem, RETRY_S * 5)
        self._watcher.close()

    def _pause(self, event: str, problem: Exception, pause_s: float) -> None:
        if not self._stop.is_set():
            warn(event, reason=problem if isinstance(problem, PlacetError) else repr(problem))
            self._stop.wait(pause_s)
