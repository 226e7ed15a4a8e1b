"""A cloud for flow tests: real Placement, a store, and nodes that are registered but run nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from placet import keys
from placet.claims import Claims
from placet.cloud import join_cloud
from placet.config import PlacementConfig
from placet.destroying import Destroyer
from placet.instances import Instances
from placet.model import ImageRef, encode
from placet.node_records import Alive
from placet.placement import Placement
from placet.query import parse_query
from placet.registration import publish_inventory, publish_traits, register_provider
from placet.request import Request
from placet.resources import Inventory
from placet.scheduler import Scheduler
from placet.sharing import Sharing
from placet.store import Delete, Put, Store
from placet.store.memory import MemoryStore
from placet.story import Story
from tests.support.inline import Inline
from tests.support.placement_model import ModelPlacement

DEFAULTS = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}


def new_uuid() -> str:
    return str(uuid.uuid4())


def request(query: str = "resources=VCPU:1", name: str | None = None, instance: str | None = None) -> Request:
    """What a user might ask for."""
    instance = instance or new_uuid()
    return Request(
        instance=instance,
        request_id=new_uuid(),
        name=name or f"vm-{instance[:8]}",
        query=parse_query(query, DEFAULTS),
        image=ImageRef("/images/mini.qcow2"),
    )


@dataclass
class TestCloud:
    """Everything of one cloud that a test may want to look at."""

    __test__ = False
    store: Store
    placement: Placement
    id: str
    clock: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep

    @classmethod
    def make(cls, store: Store, endpoint: str) -> TestCloud:
        return cls(store, Placement(PlacementConfig(endpoint)), join_cloud(store, None, new_uuid, time.time()))

    @classmethod
    def on_models(cls, clock: Callable[[], float]) -> TestCloud:
        """Without any real service: everything is in memory, and time passes only by `clock`."""
        store = MemoryStore(clock)
        cloud = join_cloud(store, None, new_uuid, clock())
        return cls(store, ModelPlacement(), cloud, clock, pause=lambda _seconds: None)

    @property
    def claims(self) -> Claims:
        return Claims(self.placement, self.id, self.pause)

    @property
    def instances(self) -> Instances:
        return Instances(self.store, self.clock, time.monotonic)

    @property
    def destroyer(self) -> Destroyer:
        return Destroyer(self.store, self.story(self.store), self.clock, time.monotonic)

    def story(self, store: Store) -> Story:
        return Story(store, "test", new_uuid(), self.clock)

    def scheduler(self, placement: Placement | None = None, store: Store | None = None) -> Scheduler:
        placement, store = placement or self.placement, store or self.store
        claims = Claims(placement, self.id, self.pause)
        told = self.story(store)
        sharing = Sharing(placement, self.clock, Inline())
        return Scheduler(store, placement, claims, told, self.clock, self.clock, Random(1), sharing, Inline())

    def add_node(self, name: str, vcpus: int = 4, memory_mb: int = 4096, disk_gb: int = 100) -> str:
        """A node as Placement and etcd see it; no agent serves it."""
        node, hypervisor = new_uuid(), new_uuid()
        register_provider(self.placement, node, hypervisor)
        offered = {"VCPU": Inventory(vcpus), "MEMORY_MB": Inventory(memory_mb), "DISK_GB": Inventory(disk_gb)}
        publish_inventory(self.placement, node, offered)
        publish_traits(self.placement, node, frozenset({"HW_ARCH_X86_64"}), enabled=True)
        self.revive(node, name, {class_: found.capacity for class_, found in offered.items()})
        return node

    def revive(self, node: str, name: str = "node", capacity: Mapping[str, int] | None = None) -> None:
        """Its `alive` key made anew, as after a restart."""
        alive = Alive(node, name, "127.0.0.1", new_uuid(), "fake", "qemu", self.clock(), dict(capacity or {}))
        self.store.transact([], [Delete(keys.alive(node))])
        self.store.transact([], [Put(keys.alive(node), encode(alive))])

    def empty_etcd(self) -> None:
        """Delete every key of the cloud, as somebody with etcdctl might."""
        entries = self.store.scan("").entries
        for start in range(0, len(entries), 100):
            self.store.transact([], [Delete(entry.key) for entry in entries[start : start + 100]])

    def held(self, instance: str) -> dict[str, dict[str, int]]:
        """What Placement says that an instance holds."""
        return self.placement.allocation(instance).allocations

    def leftovers(self, instance: str) -> list[str]:
        """Every trace of an instance but its events: its keys and, if it holds anything, its allocation."""
        found = [entry.key for entry in self.store.scan("").entries if instance in entry.key]
        found = [key for key in found if not key.startswith(keys.EVENTS)]
        found += [entry.key for entry in self.store.scan("names/").entries if instance.encode() in entry.value]
        return sorted(set(found)) + (["allocation"] if self.held(instance) else [])
