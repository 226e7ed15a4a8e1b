"""When a node audits itself: every minute or so, after the watch was lost, and when a doctor asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

from placet import keys
from placet.errands import Errands
from placet.errors import PlacetError
from placet.log import warn
from placet.model import BadRecord, Errand, decode
from placet.store import Store
from placet.sweep import Sweep

AUDIT = "audit"
EVERY_S = 60.0
NODES_PER_SECOND = 20
RETRY_S = 5.0


class Auditor:
    """One node's. `ask` and `hurry` come from any thread, `run` has a thread of its own."""

    def __init__(self, node: str, store: Store, sweep: Sweep, monotonic: Callable[[], float], random: Random) -> None:
        self._store = store
        self._errands = Errands(node, store)
        self._sweep = sweep
        self._monotonic = monotonic
        self._random = random
        self._wake = threading.Condition()
        self._asked: list[str] = []
        self._due = monotonic()

    def ask(self, operation: str) -> None:
        """Somebody wrote an errand of kind `audit` for this node."""
        with self._wake:
            if operation not in self._asked:
                self._asked.append(operation)
                self._wake.notify()

    def hurry(self) -> None:
        """What was known may be wrong now: audit soon."""
        with self._wake:
            self._due = min(self._due, self._monotonic())
            self._wake.notify()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set and `hurry` was called."""
        while not stop.is_set():
            asked = self._wait()
            if stop.is_set():
                return
            try:
                self.step(asked)
            except PlacetError as problem:
                warn("audit-failed", reason=problem)
                self._due = self._monotonic() + RETRY_S * self._random.uniform(0.8, 1.2)
            except Exception as problem:  # the thread's edge: audits go on
                warn("audit-failed", reason=repr(problem))
                self._due = self._monotonic() + EVERY_S

    def step(self, asked: str | None) -> None:
        """Answer one operation, or do what is due without one. Raises PlacetError."""
        if asked is not None:
            self._answer(asked)
            return
        nodes = len(self._store.scan(keys.ALIVE).entries)
        self._due = self._monotonic() + max(EVERY_S, nodes / NODES_PER_SECOND) * self._random.uniform(0.9, 1.1)
        self._sweep.run()  # after that, so that a `hurry` meanwhile is heeded

    def _wait(self) -> str | None:
        with self._wake:
            while not self._asked and (left := self._due - self._monotonic()) > 0:
                self._wake.wait(left)
            return self._asked.pop(0) if self._asked else None

    def _answer(self, operation: str) -> None:
        question = self._errands.read(operation)
        if question is None:
            return
        try:
            errand = decode(Errand, question.value, question.key)
        except BadRecord as bad:
            warn("bad-operation", reason=bad)
            return
        if errand.kind == AUDIT:
            self._errands.answer(question, self._sweep.run(repair=errand.repair, accept=errand.repair))
