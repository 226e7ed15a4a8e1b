"""Choosing among Placement's allocation candidates. Step 1 of a request's way; pure.

Placement says what fits; here is decided what of it is tried, and in which order.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from random import Random

from placet.model import Allocations
from placet.policies import POLICIES

SHARING_TRAIT = "MISC_SHARES_VIA_AGGREGATE"


@dataclass(frozen=True)
class ProviderSummary:
    """What Placement says of one provider of a candidate: per resource class (capacity, used)."""

    root: str
    resources: Mapping[str, tuple[int, int]]
    traits: frozenset[str]


@dataclass(frozen=True)
class Candidate:
    """One way to satisfy a request. `mappings` tells which request group went to which providers."""

    allocations: Allocations
    mappings: Mapping[str, list[str]]
    providers: Mapping[str, ProviderSummary]

    @property
    def node(self) -> str | None:
        """The one non-sharing root among the providers; None when there is not exactly one: then it is no node."""
        roots = {
            self.providers[uuid].root for uuid in self.allocations if SHARING_TRAIT not in self.providers[uuid].traits
        }
        return roots.pop() if len(roots) == 1 else None

    @property
    def own(self) -> frozenset[str]:
        """The providers of the node's own tree that it takes from; the others are shared pools."""
        node = self.node
        return frozenset(uuid for uuid in self.allocations if self.providers[uuid].root == node)

    @property
    def free_share(self) -> float:
        """The scarcest resource's free share (0 to 1) of the node's own providers after this candidate was claimed.
        That of a shared pool is the same for all of its nodes, and would hide how full they are."""
        shares = [
            (capacity - used - amount) / capacity
            for uuid in self.own
            for resource_class, amount in self.allocations[uuid].items()
            for capacity, used in [self.providers[uuid].resources.get(resource_class, (0, 0))]
            if capacity
        ]
        return min(shares, default=0.0)


def rank(
    candidates: list[Candidate], usable: Container[str], random: Random, policy: str = "spread"
) -> list[Candidate]:
    """Candidates on usable nodes, the best by a policy first, equals in random order so that schedulers that run at
    the same time do not all begin with the same node."""
    score = POLICIES[policy]
    found = [candidate for candidate in candidates if candidate.node in usable]
    random.shuffle(found)
    return sorted(found, key=lambda candidate: score(candidate.free_share), reverse=True)
