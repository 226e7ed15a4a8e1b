"""Simulated nodes for a bench: a cloud of their own on real etcd and Placement, gone afterwards."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from placet import wiring
from placet.compute_config import ComputeConfig
from placet.config import PlacementConfig, ScheduleConfig
from placet.errand_records import Finding
from placet.simulation.fleet import Fleet
from placet.simulation.running import SWITCH_INTERVAL_S, serving
from placet.store.etcd import EtcdStore
from tests.support.services import Etcd, PlacementServer, etcd_server, placement_server


@dataclass(frozen=True)
class SimulatedCloud:
    """A fleet that serves in this process, and how to reach its cloud."""

    fleet: Fleet
    store: EtcdStore
    config: ScheduleConfig
    config_file: Path

    def findings(self) -> list[Finding]:
        """What doctor finds, which mends nothing."""
        return wiring.doctor(self.config, self.store).examine(repair=False)


@contextlib.contextmanager
def simulated_cloud(count: int) -> Iterator[SimulatedCloud]:
    """`count` nodes that serve, on services of their own."""
    with etcd_server() as etcd, placement_server() as placement, tempfile.TemporaryDirectory() as directory:
        with simulated_nodes(count, etcd, placement, "/placet", Path(directory)) as cloud:
            yield cloud


@contextlib.contextmanager
def simulated_nodes(
    count: int, etcd: Etcd, placement: PlacementServer, prefix: str, directory: Path
) -> Iterator[SimulatedCloud]:
    """`count` nodes of the cloud under `prefix`, which keep what they know in `directory`."""
    reached = PlacementConfig(placement.endpoint)
    compute = ComputeConfig(state_dir=str(directory), etcd=dict(etcd.client), etcd_prefix=prefix, placement=reached)
    schedule = ScheduleConfig(etcd=dict(etcd.client), etcd_prefix=prefix, placement=reached)
    config_file = directory / "schedule.yaml"
    config_file.write_text(
        yaml.safe_dump({"etcd": schedule.etcd, "etcd_prefix": prefix, "placement": {"endpoint": placement.endpoint}})
    )
    store, stop, interval_s = EtcdStore(compute.etcd, prefix), threading.Event(), sys.getswitchinterval()
    hub = store.watch_hub()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with serving(compute, count, store, hub, stop, _say) as fleet:
            yield SimulatedCloud(fleet, store, schedule, config_file)
    finally:
        sys.setswitchinterval(interval_s)
        hub.close()
        store.close()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
