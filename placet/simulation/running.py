"""`compute.py --simulate N` from its start to its end: known to all, serving, gone."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from placet import wiring
from placet.claims import Claims
from placet.cloud import join_cloud
from placet.compute_config import ComputeConfig
from placet.known_etcd import KnownEtcd
from placet.log import log
from placet.placement import Placement
from placet.registration import node_uuid
from placet.simulation.enlisting import Enlisting, Stopped
from placet.simulation.fleet import Fleet
from placet.simulation.nodes import Shared
from placet.simulation.pace import Pace
from placet.store.etcd import EtcdStore
from placet.store.watch_hub import WatchHub

CHECK_EVERY_S = 1.0
TELL_EVERY_S = 10.0
# Python lets a thread compute for so long before another may: with dozens of them a change must not wait for each
SWITCH_INTERVAL_S = 0.001


def simulate(config: ComputeConfig, count: int, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Be `count` nodes until `stop` is set. `config.state_dir` is the simulation's own; `say` hears each phase's line.

    Raises PlacetError.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    store = EtcdStore(config.etcd, config.etcd_prefix)
    hub = store.watch_hub()
    try:
        with serving(config, count, store, hub, stop, say):
            while not stop.wait(CHECK_EVERY_S):
                hub.check()
    except Stopped:
        say("stopped before all simulated nodes were there")
    finally:
        hub.close()
        store.close()


@contextmanager
def serving(
    config: ComputeConfig,
    count: int,
    store: EtcdStore,
    hub: WatchHub,
    stop: threading.Event,
    say: Callable[[str], None],
) -> Iterator[Fleet]:
    """The nodes, alive and watching; on leaving they say goodbye. Raises Stopped, PlacetError."""
    directory, started = Path(config.state_dir), time.monotonic()
    seed = node_uuid(directory, None, wiring.new_uuid)
    placement = Placement(config.placement)
    known = KnownEtcd(directory / "known-etcd.json")
    cloud = join_cloud(store, known.cloud, wiring.new_uuid, time.time())
    known.join(cloud)
    progress = Progress(say)
    enlisted = Enlisting(store, placement, seed, count, stop).run(progress)
    lasted_s = time.monotonic() - started
    say(f"registered {count} simulated nodes in {lasted_s:.1f} s, {progress.made} of them new in Placement")
    pace, fleet = Pace(count, config.lease_ttl_s), Fleet()
    claims = Claims(placement, cloud)
    shared = Shared(config, cloud, store, hub.watch, placement, claims, fleet.pools, pace, wiring.new_random())
    fleet.muster(shared, enlisted)
    try:
        fleet.start(stop)
        say(
            f"serving {count} simulated nodes {time.monotonic() - started:.1f} s after the start; "
            f"{memory_mib() / count:.3f} MiB of memory per node ({memory_mib():.0f} MiB in all); "
            f"leases of {pace.ttl_s} s"
        )
        yield fleet
    finally:
        ending = time.monotonic()
        fleet.stop()
        say(f"stopped {count} simulated nodes in {time.monotonic() - ending:.1f} s; {memory_mib():.0f} MiB in all")


class Progress:
    """Tells every few seconds how far the providers are."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._started = self._told = time.monotonic()
        self.made = 0

    def __call__(self, done: int, of: int) -> None:
        self.made, now = done, time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            log("enlisting", done=done, of=of, per_s=round(done / (now - self._started), 1))


def memory_mib() -> float:
    """What this process has resident."""
    return float(psutil.Process().memory_info().rss / 2**20)
