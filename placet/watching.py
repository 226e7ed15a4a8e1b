"""Keeping up with one node's keys: list, then watch from there. Step 3 of a request's way.

Events carry no meaning: whatever says that something may have changed only names an instance to look at. On any doubt
about the watch everything is listed again, and every half minute anyway; every fifth minute all there is gets a look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from placet import keys
from placet.errors import PlacetError
from placet.specs import held_by
from placet.store import Entry, Event, Range, Store, Watch

RELIST_S = 30.0
LOOK_AT_ALL_S = 300.0
NEVER = float("-inf")


class Watcher:
    """`step` is for one thread at a time. `look_at` takes an instance, `asked` the id of an operation that waits for
    the node. `used` is what its instances hold in all, {resource class: amount}."""

    def __init__(
        self,
        node: str,
        store: Store,
        look_at: Callable[[str], None],
        asked: Callable[[str], None],
        monotonic: Callable[[], float],
        relist_s: float = RELIST_S,
        open_watch: Callable[[Sequence[str], int], Watch] | None = None,
    ) -> None:
        """`open_watch` is in place of `store.watch` where many nodes share a stream; those list every `relist_s`."""
        self._store = store
        self._prefixes = (keys.specs(node), keys.destroys(node), keys.operations(node))
        self._look_at = look_at
        self._asked = asked
        self._monotonic = monotonic
        self._relist_s = relist_s
        self._open_watch = open_watch or store.watch
        self._watch: Watch | None = None
        self._list_at = self._looked_at = NEVER
        self._seen: dict[str, tuple[int, int]] = {}
        self._held: dict[str, dict[str, int]] = {}
        self.used: dict[str, int] = {}

    def step(self, timeout_s: float) -> None:
        """List when it is time to, else pass on what changes within `timeout_s`.

        Raises WatchLost, Unreachable, Refused: the next step lists again, all of it.
        """
        try:
            watch = self._watch
            if watch is None or self._monotonic() >= self._list_at:
                watch = self._watch = self._list()
            for event in watch.wait(timeout_s):
                self._pass_on(event)
        except PlacetError:
            self.doubt()
            raise

    @property
    def list_in_s(self) -> float:
        """In how many seconds a step will list."""
        return 0.0 if self._watch is None else max(0.0, self._list_at - self._monotonic())

    def put_off(self, delay_s: float) -> None:
        """List in so many seconds, unless there is a doubt: so that nodes that began together do not list together."""
        self._list_at = self._monotonic() + delay_s

    def doubt(self) -> None:
        """Something may have been missed: list again, and look at everything."""
        self.close()
        self._looked_at = NEVER

    def close(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def begin(self, entries: Sequence[Entry], revision: int) -> None:
        """In place of the first list: by all keys of the node, which somebody read for many nodes at once, and a
        revision that etcd had before it was read. Raises as `step`."""
        below = {prefix: [entry for entry in entries if entry.key.startswith(prefix)] for prefix in self._prefixes}
        specs, destroys, operations = below.values()
        self._take(specs, destroys, operations)
        self._watch = self._open_watch(self._prefixes, revision + 1)

    def _list(self) -> Watch:
        """Pass on what is new since the last list, or all there is, and watch from the list's revision on."""
        self.close()
        specs = self._store.scan(self._prefixes[0])
        destroys, operations = self._store.read(*map(Range, self._prefixes[1:]))
        self._take(specs.entries, destroys.entries, operations.entries)
        return self._open_watch(self._prefixes, specs.revision + 1)

    def _take(self, specs: Sequence[Entry], destroys: Sequence[Entry], operations: Sequence[Entry]) -> None:
        now = self._monotonic()
        everything = now - self._looked_at >= LOOK_AT_ALL_S
        found: dict[str, tuple[int, int]] = {keys.last(e.key): (e.mod_revision, 0) for e in specs}
        for entry in destroys:
            instance = keys.last(entry.key)
            found[instance] = (found.get(instance, (0, 0))[0], entry.mod_revision)
        for instance, revisions in found.items():
            if everything or revisions != self._seen.get(instance):
                self._look_at(instance)
        for entry in operations:
            self._asked(keys.last(entry.key))
        self._seen = found
        self._held = {keys.last(entry.key): held_by([entry]) for entry in specs}
        self.used = _sum(self._held.values())
        self._list_at = now + self._relist_s
        if everything:
            self._looked_at = now

    def _pass_on(self, event: Event) -> None:
        specs, _, operations = self._prefixes
        if event.key.startswith(operations):
            self._asked(keys.last(event.key))
            return
        self._look_at(keys.last(event.key))
        if event.key.startswith(specs):
            self._count(keys.last(event.key), held_by([event.entry] if event.entry else []))

    def _count(self, instance: str, held: dict[str, int]) -> None:
        """What an instance holds from now on; in a new dict, since another thread reads the old one."""
        before = self._held.get(instance, {})
        self._held[instance] = held
        less = {resource_class: -amount for resource_class, amount in before.items()}
        self.used = _sum([self.used, less, held])


def _sum(amounts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in amounts:
        for resource_class, amount in each.items():
            total[resource_class] = total.get(resource_class, 0) + amount
    return {resource_class: amount for resource_class, amount in total.items() if amount}
