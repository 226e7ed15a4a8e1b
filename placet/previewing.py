"""What placing would come to, without placing. Step 1 of a request's way; nothing is claimed and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from placet.candidates import Candidate, rank
from placet.choosing import Bounds, open_nodes
from placet.digests import Digest
from placet.errors import NothingFits
from placet.explaining import Picture, explain, look
from placet.fitting import Room, free_of, rooms, total
from placet.groups import Groups
from placet.node_facts import Lack, NodeFacts
from placet.placement import Placement
from placet.placing import bounds_of
from placet.query import for_placement
from placet.request import Request
from placet.store import Store

CLOSE = 10


@dataclass(frozen=True)
class Place:
    """A node where a request would fit: `left` is the share (0 to 1) that its scarcest resource would have left, `free`
    what there is now of each class that is asked for."""

    node: str
    name: str
    left: float
    free: dict[str, int]


@dataclass(frozen=True)
class Fits:
    """How many more fit: on each node by itself, in all, and the nodes' names."""

    rooms: list[Room]
    total: int
    names: dict[str, str]


@dataclass(frozen=True)
class Judged:
    """One node: whether the request fits there, and if not, all that it lacks."""

    node: NodeFacts
    fits: bool
    lacks: list[Lack]


class Previews:
    """For one request each; `policy` is one of placet/policies.py, `clock` gives seconds since the epoch."""

    def __init__(
        self, store: Store, placement: Placement, random: Random, policy: str, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._placement = placement
        self._random = random
        self._policy = policy
        self._groups = Groups(store, clock)

    def places(self, request: Request) -> tuple[list[Place], int]:
        """The best places by the policy, the first of which is where a scheduler that looks at all nodes goes; and how
        many nodes there are in all where it fits. Raises NothingFits, BadQuery, Unreachable."""
        nodes = open_nodes(self._store)
        bounds = bounds_of(request, self._groups.look(request))
        ranked = rank(self._candidates(request, bounds, nodes), nodes, self._random, self._policy)
        best: dict[str, Candidate] = {}
        for candidate in sorted(ranked, key=lambda each: bounds.wish(each.node or "")):
            best.setdefault(candidate.node or "", candidate)
        found = [
            Place(node, nodes[node].name, candidate.free_share, dict(free_of(candidate)))
            for node, candidate in list(best.items())[:CLOSE]
        ]
        return found, len(best)

    def fits(self, request: Request) -> Fits:
        """How many more such instances fit. Raises NothingFits, BadQuery, Unreachable."""
        nodes, group = open_nodes(self._store), self._groups.look(request)
        policy = group.record.policy if group else None
        found = self._candidates(request, bounds_of(request, group), nodes)
        per_node = 1 if policy == "anti-affinity" else None
        by_node = rooms(found, per_node)
        count = by_node[0].count if policy == "affinity" else total(found, per_node)
        return Fits(by_node, count, {node: digest.name for node, digest in nodes.items()})

    def judge(self, request: Request, only: str | None = None) -> tuple[list[Judged], Picture]:
        """Every node, or only one: whether the request fits there, as Placement says, and what it lacks if not; those
        where it fits first. Raises BadQuery, Unreachable."""
        bounds, nodes = bounds_of(request, self._groups.look(request)), open_nodes(self._store)
        fitting = {each.node for each in self._usable(request, bounds, nodes)}
        picture = look(self._placement, self._store, request, bounds, only)
        judged = [
            Judged(node, node.uuid in fitting, [] if node.uuid in fitting else picture.lacks(node))
            for node in picture.nodes
        ]
        return sorted(judged, key=lambda each: (not each.fits, each.node.name)), picture

    def _candidates(self, request: Request, bounds: Bounds, nodes: dict[str, Digest]) -> list[Candidate]:
        found = self._usable(request, bounds, nodes)
        if not found:
            raise NothingFits(explain(self._placement, self._store, request, bounds))
        return found

    def _usable(self, request: Request, bounds: Bounds, nodes: dict[str, Digest]) -> list[Candidate]:
        found = self._placement.candidates(for_placement(request.query))
        return [each for each in found if each.node in nodes and bounds.allow(each.node)]
