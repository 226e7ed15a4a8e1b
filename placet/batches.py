"""Placing many instances at once: intents, claims and commits of a batch in few exchanges, each decided by itself.

What goes wrong in a batch changes nothing of the protocol: whoever it concerns goes on alone (placing.py), with the
intent, and perhaps the claim, that it has by then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from placet import keys
from placet.claims import Claims
from placet.committing import Claimed, Commits
from placet.decision import Decision
from placet.errors import NothingFits, PlacetError
from placet.failpoints import reach
from placet.intents import Opening, OpenIntent
from placet.log import warn
from placet.offers import Offers
from placet.placement import Claim
from placet.placing import Placed, Placing
from placet.request import Request, check_size
from placet.store import Get, Store

SIZE = 50
Outcome = tuple[Request, Placed | PlacetError]
Refused = dict[tuple[tuple[str, str], ...], NothingFits]  # by the query's parameters
Pending = dict[str, tuple[Request, OpenIntent]]  # by instance: what has an intent that somebody must see to


class Batches:
    """Safe to use from many threads and many processes at once."""

    def __init__(
        self, store: Store, claims: Claims, commits: Commits, placing: Placing, offers: Offers, policy: str
    ) -> None:
        self._store = store
        self._claims = claims
        self._commits = commits
        self._placing = placing
        self._offers = offers
        self._policy = policy

    def place(self, requests: Sequence[Request], refused: Refused) -> Iterator[Outcome]:
        """What came of each of up to SIZE requests, as soon as it is known, in no order.

        When Placement has said of one that it fits nowhere, that is the answer to the equal ones as well; `refused`
        keeps it for the caller's next batches.
        """
        if len(requests) == 1 and not refused:
            yield _kept(self._place_alone(requests[0]), refused)
            return
        requests, known = _told_from(requests, refused)
        yield from known
        together = _without_twins([request for request in requests if _is_plain(request)])
        pending = self._open(together) if len(together) > 1 else {}
        alone = [request for request in requests if not _is_pending(request, pending)]
        try:
            for placed in self._place_together(pending):
                yield pending.pop(placed.instance)[0], placed
            while pending:
                request, intent = next(iter(pending.values()))
                if problem := refused.get(request.query.parameters):
                    self._placing.abort(*pending.pop(request.instance))
                    yield request, problem
                else:
                    del pending[request.instance]
                    yield _kept(self._go_on(request, intent), refused)
        finally:
            for request, intent in pending.values():
                self._placing.abort(request, intent)
        for request in alone:
            yield _kept(self._place_alone(request), refused)

    def _open(self, requests: list[Request]) -> Pending:
        """Intents for those that have nothing in the way; the others find out alone what it is."""
        try:
            found = self._store.read(
                *(Get(keys.instance(request.instance)) for request in requests),
                *(Get(keys.name(request.project, request.name)) for request in requests),
            )
            taken = [
                bool(index.entry or name.entry) for index, name in zip(found, found[len(requests) :], strict=False)
            ]
            free = [Opening(request) for request, is_taken in zip(requests, taken, strict=True) if not is_taken]
            opened = zip(free, self._placing.intents.open_all(free), strict=True)
            pending = {each.request.instance: (each.request, intent) for each, intent in opened if intent is not None}
        except PlacetError as problem:
            warn("batch-not-opened", reason=problem)
            return {}
        if pending:
            reach("create.intent-written")
        return pending

    def _place_together(self, pending: Pending) -> list[Placed]:
        """Those that could be placed by a batch; of the others nothing is known, and each is to go on alone."""
        try:
            claimed = self._claim(self._choose(pending))
            done = self._commits.commit_all(claimed) if claimed else []
        except PlacetError as problem:
            warn("batch-broken", reason=problem)
            return []
        if any(done):
            reach("create.committed")
        found = zip(claimed, done, strict=True)
        return [Placed(each.request.instance, each.option.node) for each, is_done in found if is_done]

    def _choose(self, pending: Pending) -> list[Claimed]:
        """A node for each, as far as one is known; equal requests share what Placement says."""
        by_query: dict[tuple[tuple[str, str], ...], list[tuple[Request, OpenIntent]]] = defaultdict(list)
        for request, intent in pending.values():
            by_query[request.query.parameters].append((request, intent))
        chosen: list[Claimed] = []
        for members in by_query.values():
            options, looked = self._offers.take(members[0][0].query, len(members))
            for (request, intent), option in zip(members, options, strict=False):
                decision = Decision(self._policy)
                decision.look(*looked)
                chosen.append(Claimed(request, intent, option, decision))
        return self._open_ones(chosen)

    def _open_ones(self, chosen: list[Claimed]) -> list[Claimed]:
        """Without those whose node is drained, or is yet to destroy an earlier life of theirs."""
        if not chosen:
            return []
        found = self._store.read(
            *(Get(keys.closed(each.option.node)) for each in chosen),
            *(Get(keys.destroy(each.option.node, each.request.instance)) for each in chosen),
        )
        is_open = [not (a.entry or b.entry) for a, b in zip(found, found[len(chosen) :], strict=False)]
        self._offers.forget([each.option for each, fine in zip(chosen, is_open, strict=True) if not fine])
        return [each for each, fine in zip(chosen, is_open, strict=True) if fine]

    def _claim(self, wanted: list[Claimed]) -> list[Claimed]:
        """Those that are claimed. A refusal leaves nothing: each half is tried, until it is clear whose it was."""
        if len(wanted) < 2:
            self._offers.forget([each.option for each in wanted])
            return []
        for each in wanted:
            each.intent.keep(each.request.instance)
            each.intent.asked.update(each.option.candidate.own)
        outcome = self._claims.claim_many({each.request.instance: each.option.candidate for each in wanted})
        if outcome is Claim.DONE:
            reach("create.claimed")
            return wanted
        if outcome is not Claim.NO_ROOM:
            return []
        middle = len(wanted) // 2
        return self._claim(wanted[:middle]) + self._claim(wanted[middle:])

    def _go_on(self, request: Request, intent: OpenIntent) -> Outcome:
        return request, _told(lambda: self._placing.go_on(request, intent))

    def _place_alone(self, request: Request) -> Outcome:
        return request, _told(lambda: self._placing.place(request))


def _told_from(requests: Sequence[Request], refused: Refused) -> tuple[list[Request], list[Outcome]]:
    """Those whose answer is not known yet, and the answers of those whose is."""
    known = [(request, refused.get(request.query.parameters)) for request in requests]
    open_ones = [request for request, problem in known if problem is None or not _is_plain(request)]
    return open_ones, [(request, problem) for request, problem in known if problem and _is_plain(request)]


def _kept(outcome: Outcome, refused: Refused) -> Outcome:
    request, told = outcome
    if isinstance(told, NothingFits) and _is_plain(request):
        refused[request.query.parameters] = told
    return outcome


def _told(place: Callable[[], Placed]) -> Placed | PlacetError:
    try:
        return place()
    except PlacetError as problem:
        return problem


def _is_plain(request: Request) -> bool:
    """Whether any node that suits its query will do: all that a batch knows."""
    bound = request.group or request.host or request.avoid or request.query.limit
    return not bound and _told_size(request)


def _told_size(request: Request) -> bool:
    try:
        check_size(request)
    except PlacetError:
        return False
    return True


def _without_twins(requests: list[Request]) -> list[Request]:
    """The first of each instance and of each name: one etcd request takes each key once."""
    found: dict[tuple[str, ...], Request] = {}
    for request in requests:
        marks = [("instance", request.instance), ("name", request.project, request.name)]
        if not any(mark in found for mark in marks):
            found.update(dict.fromkeys(marks, request))
    return list({id(request): request for request in found.values()}.values())


def _is_pending(request: Request, pending: Pending) -> bool:
    return request.instance in pending and pending[request.instance][0] is request
