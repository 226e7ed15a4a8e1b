"""ssh keys by name: what a user adds once, and then names when placing an instance."""

from __future__ import annotations

from collections.abc import Callable

from placet import keys
from placet.errors import Conflict, NotFound
from placet.log import warn
from placet.model import BadRecord, KeyRecord, decode, encode
from placet.schema import similar
from placet.ssh_keys import same_key
from placet.store import Absent, Delete, ModifiedAt, Put, Store


class KeyRecords:
    """Those of one project. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, project: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._project = project
        self._clock = clock

    def get(self, name: str) -> KeyRecord:
        """Raises NotFound with the nearest name there is."""
        entry = self._store.get(self._key(name))
        if entry is None:
            raise self._unknown(name)
        return decode(KeyRecord, entry.value, entry.key)

    def all(self) -> list[KeyRecord]:
        """Every one that can be read, by name."""
        found = []
        for entry in self._store.scan(self._key("")).entries:
            try:
                found.append(decode(KeyRecord, entry.value, entry.key))
            except BadRecord as bad:  # one that nobody can read does not hide the others
                warn("bad-record", reason=bad)
        return found

    def add(self, name: str, line: str) -> KeyRecord:
        """Keep a key that parse_public_key gave; the same again changes nothing. Raises Conflict."""
        record = KeyRecord(name, line, self._clock())
        while not self._store.transact([Absent(self._key(name))], [Put(self._key(name), encode(record))]):
            entry = self._store.get(self._key(name))
            if entry is None:
                continue  # it was removed meanwhile
            found = decode(KeyRecord, entry.value, entry.key)
            if not same_key(found.key, line):
                raise Conflict(f"key {name!r} is there and another; choose another name, or remove that one first")
            return found
        return record

    def remove(self, name: str) -> None:
        """Forget it; instances that have it keep it. Raises NotFound, Conflict."""
        entry = self._store.get(self._key(name))
        if entry is None:
            raise self._unknown(name)
        if not self._store.transact([ModifiedAt(entry.key, entry.mod_revision)], [Delete(entry.key)]):
            raise Conflict(f"key {name!r} was changed by somebody else just now; look at it, then remove it again")

    def _key(self, name: str) -> str:
        return keys.ssh_key(self._project, name)

    def _unknown(self, name: str) -> NotFound:
        known = [keys.last(entry.key) for entry in self._store.scan(self._key("")).entries]
        return NotFound(f"no key {name!r}{similar(name, known)}; `schedule.py key list` shows what there is")
