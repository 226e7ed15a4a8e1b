"""What is asked of instances that are placed: where they are, what they are, their address. After steps 1 to 5.

This module reads etcd alone: Placement is not needed to look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from placet import keys
from placet.errors import Conflict, NotFound, NotYet, PlacetError
from placet.following import follow
from placet.lifecycle import Stage, State
from placet.log import warn
from placet.model import BadRecord, Index, Mark, Spec, decode
from placet.node_records import Address, Alive, Identity, Published, Seen, Status
from placet.store import Entry, Store

R = TypeVar("R")
HEX = frozenset("0123456789abcdef-")


@dataclass(frozen=True)
class Instance:
    """Everything etcd says of one instance. `alive` tells whether its node is, `seen` and `identity` when it last was
    and which; `spec` is None once it is gone. `published` is what its guest says of itself (`all` leaves it out)."""

    index: Index
    spec: Spec | None
    status: Status | None
    alive: Alive | None
    destroying: bool = False
    seen: Seen | None = None
    identity: Identity | None = None
    published: Published | None = None

    @property
    def state(self) -> State:
        """As shown to people: what the node last said, UNKNOWN while the node is silent."""
        if self.spec is None or self.index.deleted_at is not None:
            return State.DELETED
        if self.alive is None:
            return State.UNKNOWN
        return self.status.state if self.status else State.BUILD

    @property
    def stage(self) -> Stage:
        return self.status.stage if self.status else Stage.CLAIMED

    @property
    def node_name(self) -> str:
        known = self.alive or self.identity
        return known.name if known else self.index.node

    @property
    def unknown_since(self) -> float | None:
        """When its node was last heard of, if that is silent now: what is told of the instance is as old."""
        heard = [self.seen.at] if self.seen else []
        heard += [self.status.updated_at] if self.status else []
        return max(heard, default=None) if self.state is State.UNKNOWN else None

    @property
    def ip(self) -> str | None:
        """The confirmed address: of the first NIC, IPv4 before IPv6."""
        return confirmed_ip(self.status.addresses) if self.status else None


def confirmed_ip(addresses: tuple[Address, ...]) -> str | None:
    """The first confirmed address in the NICs' order, IPv4 before IPv6."""
    confirmed = [address.ip for address in addresses if address.confirmed_by]
    return min(confirmed, key=lambda ip: ":" in ip, default=None)


class Instances:
    """`clock` gives seconds since the epoch, `monotonic` those that deadlines are measured by."""

    def __init__(self, store: Store, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic

    def find(self, word: str, project: str) -> str:
        """The UUID that a name, a UUID or 8 or more of its first digits stand for. Raises NotFound, Conflict."""
        text = word.lower()
        if len(text) in (32, 36) and set(text) <= HEX:
            return _dashed(text)
        if len(text) >= 8 and set(text) <= HEX:
            found = [keys.last(entry.key) for entry in self._store.scan(keys.instance(text)).entries]
            if len(found) > 1:
                raise Conflict(f"{word!r} fits {len(found)} instances; give more digits")
        else:
            entry = self._store.get(keys.name(project, word))
            holder = decode(Mark, entry.value, entry.key).instance if entry else None
            found = [holder] if holder else []
        if not found:
            raise NotFound(f"no instance {word!r}; `schedule.py list` shows what there is")
        return found[0]

    def find_gone(self, name: str, project: str) -> str:
        """The UUID of the last instance that had a name which is nobody's now. Raises NotFound."""
        indexes = [_record(Index, entry) for entry in self._store.scan(keys.INSTANCES).entries]
        had = [index for index in indexes if index and (index.name, index.project) == (name, project)]
        if not had:
            raise NotFound(f"no instance was called {name!r} of late")
        return max(had, key=lambda index: index.created_at).instance

    def get(self, instance: str) -> Instance:
        """One instance, perhaps a deleted one. Raises NotFound."""
        entry = self._store.get(keys.instance(instance))
        if entry is None:
            raise NotFound(f"no instance {instance}; `schedule.py list` shows what there is")
        index = decode(Index, entry.value, entry.key)
        node = index.node
        return Instance(
            index,
            _record(Spec, self._store.get(keys.spec(node, instance))),
            _record(Status, self._store.get(keys.status(node, instance))),
            _record(Alive, self._store.get(keys.alive(node))),
            self._store.get(keys.destroy(node, instance)) is not None,
            _record(Seen, self._store.get(keys.seen(node))),
            _record(Identity, self._store.get(keys.identity(node))),
            _record(Published, self._store.get(keys.published(node, instance))),
        )

    def all(self) -> list[Instance]:
        """Every instance that is not deleted, oldest first."""
        alive = {keys.last(entry.key): entry for entry in self._store.scan(keys.ALIVE).entries}
        nodes = {entry.key: entry for entry in self._store.scan(keys.NODES).entries}
        found = []
        for entry in self._store.scan(keys.INSTANCES).entries:
            try:
                index = decode(Index, entry.value, entry.key)
                spec = _record(Spec, nodes.get(keys.spec(index.node, index.instance)))
                if spec is None or index.deleted_at is not None:
                    continue
                status = _record(Status, nodes.get(keys.status(index.node, index.instance)))
                node = _record(Alive, alive.get(index.node))
                seen = _record(Seen, nodes.get(keys.seen(index.node)))
                identity = _record(Identity, nodes.get(keys.identity(index.node)))
            except BadRecord as bad:  # one that nobody can read does not hide the others
                warn("bad-record", reason=bad)
                continue
            destroying = keys.destroy(index.node, index.instance) in nodes
            found.append(Instance(index, spec, status, node, destroying, seen, identity))
        return sorted(found, key=lambda instance: instance.index.created_at)

    def wait_for(self, instance: str, stage: Stage, timeout_s: float) -> Status:
        """The status once `stage` is reached. Raises NotYet at the timeout, PlacetError when the instance failed."""
        node = self.get(instance).index.node
        started, status = self._monotonic(), None
        for entry in follow(self._store, keys.status(node, instance), started + timeout_s, self._monotonic):
            status = _record(Status, entry)
            if status and status.fault:
                raise PlacetError(failed(instance, status))
            if status and stage.value in status.stages:
                return status
            if status is None and self._store.get(keys.spec(node, instance)) is None:
                raise NotFound(f"{instance} was destroyed while it was waited for")
        raise NotYet(not_yet(instance, status, self._clock(), wanted=stage))

    def ip(self, instance: str) -> str:
        """The confirmed IP. Raises NotYet with the stage, PlacetError when it failed, NotFound."""
        found = self.get(instance)
        if found.state is State.DELETED:
            raise NotFound(f"{instance} was destroyed; it has no IP")
        if found.status and found.status.fault:
            raise PlacetError(failed(instance, found.status))
        if found.ip is None:
            silent = "" if found.alive else f"; its node {found.index.node} is silent"
            raise NotYet(not_yet(instance, found.status, self._clock(), found.index.created_at) + silent)
        return found.ip


def _dashed(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as problem:
        raise NotFound(f"{text!r} is no UUID; `schedule.py list` shows what there is") from problem


def failed(instance: str, status: Status) -> str:
    """Why an instance is in ERROR, in one line."""
    fault = status.fault
    if fault is None:
        return f"{instance} is {status.state.value}"
    return f"{instance} failed at stage {fault.stage} ({fault.code}): {fault.message}; destroy it and ask again"


def not_yet(
    instance: str, status: Status | None, now: float, created_at: float | None = None, wanted: Stage = Stage.IP
) -> str:
    """What an instance lacks, at which stage it is instead, and for how long, in one line."""
    stage = status.stage if status else Stage.CLAIMED
    since = status.stages.get(stage.value) if status else created_at
    lasting = "" if since is None else f" for {max(0.0, now - since):.0f} s"
    state = f" ({status.state.value})" if status else ""
    task = f": {status.task}" if status and status.task else ""
    lacks = _LACKS.get(wanted, f"is not {wanted.value} yet")
    return f"{instance} {lacks}: at stage {stage.value}{lasting}{state}{task}"


_LACKS = {Stage.IP: "has no IP yet", Stage.AGENT: "has no guest agent yet"}


def _record(cls: type[R], entry: Entry | None) -> R | None:
    return decode(cls, entry.value, entry.key) if entry else None
