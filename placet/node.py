"""Building a compute node: its parts, in the order in which one needs the other, and handed to each other."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from uuid import UUID, uuid5

from placet import __version__, wiring
from placet.agent import Agent
from placet.auditor import Auditor
from placet.claims import Claims
from placet.cloud import join_cloud
from placet.compute_config import ComputeConfig, NetworkConfig
from placet.drivers import Driver
from placet.errand_handlers import BringImage, ReadConsole
from placet.errands import Errands
from placet.errors import PlacetError
from placet.guest_records import PUBLISHED, GuestRecords
from placet.heartbeat import Heartbeat
from placet.hypervisor import Hypervisor, Network, Owner
from placet.images import ImageCache, Limits
from placet.inventory import measure, offer
from placet.known_etcd import KnownEtcd
from placet.metadata_process import MetadataProcess
from placet.networks import range6_of, subnet6_of
from placet.node_records import Alive, Identity
from placet.operations import Desk, Operations
from placet.placement import Placement
from placet.provider import publish_offer
from placet.published import PublishedWatch
from placet.registration import (
    bind_identity,
    claim_subnet,
    node_uuid,
    publish_traits,
    register_provider,
    restore_keys,
)
from placet.resources import Inventory
from placet.schema import changed
from placet.spec_files import SpecFiles
from placet.store import Store
from placet.story import Story
from placet.sweep import Sweep
from placet.watching import Watcher
from placet.worker import Worker
from placet.workqueue import WorkQueue

IMAGES_AT_ONCE, CONSOLES_AT_ONCE = 8, 2  # of those that operators ask for; builds have threads of their own
MakeDriver = Callable[[Owner, IPv4Network], Driver]
ChooseHypervisor = Callable[[ComputeConfig, str], tuple[Hypervisor, MakeDriver]]


@dataclass(frozen=True)
class Node:
    """A compute node that is registered and ready to serve: `agent.run` serves, `retire` ends."""

    id: str
    agent: Agent
    queue: WorkQueue
    watcher: Watcher
    placement: Placement
    driver: Driver
    store: Store
    metadata: MetadataProcess | None
    traits: frozenset[str]

    def retire(self) -> None:
        """Take no more instances, and let go of everything; guests keep running. Raises PlacetError."""
        if self.metadata:
            self.metadata.stop()
        try:
            publish_traits(self.placement, self.id, self.traits, enabled=False)
        finally:
            self.driver.close()
            self.store.close()


def build_node(config: ComputeConfig, choose_hypervisor: ChooseHypervisor | None = None) -> Node:
    """Register this machine as a node and build what serves it.

    The hypervisor says who it is; etcd binds the node to it and gives it its subnet; the network is prepared;
    Placement takes the inventory last, since from then on instances may come.
    Raises PlacetError with the reason when something it needs is not there.
    """
    state_dir = _make_directories(Path(config.state_dir))
    node = node_uuid(state_dir, config.uuid, wiring.new_uuid)
    hypervisor, make_driver = (choose_hypervisor or _configured)(config, node)
    hypervisor = changed(hypervisor, traits=hypervisor.traits.union(config.traits))
    parts = _register(config, state_dir, node, hypervisor, make_driver)
    queue = WorkQueue()
    images = _images(config, state_dir, parts.driver)
    records = GuestRecords(state_dir / "metadata")
    worker = _worker(parts, images, records, queue)
    alive = _alive(config, parts, hypervisor)
    heartbeat = Heartbeat(parts.store, alive, config.lease_ttl_s, time.time, time.monotonic)

    def restore() -> None:
        restore_keys(parts.store, parts.identity, config.network.range, parts.subnet)
        heartbeat.restore()

    auditor = _auditor(parts, restore)
    operations = _operations(parts, images, auditor)
    watcher = Watcher(node, parts.store, queue.add, operations.ask, time.monotonic)
    metadata = _metadata(config, state_dir)
    ensure = metadata.ensure if metadata else lambda: None
    agent = Agent(
        node,
        parts.store,
        parts.driver,
        worker,
        heartbeat,
        watcher,
        auditor,
        operations,
        ensure,
        PublishedWatch(records, queue.add, time.time, time.monotonic),
        queue,
        config.workers,
        wiring.new_random(),
        time.monotonic,
    )
    return Node(node, agent, queue, watcher, parts.placement, parts.driver, parts.store, metadata, hypervisor.traits)


def _register(
    config: ComputeConfig, state_dir: Path, node: str, hypervisor: Hypervisor, make_driver: MakeDriver
) -> _Parts:
    """The node as etcd and Placement know it from now on, and what reaches them. Raises PlacetError."""
    store = wiring.store(config)
    placement = Placement(config.placement)
    known = KnownEtcd(state_dir / "known-etcd.json")
    cloud = join_cloud(store, known.cloud, wiring.new_uuid, time.time())
    known.join(cloud)
    identity = Identity(node, config.name or socket.gethostname().split(".")[0], hypervisor.uuid, time.time())
    bind_identity(store, identity)
    register_provider(placement, node, hypervisor.uuid)
    subnet = claim_subnet(store, config.network.range, node, known.subnet)
    known.keep_subnet(str(subnet))
    owner = Owner(cloud, node)
    driver = make_driver(owner, subnet)
    driver.prepare()
    offered = offer(measure(state_dir / "instances"), config.inventory)
    publish_offer(placement, node, offered, hypervisor.traits, state_dir / "offered.json")
    specs = SpecFiles(state_dir / "specs")
    return _Parts(owner, store, placement, driver, specs, known, identity, subnet, offered)


def _make_directories(state_dir: Path) -> Path:
    """QEMU's user passes through them, and lists nothing."""
    try:
        for directory in (state_dir, state_dir / "instances", state_dir / "images"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as problem:
        raise PlacetError(f"{problem.filename}: {problem.strerror}; run as root or set state_dir:") from problem
    return state_dir


def _configured(config: ComputeConfig, node: str) -> tuple[Hypervisor, MakeDriver]:
    """The hypervisor that compute.yaml names, and what makes its driver once owner and subnet are known."""

    def network(owner: Owner, subnet: IPv4Network) -> Network:
        return node_network(config.network, owner.cloud, subnet)

    if config.driver == "fake":
        from placet.drivers.fake import FakeDriver, FakeHypervisor

        fake = FakeHypervisor(str(uuid5(UUID(node), "fake")))  # the same at each start, as a real one's

        def make_fake(owner: Owner, subnet: IPv4Network) -> Driver:
            return FakeDriver(fake, owner, network(owner, subnet), config.fake, wiring.new_random())

        return fake.describe(), make_fake
    from placet.drivers.libvirt import LibvirtConnection, LibvirtDriver

    connection = LibvirtConnection(config.libvirt_uri, config.virt_type)
    instances_dir = Path(config.state_dir) / "instances"

    def make_libvirt(owner: Owner, subnet: IPv4Network) -> Driver:
        return LibvirtDriver(connection, instances_dir, owner, network(owner, subnet), config.resize, config.bridge)

    return connection.describe(), make_libvirt


def node_network(config: NetworkConfig, cloud: str, subnet: IPv4Network) -> Network:
    """The NAT network of the node that owns `subnet`."""
    range6 = range6_of(config.range6, cloud)
    subnet6 = subnet6_of(range6, IPv4Network(config.range), subnet) if range6 else None
    return Network(config.name, config.bridge, subnet, config.lease_minutes, subnet6, config.filter)


@dataclass(frozen=True)
class _Parts:
    """What everything that serves the node shares."""

    owner: Owner
    store: Store
    placement: Placement
    driver: Driver
    specs: SpecFiles
    known: KnownEtcd
    identity: Identity
    subnet: IPv4Network
    offered: dict[str, Inventory]

    @property
    def claims(self) -> Claims:
        return Claims(self.placement, self.owner.cloud)

    def story(self) -> Story:
        return Story(self.store, f"node {self.identity.name}", self.owner.node, time.time)


def _images(config: ComputeConfig, state_dir: Path, driver: Driver) -> ImageCache:
    image_dirs = [Path(directory) for directory in config.image_dirs]
    limits = Limits(
        max_bytes=config.max_image_gb * 2**30,
        timeout_s=config.image_timeout_s,
        max_virtual_bytes=config.max_virtual_gb * 2**30,
        cache_bytes=config.image_cache_gb * 2**30,
    )
    return ImageCache(state_dir / "images" / "cache", image_dirs, limits, config.image_hosts, driver.images_in_use)


def _worker(parts: _Parts, images: ImageCache, records: GuestRecords, queue: WorkQueue) -> Worker:
    return Worker(
        parts.owner.node,
        parts.owner.cloud,
        parts.store,
        parts.claims,
        parts.driver,
        images,
        records,
        parts.specs,
        parts.story(),
        queue.add,
        queue.add_later,
        time.time,
    )


def _auditor(parts: _Parts, restore: Callable[[], None]) -> Auditor:
    node, cloud = parts.owner.node, parts.owner.cloud
    sweep = Sweep(
        node,
        cloud,
        parts.store,
        parts.placement,
        parts.claims,
        parts.driver,
        parts.known,
        parts.specs,
        parts.story(),
        restore,
        time.time,
        time.monotonic,
    )
    return Auditor(node, parts.store, sweep, time.monotonic, wiring.new_random())


def _operations(parts: _Parts, images: ImageCache, auditor: Auditor) -> Operations:
    node, errands = parts.owner.node, Errands(parts.owner.node, parts.store)
    bring, read = BringImage(node, images, time.time), ReadConsole(node, parts.driver, time.time)
    desks = {
        "image": Desk("image", node, errands, bring, time.time, IMAGES_AT_ONCE),
        "console": Desk("console", node, errands, read, time.time, CONSOLES_AT_ONCE),
    }
    return Operations(node, errands, auditor.ask, desks, time.time)


def _alive(config: ComputeConfig, parts: _Parts, hypervisor: Hypervisor) -> Alive:
    return Alive(
        node=parts.owner.node,
        name=parts.identity.name,
        address=config.address,
        hypervisor=hypervisor.uuid,
        driver=hypervisor.driver,
        virt_type=hypervisor.virt_type,
        started_at=time.time(),
        traits=tuple(sorted(hypervisor.traits)),
        capacity={resource_class: found.capacity for resource_class, found in parts.offered.items()},
        agent_version=__version__,
    )


def _metadata(config: ComputeConfig, state_dir: Path) -> MetadataProcess | None:
    if not config.metadata_service or config.driver == "fake":
        return None
    return MetadataProcess(state_dir / "metadata", state_dir / PUBLISHED, config.network.bridge)
