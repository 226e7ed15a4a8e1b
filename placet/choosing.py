"""Which candidates are tried, in which order. Step 1 of a request's way; docs/scheduling.md tells the idea.

First a small random sample of nodes, by what they say of themselves, each asked about alone; then all there is. What
nodes say only orders: that something fits is Placement's to say, and that nothing does only its answer for all nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from random import Random

from placet import keys
from placet.candidates import Candidate, rank
from placet.decision import Decision
from placet.digests import Digest, digest_of, required_by
from placet.errors import NothingFits
from placet.first_look import FIRST_SAMPLE, FirstLook
from placet.placement import Placement
from placet.policies import POLICIES
from placet.query import DISABLED_TRAIT, Query, for_one_node, for_placement
from placet.request import Request
from placet.sampling import Sample, Sampling
from placet.sharing import Sharing
from placet.store import Get, Range, Store

SAMPLES = (FIRST_SAMPLE, 256)  # the second when nothing in the first looks right
ASKED_ALONE = 8  # of a sample, before all are asked about
MAX_ROUNDS = 20


@dataclass(frozen=True)
class Option:
    """A candidate to try, and its node as it was seen alive."""

    candidate: Candidate
    digest: Digest

    @property
    def node(self) -> str:
        return self.digest.node


@dataclass(frozen=True)
class Bounds:
    """Where a request may go: `only` there if that is set, not where `never` says why not, rather where `first` says,
    and the less, the more `last` has counted there."""

    only: str | None = None
    never: Mapping[str, str] = field(default_factory=dict)
    first: frozenset[str] = frozenset()
    last: Mapping[str, int] = field(default_factory=dict)

    def allow(self, node: str) -> bool:
        return node not in self.never and self.only in (None, node)

    def wish(self, node: str) -> int:
        """The smaller, the sooner."""
        return -1 if node in self.first else self.last.get(node, 0)


class Chooser:
    """Safe to use from many threads. `monotonic` gives seconds; `beside` is where a first look asks Placement."""

    def __init__(
        self,
        store: Store,
        placement: Placement,
        random: Random,
        monotonic: Callable[[], float],
        policy: str,
        sharing: Sharing,
        beside: Executor,
    ) -> None:
        self._store = store
        self._placement = placement
        self._random = random
        self._sharing = sharing
        self._beside = beside
        self.sampling = Sampling(store, random, monotonic)
        self.policy = policy

    def look(self, request: Request, bounds: Bounds) -> FirstLook | None:
        """A first look for one instance, where a sample helps."""
        query = request.query
        if bounds.only is not None or not self.may_narrow(query):
            return None

        def likely(sample: Sample) -> str | None:
            found = self.promising(sample.digests, query, bounds)
            return found[0].node if found and request.group is None else None

        return FirstLook(self.sampling, likely, lambda node: self._beside.submit(self.ask, query, node))

    def options(
        self, request: Request, bounds: Callable[[], Bounds], decision: Decision, look: FirstLook | None
    ) -> Iterator[Option]:
        """What to try, the best first; bounds are read again with each round. It ends when others were faster again
        and again. Raises NothingFits when a fresh answer for all nodes leaves nothing to try."""
        begin = bounds()
        if begin.only is None and self.may_narrow(request.query):
            yield from self._sampled(request.query, begin, decision, look)
        for _ in range(MAX_ROUNDS):
            yield from self._all(request, bounds(), decision)

    def at(self, query: Query, node: str) -> Option | None:
        """The best candidate on one node, if it is alive, not drained, and has room."""
        digest = open_nodes(self._store, node).get(node)
        found = rank(self.ask(query, node), {node}, self._random, self.policy) if digest else []
        return Option(found[0], digest) if digest and found else None

    def ask(self, query: Query, node: str) -> list[Candidate]:
        """Placement's candidates on one node alone, where that can be asked; else all."""
        if not self.may_narrow(query):
            return self._placement.candidates(for_placement(query))
        found = self._placement.candidates(for_one_node(query, node))
        return [each for each in found if DISABLED_TRAIT not in each.providers[node].traits]

    def anywhere(self, query: Query) -> list[Option]:
        """All candidates as of now, the best first."""
        return self._everywhere(query, Bounds(), open_nodes(self._store))

    def _everywhere(self, query: Query, bounds: Bounds, nodes: Mapping[str, Digest]) -> list[Option]:
        """All candidates on these nodes, within the bounds, the best first."""
        found = self.ask(query, bounds.only) if bounds.only else self._placement.candidates(for_placement(query))
        ranked = rank(found, set(filter(bounds.allow, nodes)), self._random, self.policy)
        options = [Option(each, nodes[each.node]) for each in ranked if each.node]
        return sorted(options, key=lambda option: bounds.wish(option.node))

    def may_narrow(self, query: Query) -> bool:
        """Whether `in_tree` changes nothing but the set of nodes: not where it has nothing to apply to, where the user
        has said it himself, and where a pool that several nodes share offers something of what is asked for."""
        names = {name for name, _ in query.parameters}
        own = any(name.startswith("in_tree") for name in names)
        return "resources" in names and not own and not self._sharing.classes() & query.amounts.keys()

    def promising(self, digests: list[Digest], query: Query, bounds: Bounds) -> list[Digest]:
        """Those worth asking about, the best first, equals as they came."""
        score, required = POLICIES[self.policy], required_by(query)
        found = [each for each in digests if bounds.allow(each.node) and each.may_suit(query.amounts, required)]
        return sorted(found, key=lambda each: (bounds.wish(each.node), -score(each.left(query.amounts))))

    def _sampled(self, query: Query, bounds: Bounds, decision: Decision, look: FirstLook | None) -> Iterator[Option]:
        found: list[Digest] = []
        first = look.sample if look else None
        wished = self._some_of(bounds.first)
        for size in SAMPLES:
            digests, alive = first or self.sampling.take(size)
            first = None
            decision.look(len(digests), alive)
            found = self.promising(list({each.node: each for each in [*wished, *digests]}.values()), query, bounds)
            if found or size >= alive:
                break
        for digest in found[: min(query.limit or ASKED_ALONE, ASKED_ALONE)]:
            answer = look.candidates(digest.node) if look else None
            if answer is None:
                answer = self.ask(query, digest.node)
            ranked = rank(answer, {digest.node}, self._random, self.policy)
            if not ranked:
                decision.note(digest, digest.left(query.amounts), "no fit")
            yield from (Option(candidate, digest) for candidate in ranked[:1])

    def _some_of(self, nodes: frozenset[str]) -> list[Digest]:
        """A few of the nodes where it would rather go, which no sample may have in it."""
        if not nodes:
            return []
        some = self._random.sample(sorted(nodes), min(len(nodes), ASKED_ALONE // 2))
        return [
            digest_of(found.entry) for found in self._store.read(*(Get(keys.alive(n)) for n in some)) if found.entry
        ]

    def _all(self, request: Request, bounds: Bounds, decision: Decision) -> Iterator[Option]:
        """All candidates as of now; raises NothingFits when there is none to try."""
        nodes = open_nodes(self._store, bounds.only)
        decision.look(len(nodes), len(nodes))
        options = self._everywhere(request.query, bounds, nodes)
        if not options:
            from placet.explaining import explain  # most commands place what they are asked for

            raise NothingFits(explain(self._placement, self._store, request, bounds))
        yield from options[: request.query.limit]


def open_nodes(store: Store, only: str | None = None) -> dict[str, Digest]:
    """The nodes that are alive and not drained; of only one of them, if that is given."""
    if only is None:
        alive, closed = store.read(Range(keys.ALIVE), Range(keys.CLOSED))
    else:
        alive, closed = store.read(Get(keys.alive(only)), Get(keys.closed(only)))
    drained = {keys.last(entry.key) for entry in closed.entries}
    return {each.node: each for each in map(digest_of, alive.entries) if each.node not in drained}
