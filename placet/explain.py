"""Why a request fits nowhere, in one line."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from placet.placement import Placement
from placet.query import DISABLED_TRAIT, Query

MAX_PROVIDERS = 100


@dataclass(frozen=True)
class Offer:
    """What one provider could still give: free amount and largest single claim per resource class."""

    free: Mapping[str, int]
    traits: frozenset[str]
    alive: bool


def explain(placement: Placement, query: Query, alive: Container[str]) -> str:
    """Ask every provider (up to 100) what it lacks, and say it in one line."""
    providers = placement.providers()
    if not providers:
        return "no node has registered yet: start compute.py on one"
    if len(providers) > MAX_PROVIDERS:
        return f"none of {len(providers)} nodes has room for {query.text}; ask for less"
    return reasons(query, [_offer(placement, found.uuid, found.uuid in alive) for found in providers])


def reasons(query: Query, offers: Sequence[Offer]) -> str:
    """How many nodes fall for which reason; each node counts once, for its first."""
    fallen: dict[str, int] = {}
    for offer in offers:
        reason = _first_reason(query, offer, offers)
        fallen[reason] = fallen.get(reason, 0) + 1
    counted = "; ".join(f"{count} {reason}" for reason, count in sorted(fallen.items(), key=lambda item: -item[1]))
    return f"{len(offers)} node{'s' if len(offers) != 1 else ''}: {counted}"


def _first_reason(query: Query, offer: Offer, offers: Sequence[Offer]) -> str:
    if not offer.alive:
        return "down or drained"
    if DISABLED_TRAIT in offer.traits:
        return "shutting down"
    for resource_class, asked in query.amounts.items():
        if offer.free.get(resource_class, 0) < asked:
            largest = max(other.free.get(resource_class, 0) for other in offers if other.alive)
            return f"lack {resource_class} (largest free {largest}, asked {asked})"
    for trait in _required(query):
        if trait not in offer.traits:
            return f"lack trait {trait}"
    return "do not match the rest of the query"


def _required(query: Query) -> list[str]:
    words = [value for name, value in query.parameters if name.startswith("required")]
    single = [value for value in words if not value.startswith("in:")]
    return [trait for value in single for trait in value.split(",") if trait and not trait.startswith("!")]


def _offer(placement: Placement, provider: str, alive: bool) -> Offer:
    inventories, _ = placement.inventories(provider)
    usages = placement.usages(provider)
    free = {
        name: min(found.capacity - usages.get(name, 0), found.max_unit or found.capacity)
        for name, found in inventories.items()
    }
    return Offer(free, placement.traits(provider)[0], alive)
