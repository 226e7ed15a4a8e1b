"""Instances that are placed with regard to each other. Steps 1 and 3 of a request's way.

A group's record says how, its members are keys below it; the commit compares both, so that schedulers that run at the
same time cannot break it. A member whose instance is gone is none; the record outlives its members and then binds
nobody: who comes next may bring another policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from placet import keys
from placet.choosing import Bounds
from placet.errors import Conflict, Usage
from placet.model import BadRecord, Group, Index, Mark, decode, encode
from placet.policies import GROUP_POLICIES
from placet.request import Request
from placet.schema import changed
from placet.store import Absent, Compare, Delete, Entry, Get, ModifiedAt, NonePresent, Operation, Put, Range, Store

ATTEMPTS = 10
READ_AT_ONCE = 60


@dataclass(frozen=True)
class GroupView:
    """A group as it stands: its record at `revision`, the nodes that have members, with how many, and what is left of
    members that are gone. Without `is_made` the record is one that would be written in place of that of `revision`."""

    project: str
    record: Group
    revision: int
    members: Mapping[str, int]
    gone: tuple[Entry, ...] = ()
    is_made: bool = True

    def bounds(self) -> Bounds:
        """Where its policy lets one more go."""
        policy, name = self.record.policy, self.record.name
        if policy == "anti-affinity":
            return Bounds(never={node: f"has a member of group {name}" for node in self.members})
        if policy == "affinity" and self.members:
            return Bounds(only=self.record.node)
        if policy == "affinity":
            return Bounds(first=frozenset([self.record.node] if self.record.node else []))
        if policy == "soft-affinity":
            return Bounds(first=frozenset(self.members))
        return Bounds(last=self.members)

    def joining(self, node: str, instance: str, mark: Mark) -> tuple[list[Compare], list[Operation]]:
        """What makes an instance on a node a member, in its commit."""
        member = Put(keys.group_member(self.project, self.record.name, node, instance), encode(mark))
        if self.record.policy == "anti-affinity":
            return [NonePresent(keys.group_members(self.project, self.record.name, node))], [member]
        if self.record.policy == "affinity":
            return [ModifiedAt(keys.group(self.project, self.record.name), self.revision)], [member]
        return [], [member]


class Elsewhere(Conflict):
    """A group's policy forbids a node by now."""


class Groups:
    """`clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def view(self, request: Request) -> GroupView | None:
        """The group that a request names, made now if it is new, and rid of members whose instance is gone, which would
        be in the way. None when it names none; raises as `look` does."""
        for _ in range(ATTEMPTS):
            found = self.look(request)
            if found is None or found.is_made:
                for member in found.gone if found else ():
                    stays_gone: list[Compare] = [ModifiedAt(member.key, member.mod_revision), Absent(_spec_of(member))]
                    self._store.transact(stays_gone, [Delete(member.key)])
                return found
            key = keys.group(request.project, found.record.name)
            self._store.transact([ModifiedAt(key, found.revision)], [Put(key, encode(found.record))])
        raise Conflict(f"others kept changing group {request.group!r}; ask again")

    def look(self, request: Request) -> GroupView | None:
        """The same without changing anything.

        Raises Usage when a new one has no policy, Conflict when it has another than the one asked for.
        """
        if request.group is None:
            return None
        key = keys.group(request.project, request.group)
        found, below = self._store.read(Get(key), Range(keys.group_members(request.project, request.group)))
        members, gone = self._live(below.entries)
        record = decode(Group, found.entry.value, key) if found.entry else None
        revision = found.entry.mod_revision if found.entry else 0
        if record and request.group_policy in (None, record.policy):
            return GroupView(request.project, record, revision, members, gone)
        if record and members:
            other = f"is one of {record.policy}, not {request.group_policy}"
            raise Conflict(f"group {request.group!r} {other}; choose another name")
        if request.group_policy is None:
            raise Usage(f"group {request.group!r} is new: say --policy {'|'.join(GROUP_POLICIES)}")
        new = Group(request.group, request.group_policy, self._clock())
        return GroupView(request.project, new, revision, members, gone, is_made=False)

    def joinable(self, request: Request, view: GroupView | None, node: str) -> GroupView | None:
        """The group as it is just before something is claimed on a node for a new member: an affinity group is bound to
        that node by then. Raises Elsewhere when its policy forbids the node by now."""
        if view is None or view.record.policy.startswith("soft-"):
            return view
        fresh = self.view(request)
        if fresh is not None and fresh.record.policy == "affinity" and not fresh.members and fresh.record.node != node:
            self._bind(request, fresh, node)
            fresh = self.view(request)
            if fresh is not None and fresh.record.node != node:
                raise Elsewhere(f"group {request.group} is bound to another node")
        if fresh is None or not fresh.bounds().allow(node):
            raise Elsewhere(f"group {request.group} does not go to node {node} by now")
        return fresh

    def _bind(self, request: Request, view: GroupView, node: str) -> None:
        key = keys.group(request.project, view.record.name)
        nobody = NonePresent(keys.group_members(request.project, view.record.name))
        record = encode(changed(view.record, node=node))
        self._store.transact([ModifiedAt(key, view.revision), nobody], [Put(key, record)])

    def _live(self, members: tuple[Entry, ...]) -> tuple[dict[str, int], tuple[Entry, ...]]:
        """How many members each node has, and those whose instance is gone."""
        count: dict[str, int] = {}
        gone: list[Entry] = []
        for start in range(0, len(members), READ_AT_ONCE):
            some = members[start : start + READ_AT_ONCE]
            reads = [Get(_spec_of(member)) for member in some] + [Get(keys.instance(keys.last(m.key))) for m in some]
            found = self._store.read(*reads)
            for member, spec, index in zip(some, found[: len(some)], found[len(some) :], strict=True):
                if spec.entry is not None and _speaks_for(index.entry, _node_of(member)):
                    count[_node_of(member)] = count.get(_node_of(member), 0) + 1
                else:
                    gone.append(member)
        return count, tuple(gone)


def _node_of(member: Entry) -> str:
    return member.key.rsplit("/", 2)[1]


def _spec_of(member: Entry) -> str:
    return keys.spec(_node_of(member), keys.last(member.key))


def _speaks_for(index: Entry | None, node: str) -> bool:
    """Whether an index says that its instance is there; one that can't be read may."""
    if index is None:
        return False
    try:
        found = decode(Index, index.value, index.key)
    except BadRecord:
        return True
    return found.node == node and found.deleted_at is None
