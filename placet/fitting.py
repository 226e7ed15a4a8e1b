"""How many more instances of one kind fit, by what Placement's candidates tell of their providers. Pure.

Each instance is one claim of one candidate. Where nodes share a pool, what one takes the others no longer have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from placet.candidates import Candidate

Free = dict[tuple[str, str], int]  # by provider and resource class


@dataclass(frozen=True)
class Room:
    """How many fit on a node if the others get none, and which resource classes then have too little left."""

    node: str
    count: int
    runs_out: tuple[str, ...]


def rooms(candidates: Sequence[Candidate], per_node: int | None = None) -> list[Room]:
    """What fits on each node that has candidates, most first; `per_node` is the most that one may get."""
    by_node = _by_node(candidates)
    found = [_room(node, ways, per_node) for node, ways in by_node.items()]
    return sorted(found, key=lambda room: -room.count)


def total(candidates: Sequence[Candidate], per_node: int | None = None) -> int:
    """What fits on all nodes together.

    Nodes with the fewest ways come first. That is the most there can be unless nodes choose among several pools that
    only some of them share, where it may be less; it is never more.
    """
    free = free_amounts(candidates)
    ways = sorted(_by_node(candidates).values(), key=len)
    return sum(_take(each, free, per_node) for each in ways)


def free_amounts(candidates: Sequence[Candidate]) -> Free:
    """What every provider that a candidate names has left of what it names."""
    found: Free = {}
    for candidate in candidates:
        for provider, amounts in candidate.allocations.items():
            for resource_class in amounts:
                capacity, used = candidate.providers[provider].resources.get(resource_class, (0, 0))
                found[provider, resource_class] = max(0, capacity - used)
    return found


def free_of(candidate: Candidate) -> Mapping[str, int]:
    """What the providers of a candidate have left of each class that it claims of them."""
    found: dict[str, int] = {}
    for (_, resource_class), amount in free_amounts([candidate]).items():
        found[resource_class] = found.get(resource_class, 0) + amount
    return found


def _by_node(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.node is not None:
            found.setdefault(candidate.node, []).append(candidate)
    return found


def _room(node: str, ways: Sequence[Candidate], per_node: int | None) -> Room:
    free = free_amounts(ways)
    count = _take(ways, free, per_node)
    asked = [item for way in ways for item in _amounts(way).items()]
    short = {name for (provider, name), amount in asked if free[provider, name] < amount}
    return Room(node, count, tuple(sorted(short)))


def _take(ways: Sequence[Candidate], free: Free, most: int | None) -> int:
    """Claim as many as go, and deduct them from what is free."""
    taken = 0
    for way in ways:
        amounts = _amounts(way)
        fit = min(free[key] // amount for key, amount in amounts.items())
        fit = fit if most is None else min(fit, most - taken)
        for key, amount in amounts.items():
            free[key] -= fit * amount
        taken += fit
    return taken


def _amounts(way: Candidate) -> Free:
    return {
        (provider, name): amount
        for provider, amounts in way.allocations.items()
        for name, amount in amounts.items()
        if amount > 0
    }
