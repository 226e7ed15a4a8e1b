"""When a node audits itself: every minute or so, after the watch was lost, and when a doctor asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

from placet import keys
from placet.errand_records import Errand
from placet.errands import Errands
from placet.errors import PlacetError
from placet.log import warn
from placet.model import BadRecord, decode
from placet.store import Range, Store
from placet.sweep import Sweep

AUDIT = "audit"
EVERY_S = 60.0
NODES_PER_SECOND = 20
RETRY_S = 5.0


class Auditor:
    """One node's. `ask` and `hurry` come from any thread. `run` has a thread of its own; or else somebody calls `turn`,
    one at a time, whenever that is due and, told by `woken`, whenever it may be due earlier."""

    def __init__(
        self,
        node: str,
        store: Store,
        sweep: Sweep,
        monotonic: Callable[[], float],
        random: Random,
        woken: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._errands = Errands(node, store)
        self._sweep = sweep
        self._monotonic = monotonic
        self._random = random
        self._woken = woken
        self._wake = threading.Condition()
        self._asked: list[str] = []
        self._due = monotonic()

    def ask(self, operation: str) -> None:
        """Somebody wrote an errand of kind `audit` for this node."""
        with self._wake:
            if operation in self._asked:
                return
            self._asked.append(operation)
            self._wake.notify()
        self._woken()

    def hurry(self) -> None:
        """What was known may be wrong now: audit soon."""
        with self._wake:
            self._due = min(self._due, self._monotonic())
            self._wake.notify()
        self._woken()

    def put_off(self, delay_s: float) -> None:
        """Nothing that was not asked for is due before that."""
        self._due = self._monotonic() + delay_s

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set and `hurry` was called."""
        while not stop.is_set():
            with self._wake:
                while (left_s := self._left_s()) > 0:
                    self._wake.wait(left_s)
            if not stop.is_set():
                self.turn()

    def turn(self) -> float:
        """Do what is due now, if anything is; the seconds until something will be."""
        with self._wake:
            if self._left_s() > 0:
                return self._left_s()
            asked = self._asked.pop(0) if self._asked else None
        try:
            self.step(asked)
        except PlacetError as problem:
            warn("audit-failed", reason=problem)
            self.put_off(RETRY_S * self._random.uniform(0.8, 1.2))
        except Exception as problem:  # an edge: audits go on
            warn("audit-failed", reason=repr(problem))
            self.put_off(EVERY_S)
        return self._left_s()

    def step(self, asked: str | None) -> None:
        """Answer one operation, or do what is due without one. Raises PlacetError."""
        if asked is not None:
            self._answer(asked)
            return
        nodes = self._store.read(Range(keys.ALIVE, limit=1))[0].count
        self.put_off(max(EVERY_S, nodes / NODES_PER_SECOND) * self._random.uniform(0.9, 1.1))
        self._sweep.run()  # after that, so that a `hurry` meanwhile is heeded

    def _left_s(self) -> float:
        return 0.0 if self._asked else max(0.0, self._due - self._monotonic())

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
