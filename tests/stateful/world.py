"""What the simulated programs share: time, etcd that can be restored from a backup, watches that wait in fake time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from placet.errors import WatchLost
from placet.placement import Allocation, Placement
from placet.store import Entry, Event, Operation, Store, Watch
from placet.store.memory import MemoryStore
from tests.stateful.tasks import Process
from tests.support.lost import FlakyPlacement, FlakyStore
from tests.support.placement_model import ModelPlacement

START = 1_800_000_000.0


class Clock:
    """Monotonic time that somebody advances, and a wall clock that somebody sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.offset = START
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.offset

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay_s, next(self._order), callback))

    def set_by(self, seconds: float) -> None:
        """Somebody sets all wall clocks."""
        self.offset += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass and call back what is due by then."""
        self.now += seconds
        while self._due and self._due[0][0] <= self.now:
            heapq.heappop(self._due)[2]()


@dataclass(frozen=True)
class Backup:
    """etcd as it once was."""

    entries: dict[str, Entry]
    revision: int
    leases: dict[int, int]


class Etcd(MemoryStore):
    """`written` hears of every change, before it is made."""

    def __init__(self, clock: Clock, written: Callable[[Sequence[Operation], Mapping[str, Entry]], None]) -> None:
        super().__init__(clock.monotonic)
        self._written = written
        self.restored = 0

    @property
    def revision(self) -> int:
        return self._revision

    def backup(self) -> Backup:
        return Backup(dict(self._entries), self._revision, {lease: ttl for lease, (_, ttl) in self._leases.items()})

    def restore(self, backup: Backup, new_cluster: bool) -> None:
        """Go back; leases begin their time anew, watches end."""
        self._entries = dict(backup.entries)
        self._revision = self._compacted = backup.revision
        self._history.clear()
        self._leases = {lease: (self._clock() + ttl, ttl) for lease, ttl in backup.leases.items()}
        self._cluster_id += new_cluster
        self.restored += 1

    def _apply(self, operations: Sequence[Operation]) -> None:
        self._written(operations, self._entries)
        super()._apply(operations)


class PatientWatch:
    """A watch whose `wait` lets other tasks go on, and ends with the reach of etcd or with a restored one."""

    def __init__(self, inner: Watch, etcd: Etcd, process: Process, clock: Clock) -> None:
        self._inner = inner
        self._etcd = etcd
        self._process = process
        self._clock = clock
        self._restored = etcd.restored

    def wait(self, timeout_s: float) -> tuple[Event, ...]:
        deadline = self._clock.now + timeout_s
        while True:
            if self._process.is_cut("store.watch") or self._etcd.restored != self._restored:
                raise WatchLost("the stream ended")
            events = self._inner.wait(0)
            task = self._process.kernel.current
            if events or self._clock.now >= deadline or task is None:
                return events
            task.wait()

    def close(self) -> None:
        self._inner.close()


class FarStore(FlakyStore):
    """etcd as one process reaches it."""

    def __init__(self, etcd: Etcd, process: Process, clock: Clock) -> None:
        super().__init__(etcd, process.wire)
        self._etcd = etcd
        self._process = process
        self._clock = clock

    def watch(self, prefixes: Sequence[str], revision: int) -> Watch:
        return PatientWatch(super().watch(prefixes, revision), self._etcd, self._process, self._clock)


class FarPlacement(FlakyPlacement):
    """Placement as one process reaches it; what a task has read of an allocation is kept with the task. `released`
    hears of what was given back."""

    def __init__(self, inner: ModelPlacement, process: Process, released: Callable[[str, Allocation], None]) -> None:
        super().__init__(inner, process.wire)
        self._process = process
        self._released = released

    def allocation(self, consumer: str) -> Allocation:
        found = super().allocation(consumer)
        task = self._process.kernel.current
        if task is not None:
            task.allocations_read[consumer] = found.allocations
        return found

    def release(self, consumer: str, held: Allocation) -> bool:
        done = super().release(consumer, held)
        if done:
            self._released(consumer, held)
        return done


@dataclass(frozen=True)
class World:
    """The services that every program is pointed at."""

    clock: Clock
    etcd: Etcd
    placement: ModelPlacement
    new_uuid: Callable[[], str]
    released: Callable[[str, Allocation], None]

    def placement_of(self, process: Process) -> Placement:
        return FarPlacement(self.placement, process, self.released)

    def store(self, process: Process) -> Store:
        return FarStore(self.etcd, process, self.clock)
