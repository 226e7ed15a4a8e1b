"""The node's agent: a watcher that queues, workers that do, an auditor that checks, a heart that beats.

Each has its threads here and its thinking elsewhere: duties.py calls watching.py, worker.py, auditor.py, heartbeat.py.
What operators ask for once has its own (operations.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

from placet.auditor import Auditor
from placet.drivers import Driver
from placet.duties import Duties
from placet.heartbeat import Heartbeat
from placet.log import log, warn
from placet.operations import Operations
from placet.published import PublishedWatch
from placet.store import Store
from placet.watching import Watcher
from placet.worker import Worker
from placet.workqueue import WorkQueue

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
        self._auditor = auditor
        self._operations = operations
        self._ensure_metadata = ensure_metadata
        self._published = published
        self._workers = workers
        self._monotonic = monotonic
        self._queue = queue
        self._watcher = watcher
        self._duties = Duties(worker, heartbeat, watcher, auditor, queue.add_later, random)
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop; then finish or park what is under way."""
        self._stop = stop
        self._duties.carry_out_destroys(self._node, self._store)
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
        self._duties.is_ending = True
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
            self._duties.beat()
            self._serve_metadata()

    def _serve_metadata(self) -> None:
        try:
            self._ensure_metadata()
        except OSError as problem:
            warn("metadata-service-not-started", reason=problem)

    def _work(self) -> None:
        while (instance := self._queue.take()) is not None:
            try:
                self._duties.look_at(instance)
            finally:
                self._queue.done(instance)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._duties.watch(1.0))
        self._watcher.close()
