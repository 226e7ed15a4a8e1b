"""A node for flow tests: the real agent against real etcd and Placement, on the fake driver."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

from placet import wiring
from placet.compute_config import ComputeConfig, FakeConfig, InventoryConfig
from placet.config import PlacementConfig
from placet.drivers import Driver
from placet.drivers.fake import FakeDriver, FakeHypervisor
from placet.errand_records import AuditReport
from placet.hypervisor import Hypervisor, Network, Owner
from placet.node import MakeDriver, Node, build_node
from tests.support.services import Etcd, PlacementServer

PATIENCE_S = 120.0  # for what takes a moment when the machine has nothing else to do


def until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait for a condition, by deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        time.sleep(0.02)


def make_image(directory: Path, name: str = "mini.qcow2", size: str = "64M") -> Path:
    """A qcow2 image without content: enough for the image checks and the fake driver."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), size], check=True)
    return path


class FakeMachine:
    """A machine with a fake hypervisor that outlives its agents."""

    def __init__(self, etcd: Etcd, placement: PlacementServer, prefix: str, state_dir: Path, name: str) -> None:
        self.fake = FakeConfig()
        self.vcpus = 8
        self.etcd_prefix = prefix
        self.disk_gb = 100
        self.inventory: dict[str, InventoryConfig] = {}  # beside the three that follow
        self.traits: tuple[str, ...] = ()
        self.lease_ttl_s = 10  # not less: a busy machine may keep an agent from its heartbeat for seconds
        self.subnet: IPv4Network | None = None  # in place of the node's /24
        self.state_dir = state_dir
        self.image = make_image(state_dir / "images")
        self._etcd, self._placement, self._name = etcd, placement, name
        self.hypervisor = FakeHypervisor(wiring.new_uuid())
        self._dead: list[Node] = []
        self._audits = 0

    @property
    def config(self) -> ComputeConfig:
        return ComputeConfig(
            name=self._name,
            state_dir=str(self.state_dir),
            etcd=dict(self._etcd.client),
            etcd_prefix=self.etcd_prefix,
            placement=PlacementConfig(self._placement.endpoint),
            driver="fake",
            inventory={
                "VCPU": InventoryConfig(self.vcpus, 0, 1.0),
                "MEMORY_MB": InventoryConfig(8192, 0),
                "DISK_GB": InventoryConfig(self.disk_gb, 0),
                **self.inventory,
            },
            traits=self.traits,
            image_dirs=(str(self.state_dir / "images"),),
            lease_ttl_s=self.lease_ttl_s,
            fake=self.fake,
        )

    @contextlib.contextmanager
    def agent(self) -> Iterator[Node]:
        """A running agent; ends as by SIGTERM, unless it died before."""
        node = build_node(self.config, self._choose)
        self._count_audits(node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=node.agent.run, args=(self._stop,))
        self._thread.start()
        try:
            yield node
        finally:
            if node not in self._dead:
                self._end()
                node.retire()

    def is_audited(self) -> bool:
        """Whether an audit of the agent that runs now is over: the first is due at its start."""
        return self._audits > 0

    def _count_audits(self, node: Node) -> None:
        sweep, self._audits = node.agent._auditor._sweep, 0
        run = sweep.run

        def counted(repair: bool = True, accept: bool = False) -> AuditReport:
            report = run(repair, accept)
            self._audits += 1
            return report

        sweep.run = counted  # type: ignore[method-assign]

    def die(self, node: Node, lease_ends: bool = True) -> None:
        """End the agent as a power cut does: no goodbye, its provider stays enabled, its lease ends by itself; with
        `lease_ends` it has done so when this returns."""
        heartbeat = node.agent._heartbeat
        heartbeat.stop = lambda: True  # type: ignore[method-assign]
        self._end()
        self._dead.append(node)
        if lease_ends:
            node.store.revoke_lease(heartbeat._lease)
        node.driver.close()
        node.store.close()

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the agent did not stop"

    def _choose(self, config: ComputeConfig, node: str) -> tuple[Hypervisor, MakeDriver]:
        def make(owner: Owner, subnet: IPv4Network) -> Driver:
            return FakeDriver(
                self.hypervisor,
                owner,
                Network("placet", "placet0", self.subnet or subnet),
                config.fake,
                random.Random(1),
            )

        return self.hypervisor.describe(), make
