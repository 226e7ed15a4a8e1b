"""Zones: names for aggregates of Placement's, so that `--zone` can say where an instance may go.

etcd says what a zone is called, Placement which providers are in it. A zone lives as long as it has members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from placet import keys
from placet.errors import NotFound, Unreachable
from placet.log import warn
from placet.model import BadRecord, Zone, decode, encode
from placet.node_records import Alive
from placet.nodes import Nodes
from placet.placement import Placement
from placet.schema import similar
from placet.store import Absent, CreatedAt, Delete, Entry, ModifiedAt, Put, Store

ATTEMPTS = 10


@dataclass(frozen=True)
class ZoneView:
    """A zone with its members by UUID: the nodes' names, those of other providers (shared pools), and who is up."""

    zone: Zone
    members: dict[str, str]
    up: frozenset[str]


class Zones:
    """`clock` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        placement: Placement,
        nodes: Nodes,
        clock: Callable[[], float],
        new_uuid: Callable[[], str],
    ) -> None:
        self._store = store
        self._placement = placement
        self._nodes = nodes
        self._clock = clock
        self._new_uuid = new_uuid

    def member(self, word: str) -> str:
        """The UUID of a node, by name or UUID, or of another provider (a shared pool). Raises NotFound, Conflict."""
        try:
            return self._nodes.find_alive(word)
        except NotFound:
            found = [each.uuid for each in self._placement.providers() if word in (each.uuid, each.name)]
            if not found:
                raise
            return found[0]

    def add(self, name: str, members: Iterable[str]) -> None:
        """Have providers be in a zone, which is made if it is new. The same again changes nothing.

        The record is written again once they are in: should somebody who saw the zone empty remove it just then, one
        of the two notices. Raises NotFound for a provider that Placement does not know, Unreachable.
        """
        members = list(members)
        for _ in range(ATTEMPTS):
            entry = self._store.get(keys.zone(name)) or self._make(name)
            if entry is None:
                continue  # somebody removed it as soon as it was made
            aggregate = decode(Zone, entry.value, entry.key).aggregate
            for member in members:
                self._change(member, joins=aggregate)
            if self._store.transact([CreatedAt(entry.key, entry.create_revision)], [Put(entry.key, entry.value)]):
                return
            for member in members:
                self._change(member, leaves=aggregate)
        raise Unreachable(f"zone {name!r} kept being removed by others; ask again")

    def remove(self, name: str, members: Iterable[str]) -> list[str]:
        """Take providers out of a zone, all if none is named; an empty zone goes. Gives those that were in it.

        Raises NotFound when there is no such zone, Unreachable.
        """
        entry = self._entry(name)
        zone = decode(Zone, entry.value, entry.key)
        inside = [found.uuid for found in self._placement.providers(zone.aggregate)]
        gone = [member for member in list(members) or inside if member in inside]
        for member in gone:
            self._change(member, leaves=zone.aggregate)
        for _ in range(ATTEMPTS):
            if self._placement.providers(zone.aggregate):
                return gone
            if self._store.transact([ModifiedAt(entry.key, entry.mod_revision)], [Delete(entry.key)]):
                return gone
            now = self._store.get(keys.zone(name))
            if now is None or now.create_revision != entry.create_revision:
                return gone
            entry = now
        raise Unreachable(f"zone {name!r} kept being changed by others; ask again")

    def all(self) -> list[ZoneView]:
        """Every zone whose record can be read, by name."""
        alive = {keys.last(e.key): decode(Alive, e.value, e.key).name for e in self._store.scan(keys.ALIVE).entries}
        found = []
        for entry in self._store.scan(keys.ZONES).entries:
            try:
                zone = decode(Zone, entry.value, entry.key)
            except BadRecord as bad:  # one that nobody can read does not hide the others
                warn("bad-record", reason=bad)
                continue
            inside = {each.uuid: each.name for each in self._placement.providers(zone.aggregate)}
            members = {uuid: alive.get(uuid) or self._nodes.name(uuid) or name for uuid, name in inside.items()}
            found.append(ZoneView(zone, members, frozenset(inside.keys() & alive.keys())))
        return found

    def _entry(self, name: str) -> Entry:
        entry = self._store.get(keys.zone(name))
        if entry is None:
            known = [keys.last(each.key) for each in self._store.scan(keys.ZONES).entries]
            raise NotFound(f"no zone {name!r}{similar(name, known)}; `schedule.py zone list` shows what there is")
        return entry

    def _make(self, name: str) -> Entry | None:
        zone = Zone(name, self._new_uuid(), self._clock())
        self._store.transact([Absent(keys.zone(name))], [Put(keys.zone(name), encode(zone))])
        return self._store.get(keys.zone(name))

    def _change(self, member: str, joins: str | None = None, leaves: str | None = None) -> None:
        """Other aggregates that a provider is in are kept."""
        for _ in range(ATTEMPTS):
            found, generation = self._placement.aggregates(member)
            wanted = found.union(filter(None, [joins])) - {leaves}
            if wanted == found or self._placement.put_aggregates(member, wanted, generation):
                return
        raise Unreachable(f"Placement kept changing the aggregates of {member} under us; ask again")
