"""What is known of a node when it is judged whether a request fits there, and how what it lacks is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from placet.resources import Inventory

UP, DRAINED, DOWN, SHUTTING_DOWN = "up", "drained", "down", "shutting down"
FREE = "free"  # what is measured where there is no room


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node. `within` are the values of `member_of` that hold for it; `kept_out` are the flags of the
    user's (`--avoid n1`) that exclude it."""

    uuid: str
    name: str
    state: str = UP
    offers: Mapping[str, Inventory] | None = None
    used: Mapping[str, int] | None = None
    traits: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()
    kept_out: tuple[str, ...] = ()

    def offer(self, resource_class: str) -> Inventory | None:
        return (self.offers or {}).get(resource_class)

    def free(self, resource_class: str) -> int:
        """What is left; 0 when it is over-full or never had any."""
        offer = self.offer(resource_class)
        return max(0, offer.capacity - (self.used or {}).get(resource_class, 0)) if offer else 0


@dataclass(frozen=True)
class Elsewhere:
    """What providers that are no nodes have (shared pools, children of nodes): by it a node may fit although it lacks
    something itself."""

    providers: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lack:
    """Why a node falls: `what` after a number of nodes ("380 lack MEMORY_MB"), and the figure that decided it."""

    what: str
    measure: str = ""
    figure: int = 0
    asked: int = 0
    most: bool = True

    def among(self, figures: list[int]) -> str:
        """For several nodes that lack the same: with the figure of the one that came nearest."""
        if not self.measure:
            return self.what
        nearest = f"largest {self.measure} {max(figures)}" if self.most else f"smallest {self.measure} {min(figures)}"
        return f"{self.what} ({nearest}, asked {self.asked})"

    @property
    def alone(self) -> str:
        """For one node: "lacks MEMORY_MB (free 3072, asked 4096)"."""
        return f"{self.brief} ({self.measure} {self.figure}, asked {self.asked})" if self.measure else self.brief

    @property
    def brief(self) -> str:
        """The same without the figures."""
        verb, space, rest = self.what.partition(" ")
        return f"{_SINGULAR.get(verb, verb)}{space}{rest}"


_SINGULAR = {"lack": "lacks", "offer": "offers", "take": "takes", "have": "has", "do": "does"}
