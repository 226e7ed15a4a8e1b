"""What a node is asked to do once, each kind at a desk of its own: a long download holds up no audit and no console.

The watcher names operations, a thread here looks what kind they are of. Audits go to the auditor, since only one
sweeps at a time; the other kinds to a Desk with a few threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from placet.errand_records import Errand
from placet.errands import Errands
from placet.errors import Fault, PlacetError
from placet.log import warn
from placet.model import BadRecord, decode
from placet.node_records import FaultRecord
from placet.schema import nearest
from placet.store import Entry
from placet.workqueue import WorkQueue

# tells the asker how far it has come; False when that one has gone
Tell = Callable[[object], bool]
# does an errand and makes its answer, None when there is nobody to tell. Raises PlacetError
Handler = Callable[[Errand, Tell], object]


@dataclass(frozen=True)
class Refusal:
    """Why there is no answer. It reads as any kind of answer that can have a fault."""

    node: str
    at: float
    fault: FaultRecord
    instance: str = ""
    done: bool = True


class Queue(Protocol):
    """Where operations wait; a WorkQueue, or one that many nodes share."""

    def add(self, key: str) -> None: ...


class Desk:
    """Carries out the errands of one kind, so many at a time. One that is asked for again meanwhile is in work once.

    With a `queue` somebody else calls `serve` for what is in it, instead of threads that `start` makes.
    """

    def __init__(
        self,
        kind: str,
        node: str,
        errands: Errands,
        handle: Handler,
        clock: Callable[[], float],
        threads: int,
        queue: Queue | None = None,
    ) -> None:
        self._kind = kind
        self._node = node
        self._errands = errands
        self._handle = handle
        self._clock = clock
        self._threads = threads
        self._queue = WorkQueue()
        self.ask = (queue or self._queue).add

    def start(self) -> None:
        """Serve until `close`."""
        for number in range(self._threads):
            _start(f"{self._kind}-desk-{number}", self._queue, self.serve)

    def close(self) -> None:
        """Begin nothing more; what is under way ends with the process."""
        self._queue.close()

    def serve(self, operation: str) -> None:
        """Do one. Raises Unreachable."""
        question = self._errands.read(operation)
        if question is None:
            return
        answer = self._answer(question)
        if answer is not None:
            self._errands.answer(question, answer)

    def _answer(self, question: Entry) -> object:
        try:
            errand = decode(Errand, question.value, question.key)
            return self._handle(errand, lambda report: self._errands.answer(question, report))
        except PlacetError as problem:
            code = problem.code if isinstance(problem, Fault) else "failed"
            return Refusal(self._node, self._clock(), FaultRecord(code, self._kind, str(problem)))
        except Exception as problem:  # whoever asked must hear that nothing comes
            warn("errand-failed", kind=self._kind, reason=repr(problem))
            told = FaultRecord("failed", self._kind, "an error that the node's log tells")
            return Refusal(self._node, self._clock(), told)


class Operations:
    """`ask` comes from any thread. `auditor` takes audits, `desks` the other kinds, each by the operation's id.

    With a `queue` somebody else calls `dispatch` for what is in it, instead of a thread that `start` makes.
    """

    def __init__(
        self,
        node: str,
        errands: Errands,
        auditor: Callable[[str], None],
        desks: Mapping[str, Desk],
        clock: Callable[[], float],
        queue: Queue | None = None,
    ) -> None:
        self._node = node
        self._errands = errands
        self._desks = desks
        self._takers = {"audit": auditor, **{kind: desk.ask for kind, desk in desks.items()}}
        self._clock = clock
        self._queue = WorkQueue()
        self.ask = (queue or self._queue).add

    def start(self) -> None:
        """Serve until `close`."""
        for desk in self._desks.values():
            desk.start()
        _start("operations", self._queue, self.dispatch)

    def close(self) -> None:
        """Take nothing more."""
        self._queue.close()
        for desk in self._desks.values():
            desk.close()

    def dispatch(self, operation: str) -> None:
        """Hand one to who does it; what nobody can do is refused. Raises Unreachable."""
        question = self._errands.read(operation)
        if question is None:
            return
        try:
            kind = decode(Errand, question.value, question.key).kind
        except BadRecord as bad:
            warn("bad-operation", reason=bad)
            self._refuse(question, "bad-errand", f"node {self._node} cannot read what was asked: {bad}")
            return
        if kind in self._takers:
            self._takers[kind](operation)
            return
        warn("unknown-operation", operation=operation, kind=kind)
        known = nearest(kind, self._takers)
        self._refuse(question, "unknown-errand", f"node {self._node} does no {kind!r}{known}; use programs of one age")

    def _refuse(self, question: Entry, code: str, message: str) -> None:
        fault = FaultRecord(code, "operation", message)
        self._errands.answer(question, Refusal(self._node, self._clock(), fault))


def _start(name: str, queue: WorkQueue, serve: Callable[[str], None]) -> None:
    """A thread that serves a queue until that is closed. What fails is named again by the watcher's next list."""

    def run() -> None:
        while (operation := queue.take()) is not None:
            try:
                serve(operation)
            except Exception as problem:  # the thread's edge: it goes on
                reason = problem if isinstance(problem, PlacetError) else repr(problem)
                warn("operation-failed", at=name, operation=operation, reason=reason)
            finally:
                queue.done(operation)

    threading.Thread(target=run, name=name, daemon=True).start()
