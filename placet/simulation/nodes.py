"""One simulated node: the parts of a real one (placet/node.py), on a hypervisor that pretends, with nothing on disk.

What a real node has threads for is a share of its process's pools here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar, cast

from placet import __version__
from placet.auditor import Auditor
from placet.claims import Claims
from placet.compute_config import ComputeConfig
from placet.drivers.fake import TRAITS, FakeDriver, FakeHypervisor
from placet.duties import Duties
from placet.errand_handlers import BringImage, ReadConsole
from placet.errands import Errands
from placet.guest_records import GuestRecords
from placet.heartbeat import Heartbeat
from placet.hypervisor import CachedImage, Network, Owner
from placet.images import ImageCache
from placet.known_etcd import KnownEtcd
from placet.model import ImageRef
from placet.node_records import Alive, Identity
from placet.operations import Desk, Handler, Operations
from placet.placement import Placement
from placet.registration import restore_keys
from placet.simulation.boots import BOOTS
from placet.simulation.pace import Pace
from placet.simulation.pools import Pools, Share
from placet.simulation.shapes import RANGE, inventory_of, name_of
from placet.spec_files import SpecFiles
from placet.store import Store, Watch
from placet.story import Story
from placet.sweep import Sweep
from placet.watching import Watcher
from placet.worker import Worker

T = TypeVar("T")


class OpenWatch(Protocol):
    """As placet.store.Store.watch; `notify` is called when there is something to wait for."""

    def __call__(self, prefixes: Sequence[str], revision: int, notify: Callable[[], None], /) -> Watch: ...


class ReadyImages:
    """In place of placet.images.ImageCache: every image is there, whatever it is."""

    def fetch(self, image: ImageRef, progress: Callable[[str], None] | None = None) -> CachedImage:  # noqa: ARG002
        return CachedImage(Path(image.source), "qcow2", 0)


class AtOnce(Executor):
    """Threads for what takes no time."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        outcome: Future[T] = Future()
        try:
            outcome.set_result(fn(*args, **kwargs))
        except BaseException as problem:  # it is raised where the outcome is read
            outcome.set_exception(problem)
        return outcome


@dataclass(frozen=True)
class Shared:
    """What all nodes of a process have in common."""

    config: ComputeConfig
    cloud: str
    store: Store
    open_watch: OpenWatch
    placement: Placement
    claims: Claims
    pools: Pools
    pace: Pace
    random: Random


@dataclass(frozen=True)
class Enlisted:
    """A node that etcd and Placement know."""

    number: int
    node: str
    hypervisor: str
    subnet: IPv4Network


class SimulatedNode:
    """Its parts are called by the threads of the pools."""

    def __init__(self, shared: Shared, enlisted: Enlisted) -> None:
        self.number = enlisted.number
        self.id = enlisted.node
        self._shared = shared
        self._name = name_of(enlisted.number)
        self.hypervisor = FakeHypervisor(enlisted.hypervisor, virt_type="simulated", boots=BOOTS)
        self._driver = self._make_driver(enlisted)
        self._story = Story(shared.store, f"node {self._name}", self.id, time.time)
        self._specs = SpecFiles(None)
        self.heartbeat = Heartbeat(shared.store, self._alive(), shared.pace.ttl_s, time.time, time.monotonic)
        self._auditor = self._make_auditor(enlisted)
        self._make_operations()
        self.watcher = self._make_watcher()
        worker, looks = self._make_worker(), Share(shared.pools.looks, str(self.number))
        self.duties = Duties(
            worker, self.heartbeat, self.watcher, self._auditor, looks.add_later, shared.random, shared.pace.relist_s
        )

    def spread(self) -> None:
        """Have what every node does in turn be due at this node's place in the round, not at all nodes' at once."""
        pools, pace, key = self._shared.pools, self._shared.pace, str(self.number)
        turn = pace.turn(self.number)
        self.watcher.put_off(pace.relist_s * turn)
        self._auditor.put_off(pace.audit_s * turn)
        pools.watches.add_later(key, pace.relist_s * turn)
        pools.audits.add_later(key, pace.audit_s * turn)
        pools.beats.add_later(key, self.heartbeat.interval_s * turn)

    def watch(self) -> float:
        """Pass on what has changed, or list; the seconds until the next list."""
        return self.duties.watch(0.0) or self.watcher.list_in_s

    def serve_errand(self, key: str) -> None:
        """`key` is what is to be done with an operation, and its id. Raises Unreachable."""
        what, _, operation = key.partition(" ")
        if what == "dispatch":
            self._operations.dispatch(operation)
        else:
            self._desks[what].serve(operation)

    def _make_driver(self, enlisted: Enlisted) -> FakeDriver:
        owner, config = Owner(self._shared.cloud, self.id), self._shared.config
        network = Network(config.network.name, config.network.bridge, enlisted.subnet)
        driver = FakeDriver(self.hypervisor, owner, network, config.fake, self._shared.random)
        driver.subscribe(Share(self._shared.pools.looks, str(self.number)).add)
        return driver

    def _make_worker(self) -> Worker:
        shared, looks = self._shared, Share(self._shared.pools.looks, str(self.number))
        return Worker(
            self.id,
            shared.cloud,
            shared.store,
            shared.claims,
            self._driver,
            cast(ImageCache, ReadyImages()),
            GuestRecords(None),
            self._specs,
            self._story,
            looks.add,
            looks.add_later,
            time.time,
            AtOnce(),
        )

    def _make_auditor(self, enlisted: Enlisted) -> Auditor:
        shared = self._shared
        identity = Identity(self.id, self._name, enlisted.hypervisor, time.time())
        known = KnownEtcd(None)
        known.join(shared.cloud)

        def restore() -> None:
            restore_keys(shared.store, identity, RANGE, enlisted.subnet)
            self.heartbeat.restore()

        sweep = Sweep(
            self.id,
            shared.cloud,
            shared.store,
            shared.placement,
            shared.claims,
            self._driver,
            known,
            self._specs,
            self._story,
            restore,
            time.time,
            time.monotonic,
        )
        key = str(self.number)
        return Auditor(
            self.id, shared.store, sweep, time.monotonic, shared.random, lambda: shared.pools.audits.add(key)
        )

    def _make_operations(self) -> None:
        shared, pool = self._shared, self._shared.pools.errands
        errands = Errands(self.id, shared.store)
        handlers: dict[str, Handler] = {
            "image": BringImage(self.id, cast(ImageCache, ReadyImages()), time.time),
            "console": ReadConsole(self.id, self._driver, time.time),
        }
        self._desks = {
            kind: Desk(kind, self.id, errands, handle, time.time, 1, Share(pool, f"{self.number} {kind}"))
            for kind, handle in handlers.items()
        }
        asked = Share(pool, f"{self.number} dispatch")
        self._operations = Operations(self.id, errands, self._auditor.ask, self._desks, time.time, asked)

    def _make_watcher(self) -> Watcher:
        shared, key = self._shared, str(self.number)

        def open_watch(prefixes: Sequence[str], revision: int) -> Watch:
            return shared.open_watch(prefixes, revision, lambda: shared.pools.watches.add(key))

        looks = Share(shared.pools.looks, key)
        ask = self._operations.ask
        relist_s = shared.pace.relist_s
        return Watcher(self.id, shared.store, looks.add, ask, time.monotonic, relist_s, open_watch)

    def _alive(self) -> Alive:
        return Alive(
            node=self.id,
            name=self._name,
            address=self._shared.config.address,
            hypervisor=self.hypervisor.uuid,
            driver="fake",
            virt_type=self.hypervisor.virt_type,
            started_at=time.time(),
            traits=tuple(sorted(TRAITS)),
            capacity={name: found.capacity for name, found in inventory_of(self.number).items()},
            agent_version=__version__,
        )
