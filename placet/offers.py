"""Candidates for many equal requests: each node is asked about once, and then takes as many as it has room for.

Step 1 of a request's way, for batches. What Placement said of a node a moment ago holds for the next equal request,
too, but for the room that was taken since: ours is counted here, others' makes the claim fail.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from placet.candidates import Candidate
from placet.choosing import Bounds, Chooser, Option
from placet.policies import POLICIES
from placet.query import Query

FRESH_S = 5.0
SAMPLE = 64
ASKED_A_BATCH = 2  # nodes that are newly asked about for one batch, each alone: a tenth of what its claims take
MANY = 8  # nodes that are known: from then on only one more is asked about for a batch
FEW_NODES = 2048  # up to so many, asking about all at once takes no longer than about those that would be asked alone


@dataclass
class Offer:
    """What a node can take of one kind of request: `taken` of ours since Placement said so, `at` some second."""

    option: Option
    at: float
    taken: int = 0

    @property
    def room(self) -> int:
        """How many more there is room for."""
        rooms = [(capacity - used) // amount for capacity, used, amount in _uses(self.option.candidate)]
        return min(rooms, default=0) - self.taken

    @property
    def left(self) -> float:
        """The share of the scarcest resource that one more would leave."""
        uses = _uses(self.option.candidate)
        return min(((capacity - used - (self.taken + 1) * n) / capacity for capacity, used, n in uses), default=0.0)


Offering = dict[str, Offer]  # by node


class Looked(NamedTuple):
    """How many nodes were asked about, of all that are alive."""

    looked: int
    alive: int


class Offers:
    """Shared by all batches of a scheduler. `monotonic` gives seconds."""

    def __init__(self, chooser: Chooser, random: Random, monotonic: Callable[[], float]) -> None:
        self._chooser = chooser
        self._random = random
        self._monotonic = monotonic
        self._known: dict[tuple[tuple[str, str], ...], Offering] = {}
        self._lock = threading.Lock()

    def take(self, query: Query, count: int) -> tuple[list[Option], Looked]:
        """Options for up to `count` equal requests, the best by the policy first, and at how many nodes it
        looked. Fewer options when no more is known to fit, which does not say that nothing does."""
        with self._lock:
            offering = self._offering(query)
            alive = self._ask_more(query, offering, count)
            return self._best(offering, count), Looked(len(offering), alive)

    def forget(self, options: list[Option]) -> None:
        """These were refused, or their nodes were: ask anew."""
        with self._lock:
            for offering in self._known.values():
                for option in options:
                    offering.pop(option.node, None)

    def _offering(self, query: Query) -> Offering:
        """What is known for such requests, and still fresh."""
        begin = self._monotonic() - FRESH_S
        for offering in self._known.values():
            for node in [node for node, offer in offering.items() if offer.at <= begin]:
                del offering[node]
        self._known = {key: offering for key, offering in self._known.items() if offering}
        return self._known.setdefault(query.parameters, {})

    def _ask_more(self, query: Query, offering: Offering, count: int) -> int:
        digests, alive = self._chooser.sampling.take(SAMPLE)
        if alive <= FEW_NODES or not self._chooser.may_narrow(query):
            if sum(offer.room for offer in offering.values()) < count:
                self._add(offering, self._chooser.anywhere(query))
            return alive
        new = [each for each in self._chooser.promising(digests, query, Bounds()) if each.node not in offering]
        most = ASKED_A_BATCH if len(offering) < MANY else 1
        for digest in new[: min(count, most)]:
            self._add(offering, [Option(found, digest) for found in self._chooser.ask(query, digest.node)])
        return alive

    def _add(self, offering: Offering, options: list[Option]) -> None:
        for option in options:
            offering.setdefault(option.node, Offer(option, self._monotonic()))

    def _best(self, offering: Offering, count: int) -> list[Option]:
        """One after the other to whoever is then the best."""
        score = POLICIES[self._chooser.policy]
        heap = [(-score(each.left), self._random.random(), each) for each in offering.values() if each.room > 0]
        heapq.heapify(heap)
        found: list[Option] = []
        while heap and len(found) < count:
            _, _, offer = heapq.heappop(heap)
            found.append(offer.option)
            offer.taken += 1
            if offer.room > 0:  # with another chance, or `random` would fill one node after the other
                heapq.heappush(heap, (-score(offer.left), self._random.random(), offer))
        return found


def _uses(candidate: Candidate) -> list[tuple[int, int, int]]:
    """(capacity, used, asked) of each resource of each provider."""
    return [
        (*candidate.providers[provider].resources.get(name, (0, 0)), amount)
        for provider, amounts in candidate.allocations.items()
        for name, amount in amounts.items()
    ]
