"""Choosing among Placement's allocation candidates. Step 1 of a request's way; pure.

Placement says what fits; here is decided what of it is tried, and in which order.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from random import Random

from placet.model import Allocations

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
    def free_share(self) -> float:
        """The scarcest resource's free share (0 to 1) of the node after this candidate was claimed."""
        shares = [
            (capacity - used - amount) / capacity
            for uuid, amounts in self.allocations.items()
            for resource_class, amount in amounts.items()
            for capacity, used in [self.providers[uuid].resources.get(resource_class, (0, 0))]
            if capacity
        ]
        return min(shares, default=0.0)


def rank(candidates: list[Candidate], usable: Container[str], random: Random) -> list[Candidate]:
    """Candidates on usable nodes, the emptiest first (policy `spread`), equals in random order so that schedulers
    that run at the same time do not all begin with the same node."""
    found = [candidate for candidate in candidates if candidate.node in usable]
    random.shuffle(found)
    return sorted(found, key=lambda candidate: candidate.free_share, reverse=True)
