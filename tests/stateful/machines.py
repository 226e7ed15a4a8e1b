"""Machines that outlive their agents, and what agents do to them: watched, so that nothing is done that must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from placet.drivers.fake import FakeDriver, FakeHypervisor
from placet.hypervisor import CachedImage, ConsolePiece, Hypervisor, Observed
from placet.model import Spec
from placet.resources import Inventory
from tests.stateful.ghost import Ghost
from tests.stateful.tasks import Process

if TYPE_CHECKING:
    from tests.stateful.agents import Agent

T = TypeVar("T")


@dataclass
class Machine:
    """`cut` are the kinds of calls that reach nothing from here: store, placement, driver."""

    name: str
    node: str
    vcpus: int
    directory: Path
    hypervisor: FakeHypervisor
    lives: dict[str, Spec] = field(default_factory=dict)
    disks: dict[str, Spec] = field(default_factory=dict)
    booted: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    image_s: float = 0.0
    agent: Agent | None = None

    def is_cut(self, call: str) -> bool:
        return call.partition(".")[0] in self.cut

    @property
    def offered(self) -> dict[str, Inventory]:
        return {
            "VCPU": Inventory(self.vcpus, max_unit=self.vcpus),
            "MEMORY_MB": Inventory(8192, max_unit=8192),
            "DISK_GB": Inventory(50, max_unit=50),
        }


class WatchedDriver:
    """The fake driver at the end of a wire; it tells when something is done to a guest that must never be done."""

    name = "fake"

    def __init__(self, inner: FakeDriver, machine: Machine, process: Process, ghost: Ghost) -> None:
        self._inner = inner
        self._machine = machine
        self._process = process
        self._ghost = ghost

    def _carry(self, name: str, call: Callable[[], T]) -> T:
        return self._process.wire.carry(f"driver.{name}", call)

    def describe(self) -> Hypervisor:
        return self._inner.describe()

    def prepare(self) -> None:
        self._carry("prepare", self._inner.prepare)

    def instances(self) -> frozenset[str]:
        return self._carry("instances", self._inner.instances)

    def observe(self, instance: str) -> Observed:
        return self._carry("observe", lambda: self._inner.observe(instance))

    def console(self, instance: str, lines: int, offset: int | None = None) -> ConsolePiece:
        return self._carry("console", lambda: self._inner.console(instance, lines, offset))

    def create_disk(self, spec: Spec, image: CachedImage) -> None:
        def call() -> None:
            if spec.instance not in self._machine.hypervisor.disks:
                self._check_not_gone(spec)
                self._machine.disks[spec.instance] = spec
            self._inner.create_disk(spec, image)

        self._carry("create_disk", call)

    def images_in_use(self) -> frozenset[Path]:
        return self._inner.images_in_use()

    def define(self, spec: Spec) -> None:
        def call() -> None:
            if spec.instance not in self._machine.hypervisor.domains:
                self._check_not_gone(spec)
                self._machine.booted.discard(spec.instance)
            if spec.instance not in self._machine.booted:
                self._machine.lives[spec.instance] = spec
            self._inner.define(spec)

        self._carry("define", call)

    def start(self, instance: str) -> None:
        def call() -> None:
            self._inner.start(instance)
            if instance not in self._machine.booted:
                self._check_held(instance)
            self._machine.booted.add(instance)

        self._carry("start", call)

    def stop(self, instance: str) -> None:
        raise AssertionError(f"nobody stops {instance}")

    def remove_domain(self, instance: str) -> None:
        def call() -> None:
            if instance in self._machine.hypervisor.domains:
                self._check_asked(instance, self._machine.lives)
            self._inner.remove_domain(instance)

        self._carry("remove_domain", call)

    def remove_disk(self, instance: str) -> None:
        def call() -> None:
            if instance in self._machine.hypervisor.disks:
                self._check_asked(instance, self._machine.disks)
            self._inner.remove_disk(instance)

        self._carry("remove_disk", call)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._inner.subscribe(changed)

    def close(self) -> None:
        self._inner.close()

    def _check_not_gone(self, spec: Spec) -> None:
        life = (spec.instance, spec.request_id)
        brought_back = self._ghost.restored  # and what holds its allocation may be a later life of the same UUID
        assert brought_back or life not in self._ghost.gone, (
            f"{life} was destroyed, and is built on {self._machine.name}"
        )

    def _check_held(self, instance: str) -> None:
        """What the same look at it has read in Placement is what its spec says."""
        task, spec = self._process.kernel.current, self._machine.lives[instance]
        read = task.allocations_read.get(instance) if task else None
        assert read == spec.allocations and self._machine.node in spec.allocations, f"{instance} boots holding {read}"

    def _check_asked(self, instance: str, there: dict[str, Spec]) -> None:
        life = (instance, there[instance].request_id)
        assert self._ghost.is_asked(self._machine.node, life), f"{life} is removed, and nobody asked for it"
