"""What guests publish of themselves, on its way from the node's files to etcd. Step 5's third part.

The metadata service keeps it in a file an instance; this notices that one changed, and the worker's next look at the
instance writes the key. A guest decides how often that is only within bounds: what it says fills neither the queue nor
etcd's history.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from placet import keys
from placet.guest_records import GuestRecords, PublishedFiles
from placet.lifecycle import Stage
from placet.log import warn
from placet.model import encode
from placet.node_records import Published, Status
from placet.record_files import Changes
from placet.schema import changed
from placet.store import Absent, Compare, CreatedAt, ModifiedAt, Put, Store

LOOK_EVERY_S = 0.25
PAUSE_S = 0.5
BYTES_PER_S = 16 * 1024


class Publications:
    """All of one node's."""

    def __init__(self, node: str, store: Store, files: PublishedFiles) -> None:
        self._node = node
        self._store = store
        self._files = files

    def read(self, instance: str) -> Published | None:
        """What the guest has published; None for nothing, or for what the node cannot read now."""
        try:
            return self._files.read(instance)
        except OSError as problem:
            warn("published-not-read", instance=instance, reason=problem)
            return None

    def write(self, published: Published, spec_revision: int) -> bool:
        """Bring it to etcd, if the spec is the one made at `spec_revision` and nobody asked for a destroy.

        False when that is no longer so, or somebody else wrote the key meanwhile.
        """
        instance, value = published.instance, encode(published)
        key, spec = keys.published(self._node, instance), keys.spec(self._node, instance)
        entry = self._store.get(key)
        if entry is not None and entry.value == value:
            return True
        as_read = Absent(key) if entry is None else ModifiedAt(key, entry.mod_revision)
        compares: list[Compare] = [CreatedAt(spec, spec_revision), Absent(keys.destroy(self._node, instance)), as_read]
        return self._store.transact(compares, [Put(key, value)])


def with_ready(status: Status, published: Published | None) -> Status:
    """The status of an instance that says it is ready: a stage like the others, reached once and for all. A guest that
    starts again has no need to say it again."""
    if published is None or published.ready_at is None or Stage.READY.value in status.stages:
        return status
    stages = {**status.stages, Stage.READY.value: published.ready_at}
    return changed(status, stage=Stage.READY, stages=stages)


class PublishedWatch:
    """Has `look_at` called with each instance whose file changed, now or while nobody watched.

    The first change is passed on at once, the next after a pause that grows with what is published. `clock` is the wall
    clock in seconds, `monotonic` what pauses are measured by.
    """

    def __init__(
        self,
        records: GuestRecords,
        look_at: Callable[[str], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._records = records
        self._look_at = look_at
        self._clock = clock
        self._monotonic = monotonic
        self._changes = Changes(records.published.directory)
        self._changed: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. A look costs one stat of the directory."""
        while not stop.wait(LOOK_EVERY_S):
            try:
                self.step()
            except Exception as problem:  # the thread's edge: it must not die, or no guest would be heard again
                warn("published-not-read", reason=repr(problem))
                self._changes = Changes(self._records.published.directory)  # find all there is, once more

    def step(self) -> None:
        """Pass on what changed and is due. Raises OSError."""
        for path, is_there in self._changes.look(int(self._clock() * 1e9)).items():
            if is_there:
                self._note(path)
        now = self._monotonic()
        self._not_before = {one: due for one, due in self._not_before.items() if due > now}
        for instance in self._changed.keys() - self._not_before.keys():
            size = self._changed.pop(instance)
            self._not_before[instance] = now + max(PAUSE_S, size / BYTES_PER_S)
            self._look_at(instance)

    def _note(self, path: Path) -> None:
        instance = path.stem
        if not self._records.has(instance):
            self._records.published.remove(instance)  # said by one who was just being destroyed
            return
        with contextlib.suppress(FileNotFoundError):  # it goes just now
            self._changed[instance] = path.stat().st_size
