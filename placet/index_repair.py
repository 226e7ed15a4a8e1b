"""The cluster's index against the nodes' specs: what disagrees, and how it is mended. A part of doctor.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from placet import keys
from placet.closing import closing, holder_of
from placet.cluster import Cluster
from placet.errand_records import Finding
from placet.findings import finding
from placet.model import BadRecord, Index, Mark, Spec, decode, encode
from placet.specs import spec_at
from placet.store import Absent, Compare, Delete, Entry, ModifiedAt, Present, Put, Store
from placet.story import Story


class IndexRepair:
    """`clock` gives seconds since the epoch."""

    def __init__(self, store: Store, story: Story, clock: Callable[[], float]) -> None:
        self._store = store
        self._story = story
        self._clock = clock
        self._mendings: dict[str, Callable[[Finding, Cluster], bool]] = {
            "stray": self._adopt,
            "orphan-index": self._close_index,
            "orphan-spec": self._write_index,
            "orphan-name": self._free_name,
        }

    def examine(self, cluster: Cluster) -> Iterator[Finding]:
        """What disagrees, looked at twice: what changes right now is no disagreement."""
        live: set[str] = set()
        yield from self._of_indexes(cluster, live)
        yield from self._of_specs(cluster)
        for entry in cluster.names:
            holder = holder_of(entry.value, entry.key)
            if holder is None:
                yield finding("bad-record", entry.key, "it does not say whose the name is")
            elif holder not in live and holder not in cluster.intents and self._is_gone(holder) and self._still(entry):
                yield finding("orphan-name", entry.key, f"it names {holder}, which is gone")

    def mend(self, found: Finding, cluster: Cluster) -> bool:
        """Whether it was one of these, and is mended now."""
        mend = self._mendings.get(found.kind)
        return mend is not None and mend(found, cluster)

    def _of_specs(self, cluster: Cluster) -> Iterator[Finding]:
        for instance, entry in cluster.specs.items():
            node = keys.node_of(entry.key)
            try:
                spec_at(entry)
            except BadRecord as bad:
                yield finding("bad-record", instance, str(bad), node)
                continue
            destroy, index = keys.destroy(node, instance), cluster.indexes.get(instance)
            unknown = index is None or _is_closed(index)
            if unknown and self._still(entry) and self._store.get(destroy) is None:
                yield finding("orphan-spec", instance, "its node has it, and the index does not", node)

    def _of_indexes(self, cluster: Cluster, live: set[str]) -> Iterator[Finding]:
        strays = cluster.strays()
        for instance, entry in cluster.indexes.items():
            try:
                index = decode(Index, entry.value, entry.key)
            except BadRecord as bad:
                yield finding("bad-record", entry.key, str(bad))
                continue
            if index.deleted_at is not None:
                continue
            live.add(instance)
            if instance in strays:
                continue  # its spec is what is lost
            unspoken = instance not in cluster.specs and instance not in cluster.intents
            if unspoken and self._still(entry) and self._store.get(keys.spec(index.node, instance)) is None:
                yield finding("orphan-index", instance, f"nothing of it is left on node {index.node}", index.node)

    def _still(self, entry: Entry) -> bool:
        now = self._store.get(entry.key)
        return now is not None and now.mod_revision == entry.mod_revision

    def _is_gone(self, instance: str) -> bool:
        """The intent is looked at first: what is committed meanwhile then shows in the index."""
        if self._store.get(keys.intent(instance)) is not None:
            return False
        entry = self._store.get(keys.instance(instance))
        try:
            return entry is None or decode(Index, entry.value, entry.key).deleted_at is not None
        except BadRecord:
            return False  # nobody knows: hands off

    def _adopt(self, found: Finding, cluster: Cluster) -> bool:
        """Write a guest's spec again, as its node remembers it, unless somebody else has its UUID by now."""
        spec = cluster.strays()[found.subject]
        entry = self._store.get(keys.instance(spec.instance))
        if entry and self._is_elsewhere(entry, spec.node):
            return False
        free: list[Compare] = [
            Absent(keys.destroy(spec.node, spec.instance)),
            Absent(keys.intent(spec.instance)),
            Absent(keys.spec(spec.node, spec.instance)),
            ModifiedAt(keys.instance(spec.instance), entry.mod_revision if entry else 0),
        ]
        puts = [Put(keys.spec(spec.node, spec.instance), encode(spec)), _index_of(spec)]
        return self._store.transact(free, puts) and self._take_name(spec)

    def _is_elsewhere(self, entry: Entry, node: str) -> bool:
        index = decode(Index, entry.value, entry.key)
        return index.node != node and self._store.get(keys.spec(index.node, index.instance)) is not None

    def _write_index(self, found: Finding, cluster: Cluster) -> bool:
        entry = cluster.specs[found.subject]
        spec, index = spec_at(entry), cluster.indexes.get(found.subject)
        as_read = ModifiedAt(keys.instance(spec.instance), index.mod_revision if index else 0)
        return self._store.transact([Present(entry.key), as_read], [_index_of(spec)]) and self._take_name(spec)

    def _take_name(self, spec: Spec) -> bool:
        """The name it had, if it is free; an instance does without one, too."""
        key = keys.name(spec.project, spec.name)
        self._store.transact([Absent(key)], [Put(key, encode(Mark("doctor", self._clock(), spec.instance)))])
        return True

    def _close_index(self, found: Finding, _cluster: Cluster) -> bool:
        node = found.node or ""
        compares, operations = closing(self._store, found.subject, node, self._clock())
        gone = Absent(keys.spec(node, found.subject))
        return bool(operations) and self._story.transact([gone, *compares], operations)

    def _free_name(self, found: Finding, cluster: Cluster) -> bool:
        entry = next(each for each in cluster.names if each.key == found.subject)
        return self._store.transact([ModifiedAt(entry.key, entry.mod_revision)], [Delete(entry.key)])


def _is_closed(index: Entry) -> bool:
    """Whether it is one of a deleted instance; of one that can't be read nobody knows."""
    try:
        return decode(Index, index.value, index.key).deleted_at is not None
    except BadRecord:
        return False


def _index_of(spec: Spec) -> Put:
    """The index of an instance whose own was lost, but for what was asked: asking again conflicts."""
    why: dict[str, object] = {"policy": "written again by doctor"}
    index = Index(spec.instance, spec.node, spec.name, spec.project, spec.request_id, "", spec.created_at, why)
    return Put(keys.instance(spec.instance), encode(index))
