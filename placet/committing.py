"""The commit: spec, index, name and group slot in one transaction, for the intent. Step 3 of a request's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from placet import keys
from placet.choosing import Option
from placet.decision import Decision
from placet.errors import Unreachable
from placet.groups import GroupView
from placet.intents import OpenIntent
from placet.model import Mark, encode
from placet.request import Request, index_of, spec_of
from placet.store import Absent, Compare, CreatedAt, Delete, ModifiedAt, Operation, Put, Transaction
from placet.story import Note, Story

ATTEMPTS = 3


@dataclass(frozen=True)
class Claimed:
    """A claim that stands in Placement, and all that its commit needs to know."""

    request: Request
    intent: OpenIntent
    option: Option
    decision: Decision
    group: GroupView | None = None


class Commits:
    """`clock` gives seconds since the epoch."""

    def __init__(self, story: Story, clock: Callable[[], float]) -> None:
        self._story = story
        self._clock = clock

    def commit(self, claimed: Claimed, stands: Callable[[], bool]) -> bool:
        """Whether the instance is placed now. An unanswered transaction is sent again: the second either takes effect
        or is refused because the first did, which `stands` tells. Raises Unreachable."""
        transaction, note = self._transaction(claimed)
        for attempt in range(ATTEMPTS):
            try:
                done = self._story.transact(transaction.compares, transaction.operations, note)
                return done or stands()
            except Unreachable:
                if attempt == ATTEMPTS - 1:
                    raise
        return False

    def commit_all(self, claims: Sequence[Claimed]) -> list[bool]:
        """The same for many in few exchanges, each decided by itself. Raises Unreachable: any may have taken effect."""
        return self._story.transact_all([self._transaction(claimed) for claimed in claims])

    def _transaction(self, claimed: Claimed) -> tuple[Transaction, Note]:
        request, intent, node = claimed.request, claimed.intent, claimed.option.node
        now = self._clock()
        claimed.decision.note(claimed.option.digest, claimed.option.candidate.free_share, "chosen")
        mark = Mark(request.request_id, now, request.instance)
        index = index_of(request, node, claimed.decision.record(), now)
        same, joining = claimed.group.joining(node, request.instance, mark) if claimed.group else ([], [])
        compares: list[Compare] = [
            CreatedAt(keys.intent(request.instance), intent.revision),
            CreatedAt(keys.alive(node), claimed.option.digest.revision),
            Absent(keys.closed(node)),
            Absent(keys.destroy(node, request.instance)),
            Absent(keys.spec(node, request.instance)),
            ModifiedAt(keys.instance(request.instance), intent.index_revision),
            ModifiedAt(keys.name(request.project, request.name), intent.name_revision),
            *same,
        ]
        operations: list[Operation] = [
            Put(keys.spec(node, request.instance), encode(spec_of(request, node, claimed.option.candidate, now))),
            Put(keys.instance(request.instance), encode(index)),
            Put(keys.name(request.project, request.name), encode(mark)),
            Delete(keys.status(node, request.instance)),  # of an earlier life whose spec somebody deleted by hand
            Delete(keys.published(node, request.instance)),
            Delete(keys.intent(request.instance)),
            *joining,
        ]
        placed = Note(request.instance, "placed", f"on node {node}, {claimed.decision.words}")
        return Transaction(compares, operations), placed
