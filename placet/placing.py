"""Placing one instance: intent, claim, commit. Steps 1 to 3 of a request's way; docs/architecture.md has the protocol.

Nothing is ever leaked: whatever is claimed in Placement is covered by an intent or a spec in etcd, so that a sweep
can tell what is left over when this program dies at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from placet import keys
from placet.choosing import Bounds, Chooser
from placet.claims import Claims
from placet.committing import Claimed, Commits
from placet.decision import Decision
from placet.doors import Doors
from placet.errors import Conflict, NotYet, PlacetError
from placet.failpoints import reach
from placet.first_look import FirstLook
from placet.groups import Elsewhere, Groups, GroupView
from placet.intents import Intents, Opening, OpenIntent
from placet.log import warn
from placet.model import Index, Mark, decode
from placet.placement import Allocation
from placet.request import Request, check_size
from placet.schema import changed
from placet.specs import is_live
from placet.store import Entry, Get, Store

OPENING_ATTEMPTS = 5


@dataclass(frozen=True)
class Placed:
    """Where an instance went. `repeated` tells that an earlier, equal request had already put it there."""

    instance: str
    node: str
    repeated: bool = False


class HeldElsewhere(Conflict):
    """The UUID holds resources of `nodes` that nobody speaks for: a scheduler died, or etcd lost a guest's spec."""

    def __init__(self, instance: str, nodes: Collection[str]) -> None:
        super().__init__(
            f"{instance} holds amounts of {', '.join(sorted(nodes))} that nobody speaks for: they are released within "
            "two minutes, or `schedule.py doctor` says what runs there; ask again then, or choose another UUID"
        )
        self.nodes = nodes


class Placing:
    """Stateless between calls; safe to use from many threads and many processes at once."""

    def __init__(
        self,
        store: Store,
        claims: Claims,
        commits: Commits,
        chooser: Chooser,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._claims = claims
        self._chooser = chooser
        self._commits = commits
        self._groups = Groups(store, clock)
        self.intents = Intents(store, monotonic)

    def place(self, request: Request) -> Placed:
        """Place one instance. The same request again gives the same answer.

        Raises NothingFits, Conflict (the UUID or the name is taken), BadQuery, NotYet, Unreachable.
        """
        check_size(request)
        look = self._chooser.look(request, bounds_of(request, None))
        for _ in range(OPENING_ATTEMPTS):
            index_read, name_read, *beside = self._store.read(
                Get(keys.instance(request.instance)),
                Get(keys.name(request.project, request.name)),
                *(look.reads if look else ()),
            )
            if look:
                look.learn(beside)
            index = self._live(index_read.entry)
            if index is not None:
                return self._repeated(request, index)
            self._refuse_taken(request, name_read.entry)
            doors = Doors(self._store, request.instance, look.node if look else request.host)
            opening = Opening(request, _revision(index_read.entry), _revision(name_read.entry))
            intent = self.intents.open(opening, doors)
            if intent is not None:
                reach("create.intent-written")
                return self.go_on(request, intent, doors, look)
        raise Conflict(f"{request.instance} kept being placed and destroyed by others; choose another UUID")

    def go_on(
        self, request: Request, intent: OpenIntent, doors: Doors | None = None, look: FirstLook | None = None
    ) -> Placed:
        """Place what has an intent, and perhaps a claim; or take both back. `doors` and `look` are what is known of
        nodes by now. Raises as `place` does."""
        try:
            return self._choose(request, intent, doors or Doors(self._store, request.instance), look)
        except BaseException:
            placed = self.abort(request, intent)
            if placed is not None:
                return placed
            raise

    def abort(self, request: Request, intent: OpenIntent) -> Placed | None:
        """Take the intent back, and only then the claim. If the intent is gone: had the commit succeeded after all?

        What is held is read before, and released as it was read: whoever claims this UUID next moves its generation.
        What cannot be done because etcd or Placement is out of reach is left to the intent's lease and to a sweep.
        """
        try:
            held = self._held(request, intent)
            if self.intents.take_back(request.instance, intent):
                self._claims.release_as_read(request.instance, held)
                return None
            placed = self.committed(request)
            if placed is None and intent.asked and self._live_index(request.instance) is None:
                self._release_after_lease(request, intent)
        except PlacetError as problem:
            warn("abort-incomplete", instance=request.instance, reason=problem)
            return None
        return placed

    def committed(self, request: Request) -> Placed | None:
        """What an index with our own request's id says: that a commit of ours did take effect."""
        index = self._live_index(request.instance)
        if index is None or index.request_id != request.request_id:
            return None
        return Placed(request.instance, index.node)

    def _repeated(self, request: Request, index: Index) -> Placed:
        """The answer to a request for an instance that is there already."""
        if index.request_digest != request.digest:
            raise Conflict(f"{request.instance} exists and was asked for differently; choose another UUID")
        return Placed(request.instance, index.node, repeated=True)

    def _live_index(self, instance: str) -> Index | None:
        return self._live(self._store.get(keys.instance(instance)))

    def _live(self, entry: Entry | None) -> Index | None:
        """The index that an entry holds, if its instance still exists."""
        if entry is None:
            return None
        index = decode(Index, entry.value, entry.key)
        gone = index.deleted_at is not None or self._store.get(keys.spec(index.node, index.instance)) is None
        return None if gone else index

    def _refuse_taken(self, request: Request, name: Entry | None) -> None:
        """Raises Conflict where a name's slot is taken. One whose instance is gone is free."""
        holder = decode(Mark, name.value, name.key).instance if name else None
        if holder is not None and holder != request.instance and self._is_taken(holder):
            raise Conflict(f"the name {request.name!r} is taken by {holder}; choose another or destroy that one")

    def _is_taken(self, instance: str) -> bool:
        return is_live(self._store, instance) or self._store.get(keys.intent(instance)) is not None

    def _choose(self, request: Request, intent: OpenIntent, doors: Doors, look: FirstLook | None) -> Placed:
        decision = Decision(self._chooser.policy)
        view: GroupView | None = None

        def bounds() -> Bounds:
            nonlocal view
            view = self._groups.view(request)
            decision.group = {"name": view.record.name, "policy": view.record.policy} if view else None
            return bounds_of(request, view)

        for option in self._chooser.options(request, bounds, decision, look):
            placed = self._try_there(Claimed(request, intent, option, decision, view), doors)
            if placed is not None:
                return placed
        raise NotYet(f"{len(decision.lost)} claims were lost to others who asked at the same time; ask again")

    def _try_there(self, wanted: Claimed, doors: Doors) -> Placed | None:
        """Try an option; or, when the UUID holds something on another node that may be tried, that one."""
        try:
            return self._try(wanted, doors)
        except HeldElsewhere as held:
            bounds = bounds_of(wanted.request, wanted.group)
            for node in held.nodes:
                home = self._chooser.at(wanted.request.query, node) if bounds.allow(node) else None
                if home is not None:
                    return self._try(changed(wanted, option=home), doors)
            raise

    def _try(self, wanted: Claimed, doors: Doors) -> Placed | None:
        """Claim one candidate and commit it; None when the next is to be tried.

        What a refused commit leaves claimed is not released here: the next claim takes its place, or the abort
        releases it. A release whose reply is lost could come late, when the UUID is another's.
        """
        request, intent, option = wanted.request, wanted.intent, wanted.option
        left = option.candidate.free_share
        intent.keep(request.instance)
        if not doors.is_open(option.node):
            wanted.decision.lose(option.digest, left, "refused")
            return None
        try:
            wanted = changed(wanted, group=self._groups.joinable(request, wanted.group, option.node))
        except Elsewhere:
            wanted.decision.lose(option.digest, left, "refused")
            return None
        intent.asked.update(option.candidate.own)
        if not self._claims.claim(request.instance, option.candidate, lambda held: self._may_replace(wanted, held)):
            wanted.decision.lose(option.digest, left, "taken by others")
            return None
        reach("create.claimed")
        intent.keep(request.instance)
        if self._commits.commit(wanted, lambda: self.committed(request) is not None):
            reach("create.committed")
            return Placed(request.instance, option.node)
        self._still_mine(wanted)
        wanted.decision.lose(option.digest, left, "refused")
        return None

    def _still_mine(self, wanted: Claimed) -> None:
        """After a refused commit, or before a claim over what is held: raises Conflict when UUID or name are no more
        ours to place; else only the node was the reason, and the next may do."""
        request, intent = wanted.request, wanted.intent
        entry = self._store.get(keys.intent(request.instance))
        if entry is None or entry.create_revision != intent.revision:
            intent.keep(request.instance, surely=True)
            raise Conflict(f"{request.instance} was destroyed while it was being placed")
        if _revision(self._store.get(keys.name(request.project, request.name))) != intent.name_revision:
            raise Conflict(f"the name {request.name!r} was taken meanwhile; choose another")

    def _may_replace(self, wanted: Claimed, held: Allocation) -> None:
        """Raises Conflict when the UUID is another's by now, HeldElsewhere when a guest that etcd knows nothing of may
        run where it is held."""
        self._still_mine(wanted)
        if not held.allocations.keys() & wanted.intent.asked:
            raise HeldElsewhere(wanted.request.instance, held.allocations.keys())

    def _held(self, request: Request, intent: OpenIntent) -> Allocation:
        """What an abort may have to release. What is held where we claimed nothing is that of a guest whose spec etcd
        has lost, or a sweep's to release."""
        held = self._claims.held(request.instance) if intent.asked else Allocation({})
        return held if held.allocations.keys() & intent.asked else Allocation({})

    def _release_after_lease(self, request: Request, ended: OpenIntent) -> None:
        """Our intent ended with its lease: a fresh one keeps others off while what we may have claimed is released."""
        fresh = self.intents.open(Opening(request, ended.index_revision, ended.name_revision))
        if fresh is not None:
            held = self._held(request, ended)
            if self.intents.take_back(request.instance, fresh):
                self._claims.release_as_read(request.instance, held)


def bounds_of(request: Request, view: GroupView | None) -> Bounds:
    """Where a request may go, by its own words and its group's."""
    group = view.bounds() if view else Bounds()
    never = {**dict.fromkeys(request.avoid, "is avoided"), **group.never}
    if request.host is not None and group.only not in (None, request.host):
        never[request.host] = f"group {request.group} is on node {group.only}"
    return Bounds(request.host or group.only, never, group.first, group.last)


def _revision(entry: Entry | None) -> int:
    return entry.mod_revision if entry else 0
