"""What nodes say of themselves in `alive/`: where to ask first. A hint, perhaps old or a lie, never a decision. Pure.

Reading one takes a few microseconds, since hundreds are read for one request; what can't be read is no hint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from placet import keys
from placet.query import Query
from placet.store import Entry


@dataclass(frozen=True)
class Digest:
    """One node that is alive: `revision` is that at which its `alive` was made. Amounts are in Placement's units."""

    node: str
    name: str
    revision: int
    capacity: Mapping[str, int]
    used: Mapping[str, int]
    traits: frozenset[str]

    def left(self, amounts: Mapping[str, int]) -> float:
        """The share of the scarcest resource that would be left; below 0 when there is no room. Classes that it does
        not speak of (a child provider's, a shared pool's) are not looked at."""
        shares = [
            (capacity - self.used.get(name, 0) - amount) / capacity
            for name, amount in amounts.items()
            for capacity in [self.capacity.get(name, 0)]
            if capacity > 0
        ]
        return min(shares, default=0.0)

    def may_suit(self, amounts: Mapping[str, int], required: frozenset[str]) -> bool:
        """Whether it is worth asking Placement about this node."""
        return self.left(amounts) >= 0.0 and (not self.traits or required <= self.traits)


def digest_of(entry: Entry) -> Digest:
    """The digest in an `alive` key."""
    node = keys.last(entry.key)
    try:
        found = json.loads(entry.value)
        name, capacity, used = str(found["name"]), _amounts(found["capacity"]), _amounts(found.get("used", {}))
        traits = frozenset(map(str, found.get("traits", ())))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Digest(node, node, entry.create_revision, {}, {}, frozenset())
    return Digest(node, name, entry.create_revision, capacity, used, traits)


def required_by(query: Query) -> frozenset[str]:
    """The traits that a node must have itself, as far as the query says so plainly."""
    words = [value for name, value in query.parameters if name in ("required", "root_required")]
    plain = [value for value in words if not value.startswith("in:")]
    return frozenset(trait for value in plain for trait in value.split(",") if trait and not trait.startswith("!"))


def _amounts(found: Mapping[str, object]) -> dict[str, int]:
    return {str(name): amount for name, amount in found.items() if isinstance(amount, int)}
