"""Images by name: what an operator adds, looks at, removes, and has fetched ahead. A node says what an image really is.

An instance carries a copy of its image's source, so that no change of a record touches one that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from placet import keys
from placet.asking import ANSWER_S, Asking
from placet.errand_records import ImageReport
from placet.errors import Conflict, NotFound, NotYet, PlacetError, Refused
from placet.image_checks import is_same
from placet.log import warn
from placet.model import BadRecord, ImageRecord, ImageRef, decode, encode
from placet.node_records import Identity
from placet.schema import changed, similar
from placet.store import Absent, Delete, ModifiedAt, Put, Store

# told of each node's name and what it says of an image that it fetches
Heard = Callable[[str, ImageReport], object]


@dataclass(frozen=True)
class Brought:
    """What came of asking a node to fetch an image: its last word, None when it said none."""

    node: str
    alive: bool
    report: ImageReport | None

    @property
    def problem(self) -> PlacetError | None:
        """Why it has not got the image, in a line; None when it has."""
        if not self.alive:
            return NotYet(f"node {self.node} is not alive: see schedule.py nodes")
        if self.report is None:
            return NotYet(f"node {self.node} said nothing for {ANSWER_S:g} s: see its log")
        if self.report.fault is not None:
            return Refused(f"node {self.node}: {self.report.fault.message}")
        return None


class ImageRecords:
    """`clock` gives seconds since the epoch."""

    def __init__(self, store: Store, asking: Asking, clock: Callable[[], float]) -> None:
        self._store = store
        self._asking = asking
        self._clock = clock

    def find(self, name: str) -> ImageRecord | None:
        """The record of that name, None when there is none."""
        entry = self._store.get(keys.image(name))
        return decode(ImageRecord, entry.value, entry.key) if entry else None

    def get(self, name: str) -> ImageRecord:
        """Raises NotFound with the nearest name there is."""
        found = self.find(name)
        if found is None:
            raise self._unknown(name)
        return found

    def all(self) -> list[ImageRecord]:
        """Every record that can be read, by name."""
        found = []
        for entry in self._store.scan(keys.IMAGES).entries:
            try:
                found.append(decode(ImageRecord, entry.value, entry.key))
            except BadRecord as bad:  # one that nobody can read does not hide the others
                warn("bad-record", reason=bad)
        return found

    def add(self, wanted: ImageRecord, node: str | None, heard: Heard) -> ImageRecord:
        """Have a node fetch and inspect it, then record what it found; the same again changes nothing.

        `node` is a UUID, None for any that is alive. Raises Conflict when the name is another image's, NotYet when no
        node answers, Refused with the node's reason.
        """
        found = self._same_or_none(wanted)
        if found is not None:
            return found
        image = ImageRef(wanted.source, wanted.format, wanted.checksum)
        (brought,) = self._bring(image, [node or self._any()], heard)
        if brought.problem is not None:
            raise brought.problem
        return self.record(_with_facts(wanted, brought.report))

    def record(self, wanted: ImageRecord) -> ImageRecord:
        """Record it as it is said to be. Raises Conflict."""
        record = changed(wanted, created_at=self._clock())
        if self._store.transact([Absent(keys.image(wanted.name))], [Put(keys.image(wanted.name), encode(record))]):
            return record
        return self._same_or_none(wanted) or self.record(wanted)  # it was removed meanwhile

    def remove(self, name: str) -> None:
        """Forget the name; instances that were made of it go on, and what nodes have cached stays a while."""
        entry = self._store.get(keys.image(name))
        if entry is None:
            raise self._unknown(name)
        if not self._store.transact([ModifiedAt(entry.key, entry.mod_revision)], [Delete(entry.key)]):
            raise Conflict(f"image {name!r} was changed by somebody else just now; look at it, then remove it again")

    def warm(self, name: str, nodes: Collection[str], heard: Heard) -> list[Brought]:
        """Have nodes fetch an image ahead, all that are alive when none is given. Raises NotFound, NotYet."""
        record = self.get(name)
        asked = nodes or [keys.last(entry.key) for entry in self._store.scan(keys.ALIVE).entries]
        if not asked:
            raise NotYet("no node is alive to fetch it; start one (./up.sh, compute.py)")
        return self._bring(ImageRef(record.source, record.format, record.checksum), asked, heard)

    def _bring(self, image: ImageRef, nodes: Collection[str], heard: Heard) -> list[Brought]:
        alive = {keys.last(entry.key) for entry in self._store.scan(keys.ALIVE).entries}
        names = {node: self._name(node) for node in nodes}
        asked = [node for node in nodes if node in alive]
        reports = self._asking.images(asked, image, lambda node, report: heard(names[node], report))
        return [Brought(names[node], node in alive, reports.get(node)) for node in nodes]

    def _any(self) -> str:
        """The first node by name, one that is in use before one that is drained."""
        alive = [keys.last(entry.key) for entry in self._store.scan(keys.ALIVE).entries]
        if not alive:
            raise NotYet("no node is alive to fetch it; start one (./up.sh, compute.py), or add it with --no-fetch")
        closed = {keys.last(entry.key) for entry in self._store.scan(keys.CLOSED).entries}
        return min(alive, key=lambda node: (node in closed, self._name(node)))

    def _name(self, node: str) -> str:
        entry = self._store.get(keys.identity(node))
        return decode(Identity, entry.value, entry.key).name if entry else node

    def _same_or_none(self, wanted: ImageRecord) -> ImageRecord | None:
        found = self.find(wanted.name)
        if found is not None and not is_same(wanted, found):
            raise Conflict(
                f"image {wanted.name!r} is there and another (schedule.py image show {wanted.name}); "
                "choose another name, or remove that one first"
            )
        return found

    def _unknown(self, name: str) -> NotFound:
        known = [keys.last(entry.key) for entry in self._store.scan(keys.IMAGES).entries]
        return NotFound(f"no image {name!r}{similar(name, known)}; `schedule.py image list` shows what there is")


def _with_facts(wanted: ImageRecord, report: ImageReport | None) -> ImageRecord:
    """What was asked for, with what the node found."""
    if report is None:
        return wanted
    facts = {"checksum": report.digest or wanted.checksum, "format": report.format}
    return changed(wanted, **facts, virtual_size=report.virtual_size, size=report.size)
