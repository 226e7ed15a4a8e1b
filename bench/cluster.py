"""A cloud of so many nodes for a bench: registered in a Placement of its own, alive in etcd. No agent serves them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.placement_service import served
from bench.population import Member, copy_database, members
from placet import keys, wiring
from placet.cloud import join_cloud
from placet.config import PlacementConfig, ScheduleConfig
from placet.model import ImageRef, encode
from placet.node_records import Alive
from placet.placement import Placement
from placet.policies import POLICIES
from placet.query import Query, parse_query
from placet.request import Request
from placet.scheduler import Scheduler
from placet.schema import changed
from placet.store import Put
from placet.store.etcd import EtcdStore
from tests.support.services import Etcd, fast_directory

QUERY = "resources=VCPU:1,MEMORY_MB:256,DISK_GB:1"
IMAGE = "/images/none.qcow2"
PUTS_AT_ONCE = 100


@dataclass
class Cluster:
    """Reached as schedule.py reaches a cloud. `nodes` are their UUIDs, `foreign` the consumers that a bench has claimed
    for without a scheduler."""

    config: ScheduleConfig
    config_file: Path
    database: Path
    store: EtcdStore
    placement: Placement
    cloud: str
    nodes: list[str]
    foreign: set[str] = field(default_factory=set)

    def scheduler(self, policy: str = "spread") -> Scheduler:
        """What places here, put together as schedule.py does."""
        assert policy in POLICIES
        return wiring.scheduler(changed(self.config, policy=policy), self.store)

    def __str__(self) -> str:
        return f"{len(self.nodes):,} nodes"


def query() -> Query:
    """What all that is placed here asks for."""
    return parse_query(QUERY, {})


def requests(count: int) -> list[Request]:
    """So many equal ones, each for an instance of its own."""
    asked, image = query(), ImageRef(IMAGE)
    uuids = [wiring.new_uuid() for _ in range(count)]
    return [Request(each, wiring.new_uuid(), f"vm-{each}", asked, image) for each in uuids]


@contextlib.contextmanager
def cluster(etcd: Etcd, size: int) -> Iterator[Cluster]:
    """Start it, with keys of its own in `etcd`; all is gone afterwards."""
    with fast_directory("bench-cluster") as directory:
        database = directory / "placement.sqlite"
        copy_database(size, database)
        with served(directory, database) as endpoint:
            config = ScheduleConfig(dict(etcd.client), f"/bench-{size}", PlacementConfig(endpoint))
            file = directory / "schedule.yaml"
            known = {"etcd": config.etcd, "etcd_prefix": config.etcd_prefix, "placement": {"endpoint": endpoint}}
            file.write_text(yaml.safe_dump(known))
            store = EtcdStore(config.etcd, config.etcd_prefix)
            cloud = join_cloud(store, None, wiring.new_uuid, time.time())
            found = members(size)
            _come_alive(store, found)
            placement = Placement(config.placement)
            yield Cluster(config, file, database, store, placement, cloud, [each.node for each in found])
            store.close()


def _come_alive(store: EtcdStore, found: list[Member]) -> None:
    """What each node's agent would say of itself."""
    puts = [Put(keys.alive(each.node), encode(_alive(each))) for each in found]
    for start in range(0, len(puts), PUTS_AT_ONCE):
        store.transact([], puts[start : start + PUTS_AT_ONCE])


def _alive(member: Member) -> Alive:
    capacity = {name: offered.capacity for name, offered in member.inventory.items()}
    return Alive(
        node=member.node,
        name=member.name,
        address="127.0.0.1",
        hypervisor=member.hypervisor,
        driver="fake",
        virt_type="qemu",
        started_at=time.time(),
        capacity=capacity,
        traits=member.traits,
    )
