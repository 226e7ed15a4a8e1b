"""Placing instances: the library's face. Steps 1 to 3 of a request's way.

One at a time (placing.py), or many in batches (batches.py); those who ask at the same time are put together.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import chain, islice
from random import Random

from placet.batches import SIZE, Batches, Outcome, Refused
from placet.choosing import Chooser
from placet.claims import Claims
from placet.committing import Commits
from placet.errors import NotYet, PlacetError
from placet.offers import Offers
from placet.placement import Placement
from placet.placing import Placed, Placing
from placet.request import Request
from placet.sharing import Sharing
from placet.store import Store
from placet.story import Story

AT_ONCE = 2  # batches under way: while Placement is at one, the other's intents or commits are made


class _Ticket:
    """One caller's request. He is called when there is an outcome, or when it is on him to serve those who wait."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.outcome: Placed | PlacetError | None = None
        self.leads = False
        self.called = threading.Event()
        self.served = threading.Event()

    def tell(self, outcome: Placed | PlacetError | None) -> None:
        self.outcome = outcome
        self.served.set()
        self.called.set()

    def lead(self) -> None:
        self.leads = True
        self.called.set()


class Scheduler:
    """Safe to use from many threads and many processes at once. `clock` gives seconds since the epoch, `monotonic`
    those that deadlines are measured by; `policy` is one of placet.policies; `beside` runs what is asked of Placement
    while etcd is asked."""

    def __init__(
        self,
        store: Store,
        placement: Placement,
        claims: Claims,
        story: Story,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        random: Random,
        sharing: Sharing,
        beside: Executor,
        policy: str = "spread",
    ) -> None:
        chooser = Chooser(store, placement, random, monotonic, policy, sharing, beside)
        commits = Commits(story, clock)
        placing = Placing(store, claims, commits, chooser, clock, monotonic)
        self._batches = Batches(store, claims, commits, placing, Offers(chooser, random, monotonic), policy)
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._leaders = 0

    def create(self, request: Request) -> Placed:
        """Place one instance. The same request again gives the same answer.

        Raises NothingFits, Conflict (the UUID or the name is taken), BadQuery, NotYet, Unreachable.
        """
        ticket = _Ticket(request)
        with self._lock:
            self._waiting.append(ticket)
            if self._leaders < AT_ONCE:
                self._leaders += 1
                ticket.lead()
        ticket.called.wait()
        if ticket.leads:
            self._lead()
        ticket.served.wait()
        if isinstance(ticket.outcome, Placed):
            return ticket.outcome
        raise ticket.outcome or NotYet(f"placing {request.instance} was interrupted; ask again")

    def create_many(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Place many: pairs of a request and a Placed, or the error that `create` would raise, as they land. Whoever
        stops listening lets what is under way come to its end."""
        left, refused = iter(requests), Refused()
        batches = iter(lambda: list(islice(left, SIZE)), [])
        first, second = next(batches, []), next(batches, [])
        if not second:
            yield from self._batches.place(first, refused)
            return
        yield from self._side_by_side(chain([first, second], batches), refused)

    def _side_by_side(self, batches: Iterator[Sequence[Request]], refused: Refused) -> Iterator[Outcome]:
        """AT_ONCE batches at a time, in threads of their own."""
        landed: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
        lock, stopped = threading.Lock(), threading.Event()

        def work() -> None:
            try:
                while not stopped.is_set():
                    with lock:
                        batch = next(batches, None)
                    if batch is None:
                        break
                    for outcome in self._batches.place(batch, refused):
                        landed.put(outcome)
            except BaseException as problem:  # the thread's edge: whoever listens raises it
                landed.put(problem)
            landed.put(None)

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="batch") as pool:
            try:
                working = [pool.submit(work) for _ in range(AT_ONCE)]
                while working:
                    found = landed.get()
                    if found is None:
                        working.pop()
                    elif isinstance(found, BaseException):
                        raise found
                    else:
                        yield found
            finally:
                stopped.set()

    def _lead(self) -> None:
        """Place those who wait by now, together; then it is the turn of the first of those who came meanwhile."""
        with self._lock:
            tickets = [self._waiting.popleft() for _ in range(min(SIZE, len(self._waiting)))]
        by_request = {id(ticket.request): ticket for ticket in tickets}
        try:
            for request, outcome in self._batches.place([ticket.request for ticket in tickets], Refused()):
                by_request[id(request)].tell(outcome)
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting[0].lead()
                else:
                    self._leaders -= 1
            for ticket in tickets:
                if not ticket.served.is_set():
                    ticket.tell(None)
