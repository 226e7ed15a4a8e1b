"""Programs that run a few calls at a time: each flow is a greenlet that stops before any call to the outside.

So flows of several programs interleave in any order at the granularity of calls, in one thread and by nobody's chance:
whoever drives a task says how many calls it makes and what becomes of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from greenlet import greenlet  # type: ignore[import-untyped]  # ships no types

from placet.errors import PlacetError
from tests.support.lost import Fate, Killed, Wire

T = TypeVar("T")


@dataclass(frozen=True)
class Drive:
    """How far a task goes: `passes` calls are answered (None: all there are), then one has `fate`, then it goes on if
    `free`. With `until` it stops before the next call of that name, or at that failpoint."""

    passes: int | None = None
    fate: Fate | None = None
    free: bool = False
    until: str | None = None


TO_THE_END = Drive()


class Task:
    """One flow of a process. `waiting`: it waits for something to happen in etcd, not for its next turn."""

    def __init__(self, process: Process, name: str, flow: Callable[[], object]) -> None:
        self.process = process
        self.name = name
        self.waiting = False
        self.result: object = None
        self.error: BaseException | None = None
        self.allocations_read: dict[str, dict[str, dict[str, int]]] = {}
        self._drive = Drive(0)
        self._flow = flow
        self._greenlet = greenlet(self._run)

    def __repr__(self) -> str:
        return f"{self.process.name}: {self.name}"

    @property
    def done(self) -> bool:
        return bool(self._greenlet.dead)

    def go(self, drive: Drive) -> None:
        """Run on as far as `drive` says. Raises what is no error that a program may end with."""
        if self.done:
            return
        self._drive = drive
        kernel = self.process.kernel
        kernel.current, before = self, kernel.current
        self._greenlet.switch()
        kernel.current = before
        if self.done:
            self.process.tasks.remove(self)
        if self.process.dead:
            self.process.kill()
        if self.error is not None and not isinstance(self.error, PlacetError | Killed):
            raise self.error

    def pause(self, call: str) -> Fate:
        """What is to become of the call that comes now."""
        while True:
            if self.process.dead:
                raise Killed(self.name)
            drive = self._drive
            if drive.until == call:
                self._drive = drive = Drive(0)
            if drive.passes is None:
                return Fate.PASS
            if drive.passes > 0:
                self._drive = Drive(drive.passes - 1, drive.fate, drive.free)
                return Fate.PASS
            if drive.fate is not None:
                self._drive = Drive(None if drive.free else 0)
                return drive.fate
            if drive.free:
                return Fate.PASS
            self._greenlet.parent.switch()

    def stop_at(self, point: str) -> None:
        """At a failpoint: whether to go no further for now."""
        if self._drive.until == point:
            self.pause(point)

    def wait(self) -> None:
        """Until it has another turn."""
        self.waiting = True
        self._greenlet.parent.switch()
        self.waiting = False
        if self.process.dead:
            raise Killed(self.name)

    def _run(self) -> None:
        try:
            self.result = self._flow()
        except BaseException as problem:
            self.error = problem


class Process:
    """A program with one wire to everything outside it. `is_cut` tells which calls reach nothing at present; `harmed`
    whether any has failed."""

    def __init__(self, kernel: Kernel, name: str, is_cut: Callable[[str], bool] = lambda _call: False) -> None:
        self.kernel = kernel
        self.name = name
        self.is_cut = is_cut
        self.tasks: list[Task] = []
        self.harmed = False
        self.wire = Wire(self._decide)
        kernel.processes.append(self)

    @property
    def dead(self) -> bool:
        return self.wire.dead

    def spawn(self, name: str, flow: Callable[[], object]) -> Task:
        """A flow that has not begun yet."""
        task = Task(self, name, flow)
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        """SIGKILL: no task of it makes another call."""
        self.wire.dead = True
        while self.tasks:
            self.tasks[0].go(TO_THE_END)

    def _decide(self, call: str, _number: int) -> Fate:
        task = self.kernel.current
        assert task is not None and task.process is self, f"{call} of {self.name} in {task}"
        fate = task.pause(call)
        if fate is Fate.PASS and self.is_cut(call):
            fate = Fate.LOST_REQUEST
        self.harmed |= fate is not Fate.PASS
        if fate is Fate.LATE and call.startswith("driver."):
            return Fate.LOST_REPLY  # libvirt is on the same machine
        return fate


class Kernel:
    """All processes, and which task is running. At failpoint `doom` the next program to come by dies."""

    def __init__(self) -> None:
        self.current: Task | None = None
        self.processes: list[Process] = []
        self.doom: str | None = None

    @property
    def tasks(self) -> list[Task]:
        return [task for process in self.processes for task in process.tasks]

    def at(self, point: str) -> None:
        """Some task passes a failpoint."""
        if self.current is not None:
            self.current.stop_at(point)
        if self.doom == point and self.current is not None:
            self.doom = None
            self.current.process.wire.dead = True
            raise Killed(point)

    def settle(self) -> None:
        """Carry out what is late."""
        for process in self.processes:
            process.wire.settle()
