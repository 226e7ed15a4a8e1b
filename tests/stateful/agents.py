"""Agents made of the real parts, without their threads.

What placet/agent.py does with threads is done here by jobs that somebody chooses: a look at one instance, a step of the
watcher, an audit, a heartbeat. At most one of each kind is under way, and one look an instance, as there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import TypeVar, cast

from placet import keys
from placet.auditor import Auditor
from placet.claims import Claims
from placet.cloud import join_cloud
from placet.compute_config import FakeConfig
from placet.drivers.fake import FakeDriver
from placet.errors import PlacetError
from placet.guest_records import GuestRecords
from placet.heartbeat import Heartbeat
from placet.hypervisor import CachedImage, Network, Owner
from placet.images import ImageCache
from placet.known_etcd import KnownEtcd
from placet.model import ImageRef
from placet.node_records import Alive, Identity
from placet.registration import (
    bind_identity,
    claim_subnet,
    publish_inventory,
    publish_traits,
    register_provider,
    restore_keys,
)
from placet.spec_files import SpecFiles
from placet.story import Story
from placet.sweep import Sweep
from placet.watching import Watcher
from placet.worker import Worker
from tests.stateful.ghost import Ghost
from tests.stateful.machines import Machine, WatchedDriver
from tests.stateful.tasks import Kernel, Process, Task
from tests.stateful.world import Clock, World

T = TypeVar("T")
RANGE = "198.19.0.0/16"
TTL_S = 15
BOOT_S = 4.0
RETRY_S = 2.0


class InstantImages:
    """In place of placet.images.ImageCache: every image is there."""

    def fetch(self, image: ImageRef, progress: object = None) -> CachedImage:
        return CachedImage(Path(image.source), "qcow2", 64 * 2**20)


class Fetchers:
    """In place of the worker's threads: an image is there at once, or after a while."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine = machine
        self._clock = clock

    def submit(
        self, fetch: Callable[[ImageRef, object], CachedImage], image: ImageRef, progress: object
    ) -> Future[CachedImage]:
        future: Future[CachedImage] = Future()
        if self._machine.image_s:
            self._clock.call_later(self._machine.image_s, lambda: future.set_result(fetch(image, progress)))
        else:
            future.set_result(fetch(image, progress))
        return future


class Queue:
    """placet.workqueue without waiting: what is due is taken in the order that somebody chooses."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._due: dict[str, float] = {}
        self._working: set[str] = set()

    def add(self, instance: str) -> None:
        self.add_later(instance, 0.0)

    def add_later(self, instance: str, delay_s: float) -> None:
        due = self._monotonic() + delay_s
        self._due[instance] = min(due, self._due.get(instance, due))

    def ripe(self) -> list[str]:
        now = self._monotonic()
        return sorted(key for key, due in self._due.items() if due <= now and key not in self._working)

    @property
    def idle(self) -> bool:
        return not self._due and not self._working

    def take(self, instance: str) -> None:
        del self._due[instance]
        self._working.add(instance)

    def done(self, instance: str) -> None:
        self._working.discard(instance)


class Agent(Process):
    """One incarnation of compute.py. `start` is its first task; the others make sense once it is `ready`."""

    def __init__(self, kernel: Kernel, machine: Machine, world: World, ghost: Ghost) -> None:
        super().__init__(kernel, f"agent {machine.name}", machine.is_cut)
        self.machine = machine
        self.ready = False
        self.asked: list[str] = []
        self.queue = Queue(world.clock.monotonic)
        self._world = world
        self._ghost = ghost
        self._doubtful = False
        self._busy: set[str] = set()

    def start(self) -> None:
        """As placet.node.build_node and placet.agent.Agent.run do it, in the same order."""
        world, machine = self._world, self.machine
        store, placement = world.store(self), world.placement_of(self)
        hypervisor, wall, monotonic = machine.hypervisor.describe(), world.clock.wall, world.clock.monotonic
        known = KnownEtcd(machine.directory / "known-etcd.json")
        cloud = join_cloud(store, known.cloud, world.new_uuid, wall())
        known.join(cloud)
        identity = Identity(machine.node, machine.name, hypervisor.uuid, wall())
        bind_identity(store, identity)
        register_provider(placement, machine.node, hypervisor.uuid)
        subnet = claim_subnet(store, RANGE, machine.node)
        driver = self._driver = WatchedDriver(self._fake(cloud, subnet), machine, self, self._ghost)
        driver.prepare()
        publish_inventory(placement, machine.node, machine.offered)
        publish_traits(placement, machine.node, hypervisor.traits, enabled=True)
        self._placement, self._store, self._traits = placement, store, hypervisor.traits
        story = Story(store, f"node {machine.name}", machine.node, wall)
        claims = Claims(placement, cloud, pause=lambda _seconds: None)
        specs = SpecFiles(machine.directory / "specs")
        images, records = cast(ImageCache, InstantImages()), GuestRecords(machine.directory / "metadata")
        self._worker = Worker(
            machine.node,
            cloud,
            store,
            claims,
            driver,
            images,
            records,
            specs,
            story,
            self.queue.add,
            self.queue.add_later,
            wall,
        )
        alive = Alive(machine.node, machine.name, "127.0.0.1", hypervisor.uuid, "fake", "fake", wall())
        self._heartbeat = Heartbeat(store, alive, TTL_S, wall, monotonic)
        sweep = Sweep(
            machine.node,
            cloud,
            store,
            placement,
            claims,
            driver,
            known,
            specs,
            story,
            lambda: restore_keys(store, identity, RANGE, subnet),
            wall,
            monotonic,
        )
        self._auditor = Auditor(machine.node, store, sweep, monotonic, Random(1))
        self._watcher = Watcher(machine.node, store, self.queue.add, self._ask, monotonic)
        for entry in store.scan(keys.destroys(machine.node)).entries:
            self._look_at(keys.last(entry.key))
        driver.subscribe(self.queue.add)
        self._heartbeat.beat(self._watcher.used)
        self.ready = True

    def jobs(self) -> list[str]:
        """What could begin now, by name."""
        if not self.ready or self.dead:
            return []
        audits = [f"answer {operation}" for operation in self.asked] or ["audit"]
        once = [job for job in ["watch", "beat", *audits] if job.split()[0] not in self._busy]
        if "audit" in self._busy or "answer" in self._busy:
            once = [job for job in once if job.split()[0] not in ("audit", "answer")]
        return once + [f"look {instance}" for instance in self.queue.ripe()]

    def begin(self, job: str) -> Task:
        """Begin one of `jobs`."""
        kind, _, subject = job.partition(" ")
        if kind == "look":
            self.queue.take(subject)
            return self.spawn(job, lambda: self._look_and_done(subject))
        self._busy.add(kind)
        if kind == "answer":
            self.asked.remove(subject)
        return self.spawn(job, lambda: self._once(kind, subject))

    def retire(self) -> None:
        """A clean end: say goodbye, take no more."""
        self._heartbeat.stop()
        publish_traits(self._placement, self.machine.node, self._traits, enabled=False)
        self.wire.dead = True

    def hear(self, instance: str) -> None:
        """The hypervisor says that something has changed."""
        if self.ready and not self.dead:
            self.queue.add(instance)

    def _ask(self, operation: str) -> None:
        if operation not in self.asked:
            self.asked.append(operation)

    def _once(self, kind: str, subject: str) -> None:
        try:
            if kind == "watch":
                self._watcher.step(0.0)
            elif kind == "beat":
                self._heartbeat.beat(self._watcher.used)
            else:
                self._auditor.step(subject or None)
        finally:
            self._busy.discard(kind)

    def _look_and_done(self, instance: str) -> None:
        try:
            self._look_at(instance)
        finally:
            self.queue.done(instance)

    def _look_at(self, instance: str) -> None:
        try:
            self._worker.reconcile(instance)
        except PlacetError as problem:
            self.queue.add_later(instance, RETRY_S)
            with contextlib.suppress(PlacetError):
                self._worker.say_why(instance, str(problem))

    def _fake(self, cloud: str, subnet: IPv4Network) -> FakeDriver:
        network, clock = Network("placet", "placet0", subnet), self._world.clock
        owner, config = Owner(cloud, self.machine.node), FakeConfig(boot_s=BOOT_S)
        return FakeDriver(self.machine.hypervisor, owner, network, config, Random(1), clock.monotonic, timer=clock)
