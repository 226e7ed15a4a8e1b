"""Placing an instance: intent, claim, commit. Steps 1 to 3 of a request's way; docs/architecture.md has the protocol.

Nothing is ever leaked: whatever is claimed in Placement is covered by an intent or a spec in etcd, so that a sweep
can tell what is left over when this program dies at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random

from placet import keys
from placet.candidates import Candidate, rank
from placet.claims import Claims
from placet.errors import Conflict, NothingFits, NotYet, PlacetError, Unreachable
from placet.explain import explain
from placet.failpoints import reach
from placet.log import warn
from placet.model import INTENT_TTL_S, Index, Intent, Mark, decode, encode
from placet.placement import Allocation, Placement
from placet.query import for_placement
from placet.request import Request, check_size, index_of, spec_of
from placet.specs import is_live
from placet.store import Absent, Compare, CreatedAt, Delete, Entry, ModifiedAt, Operation, Put, Store
from placet.story import Note, Story

MAX_ROUNDS = 20
COMMIT_ATTEMPTS = 3
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


@dataclass
class _Intent:
    """Our intent as it stands in etcd, with the revisions that the commit compares. `asked` are the nodes of which we
    may have claimed something."""

    lease: int
    revision: int
    index_revision: int
    name_revision: int
    asked: set[str] = field(default_factory=set)


class Scheduler:
    """Stateless between calls; safe to use from many threads and many processes at once."""

    def __init__(
        self,
        store: Store,
        placement: Placement,
        claims: Claims,
        story: Story,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._store = store
        self._story = story
        self._placement = placement
        self._claims = claims
        self._clock = clock
        self._random = random

    def create(self, request: Request) -> Placed:
        """Place one instance. The same request again gives the same answer.

        Raises NothingFits, Conflict (the UUID or the name is taken), BadQuery, Unreachable.
        """
        check_size(request)
        for _ in range(OPENING_ATTEMPTS):
            entry = self._store.get(keys.instance(request.instance))
            index = self._live(entry)
            if index is not None:
                return self._repeated(request, index)
            intent = self._open_intent(request, _revision(entry), self._free_name(request))
            if intent is not None:
                reach("create.intent-written")
                return self._place_or_abort(request, intent)
        raise Conflict(f"{request.instance} kept being placed and destroyed by others; choose another UUID")

    def _place_or_abort(self, request: Request, intent: _Intent) -> Placed:
        try:
            return self._place(request, intent)
        except BaseException:
            placed = self._abort(request, intent)
            if placed is not None:
                return placed
            raise

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

    def _open_intent(self, request: Request, index_revision: int, name_revision: int) -> _Intent | None:
        """Our intent, made only while the index is as it was read; None when that has changed: read it again."""
        lease = self._store.grant_lease(INTENT_TTL_S)
        key = keys.intent(request.instance)
        value = encode(Intent(request.instance, request.request_id))
        compares: list[Compare] = [Absent(key), ModifiedAt(keys.instance(request.instance), index_revision)]
        self._store.transact(compares, [Put(key, value, lease)])
        entry = self._store.get(key)
        if entry is not None and entry.lease == lease:
            return _Intent(lease, entry.create_revision, index_revision, name_revision)
        self._store.revoke_lease(lease)
        if entry is not None:
            raise Conflict(f"{request.instance} is being placed by another request; ask again in a minute")
        return None

    def _free_name(self, request: Request) -> int:
        """The revision of the name's slot, 0 if there is none. A slot whose instance is gone is free."""
        entry = self._store.get(keys.name(request.project, request.name))
        if entry is None:
            return 0
        holder = decode(Mark, entry.value, entry.key).instance
        if holder is not None and holder != request.instance and self._is_taken(holder):
            raise Conflict(f"the name {request.name!r} is taken by {holder}; choose another or destroy that one")
        return entry.mod_revision

    def _is_taken(self, instance: str) -> bool:
        return is_live(self._store, instance) or self._store.get(keys.intent(instance)) is not None

    def _place(self, request: Request, intent: _Intent) -> Placed:
        tried: list[str] = []
        for _ in range(MAX_ROUNDS):
            nodes = self._open_nodes()
            found = self._placement.candidates(for_placement(request.query))
            ranked = rank(found, nodes, self._random)[: request.query.limit]
            if not ranked:
                raise NothingFits(explain(self._placement, request.query, nodes))
            for candidate in ranked:
                try:
                    placed = self._try(request, intent, candidate, nodes, tried)
                except HeldElsewhere as held:
                    home = next((each for each in ranked if each.node in held.nodes), None)
                    if home is None:
                        raise
                    placed = self._try(request, intent, home, nodes, tried)
                if placed is not None:
                    return placed
        raise NotYet(f"{len(tried)} claims were lost to others who asked at the same time; ask again")

    def _try(
        self, request: Request, intent: _Intent, candidate: Candidate, nodes: dict[str, int], tried: list[str]
    ) -> Placed | None:
        """Claim one candidate and commit it; None when the next is to be tried.

        What a refused commit leaves claimed is not released here: the next claim takes its place, or the abort
        releases it. A release whose reply is lost could come late, when the UUID is another's.
        """
        node = candidate.node
        if node is None:
            return None
        self._keep_lease(request, intent)
        if self._store.get(keys.destroy(node, request.instance)) is not None:
            tried.append(node)  # an earlier life of this UUID is yet to go there: that would release our claim
            return None
        intent.asked.add(node)
        if not self._claims.claim(request.instance, candidate, lambda held: self._may_replace(request, intent, held)):
            tried.append(node)
            return None
        reach("create.claimed")
        if self._commit(request, intent, candidate, node, nodes[node], tried):
            reach("create.committed")
            return Placed(request.instance, node)
        self._still_mine(request, intent)
        tried.append(node)
        return None

    def _commit(
        self, request: Request, intent: _Intent, candidate: Candidate, node: str, alive_revision: int, tried: list[str]
    ) -> bool:
        """Spec, index and name in one transaction, in place of the intent; tells whether they stand.

        An unanswered transaction is sent again: the second either takes effect or finds the intent gone and, in the
        index, that the first had.
        """
        self._keep_lease(request, intent)
        now = self._clock()
        index_key, name_key = keys.instance(request.instance), keys.name(request.project, request.name)
        why: dict[str, object] = {"policy": "spread", "free_share": round(candidate.free_share, 4), "lost": tried}
        compares: list[Compare] = [
            CreatedAt(keys.intent(request.instance), intent.revision),
            CreatedAt(keys.alive(node), alive_revision),
            Absent(keys.closed(node)),
            Absent(keys.destroy(node, request.instance)),
            Absent(keys.spec(node, request.instance)),
            ModifiedAt(index_key, intent.index_revision),
            ModifiedAt(name_key, intent.name_revision),
        ]
        operations: list[Operation] = [
            Put(keys.spec(node, request.instance), encode(spec_of(request, node, candidate, now))),
            Put(index_key, encode(index_of(request, node, why, now))),
            Put(name_key, encode(Mark(request.request_id, now, request.instance))),
            Delete(keys.status(node, request.instance)),  # of an earlier life whose spec somebody deleted by hand
            Delete(keys.published(node, request.instance)),
            Delete(keys.intent(request.instance)),
        ]
        after = f", after {len(tried)} that others took" if tried else ""
        placed = Note(request.instance, "placed", f"on node {node}, the emptiest that fits{after}")
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                return self._story.transact(compares, operations, placed) or self._committed(request) is not None
            except Unreachable:
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
        return False

    def _keep_lease(self, request: Request, intent: _Intent) -> None:
        if self._store.refresh_lease(intent.lease) == 0:
            raise NotYet(f"placing {request.instance} took over {INTENT_TTL_S} s and was given up; ask again")

    def _committed(self, request: Request) -> Placed | None:
        """What an index with our own request's id says: that a commit of ours did take effect."""
        index = self._live_index(request.instance)
        if index is None or index.request_id != request.request_id:
            return None
        return Placed(request.instance, index.node)

    def _still_mine(self, request: Request, intent: _Intent) -> None:
        """After a refused commit, or before a claim over what is held: raises Conflict when UUID or name are no more
        ours to place; else only the node was the reason, and the next may do."""
        entry = self._store.get(keys.intent(request.instance))
        if entry is None or entry.create_revision != intent.revision:
            raise Conflict(f"{request.instance} was destroyed while it was being placed")
        if _revision(self._store.get(keys.name(request.project, request.name))) != intent.name_revision:
            raise Conflict(f"the name {request.name!r} was taken meanwhile; choose another")

    def _may_replace(self, request: Request, intent: _Intent, held: Allocation) -> None:
        """Raises Conflict when the UUID is another's by now, HeldElsewhere when a guest that etcd knows nothing of may
        run where it is held."""
        self._still_mine(request, intent)
        if not held.allocations.keys() & intent.asked:
            raise HeldElsewhere(request.instance, held.allocations.keys())

    def _abort(self, request: Request, intent: _Intent) -> Placed | None:
        """Take the intent back, and only then the claim. If the intent is gone: had the commit succeeded after all?

        What is held is read before, and released as it was read: whoever claims this UUID next moves its generation.
        What cannot be done because etcd or Placement is out of reach is left to the intent's lease and to a sweep.
        """
        try:
            held = self._held(request, intent)
            if self._take_back(request, intent):
                self._claims.release_as_read(request.instance, held)
                self._store.revoke_lease(intent.lease)
                return None
            placed = self._committed(request)
            if placed is None and intent.asked and self._live_index(request.instance) is None:
                self._release_after_lease(request, intent)
        except PlacetError as problem:
            warn("abort-incomplete", instance=request.instance, reason=problem)
            return None
        return placed

    def _held(self, request: Request, intent: _Intent) -> Allocation:
        """What an abort may have to release. What is held where we claimed nothing is that of a guest whose spec etcd
        has lost, or a sweep's to release."""
        held = self._claims.held(request.instance) if intent.asked else Allocation({})
        return held if held.allocations.keys() & intent.asked else Allocation({})

    def _take_back(self, request: Request, intent: _Intent) -> bool:
        """Delete our intent; False when it was gone. An unanswered transaction is sent again, as a commit is."""
        key = keys.intent(request.instance)
        for _ in range(COMMIT_ATTEMPTS - 1):
            try:
                return self._store.transact([CreatedAt(key, intent.revision)], [Delete(key)])
            except Unreachable:
                continue
        return self._store.transact([CreatedAt(key, intent.revision)], [Delete(key)])

    def _release_after_lease(self, request: Request, ended: _Intent) -> None:
        """Our intent ended with its lease: a fresh one keeps others off while what we may have claimed is released."""
        fresh = self._open_intent(request, ended.index_revision, ended.name_revision)
        if fresh is not None:
            held = self._held(request, ended)
            if self._take_back(request, fresh):
                self._claims.release_as_read(request.instance, held)
                self._store.revoke_lease(fresh.lease)

    def _open_nodes(self) -> dict[str, int]:
        """The nodes that are alive and not drained, with the revision at which each `alive` was made."""
        closed = {keys.last(entry.key) for entry in self._store.scan(keys.CLOSED).entries}
        return {
            node: entry.create_revision
            for entry in self._store.scan(keys.ALIVE).entries
            if (node := keys.last(entry.key)) not in closed
        }


def _revision(entry: Entry | None) -> int:
    return entry.mod_revision if entry else 0
