"""Keeping up with one node's keys: list, then watch from there. Step 3 of a request's way.

Events carry no meaning: whatever says that something may have changed only names an instance to look at. On any doubt
about the watch everything is listed again, and every half minute anyway; every fifth minute all there is gets a look.
"""

from __future__ import annotations

from collections.abc import Callable

from placet import keys
from placet.errors import PlacetError
from placet.specs import held_by
from placet.store import Store, Watch

RELIST_S = 30.0
LOOK_AT_ALL_S = 300.0
NEVER = float("-inf")


class Watcher:
    """`step` is for one thread. `look_at` takes an instance, `asked` the id of an operation that waits for the node."""

    def __init__(
        self,
        node: str,
        store: Store,
        look_at: Callable[[str], None],
        asked: Callable[[str], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._node = node
        self._store = store
        self._look_at = look_at
        self._asked = asked
        self._monotonic = monotonic
        self._watch: Watch | None = None
        self._listed_at = self._looked_at = NEVER
        self._seen: dict[str, tuple[int, int]] = {}
        self.used: dict[str, int] = {}

    def step(self, timeout_s: float) -> None:
        """List when it is time to, else pass on what changes within `timeout_s`.

        Raises WatchLost, Unreachable, Refused: the next step lists again, all of it.
        """
        try:
            watch = self._watch
            if watch is None or self._monotonic() - self._listed_at >= RELIST_S:
                watch = self._watch = self._list()
            for event in watch.wait(timeout_s):
                self._pass_on(event.key)
        except PlacetError:
            self.doubt()
            raise

    def doubt(self) -> None:
        """Something may have been missed: list again, and look at everything."""
        self.close()
        self._looked_at = NEVER

    def close(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _list(self) -> Watch:
        """Pass on what is new since the last list, or all there is, and watch from the list's revision on."""
        self.close()
        now = self._monotonic()
        everything = now - self._looked_at >= LOOK_AT_ALL_S
        specs = self._store.scan(keys.specs(self._node))
        destroys = self._store.scan(keys.destroys(self._node))
        operations = self._store.scan(keys.operations(self._node))
        found: dict[str, tuple[int, int]] = {keys.last(e.key): (e.mod_revision, 0) for e in specs.entries}
        for entry in destroys.entries:
            instance = keys.last(entry.key)
            found[instance] = (found.get(instance, (0, 0))[0], entry.mod_revision)
        for instance, revisions in found.items():
            if everything or revisions != self._seen.get(instance):
                self._look_at(instance)
        for entry in operations.entries:
            self._asked(keys.last(entry.key))
        self._seen, self.used = found, held_by(specs.entries)
        self._listed_at = now
        if everything:
            self._looked_at = now
        prefixes = [keys.specs(self._node), keys.destroys(self._node), keys.operations(self._node)]
        return self._store.watch(prefixes, specs.revision + 1)

    def _pass_on(self, key: str) -> None:
        if key.startswith(keys.operations(self._node)):
            self._asked(keys.last(key))
        else:
            self._look_at(keys.last(key))
