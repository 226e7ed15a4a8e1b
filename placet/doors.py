"""Whether a node takes an instance: it is not drained, and no earlier life of the UUID is yet to go there.

Step 1 of a request's way. The commit asks the same once more; but a claim on a node that is still to destroy the UUID's
earlier life would be released with that, so the question comes before the claim, too. It costs no exchange for the node
that is the likeliest before the intent is open: it goes with the intent.
"""

from __future__ import annotations

from collections.abc import Sequence

from placet import keys
from placet.store import Found, Get, Read, Store


class Doors:
    """For one instance whose intent is open, or opened by the exchange that `learn` hears of: from then on there is
    nothing new to destroy of it. `likely` is the node that will be asked for first, if one is known."""

    def __init__(self, store: Store, instance: str, likely: str | None = None) -> None:
        self._store = store
        self._instance = instance
        self._likely = likely
        self._known: dict[str, bool] = {}

    @property
    def reads(self) -> list[Read]:
        """What to read beside the intent."""
        return self._reads(self._likely) if self._likely else []

    def learn(self, found: Sequence[Found]) -> None:
        """What these reads found."""
        if self._likely:
            self._known[self._likely] = not any(each.entry for each in found)

    def is_open(self, node: str) -> bool:
        """As it was learned a moment ago, or else as of now. Raises Unreachable."""
        if node in self._known:
            return self._known.pop(node)
        return not any(found.entry for found in self._store.read(*self._reads(node)))

    def _reads(self, node: str) -> list[Read]:
        return [Get(keys.closed(node)), Get(keys.destroy(node, self._instance))]
