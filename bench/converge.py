"""How long it takes until all agree again after each fault, what a resync costs, what an agent does in an outage.

Faults are real ones, in a lab of two hosts with real guests; each begins and ends with the checker of tests/faults, and
the time is from healing until it finds nothing. 1,000 specs on one node are the fake driver's.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from bench.rows import Row
from placet import keys
from placet.candidates import Candidate
from placet.claims import Claims
from placet.cloud import read_cloud
from placet.config import PlacementConfig
from placet.model import ImageRef
from placet.placement import Placement
from placet.store.etcd import EtcdStore
from tests.faults.checker import Place, wait_until_sound
from tests.lab.lab import Lab, lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud, request
from tests.support.nodes import FakeMachine, until
from tests.support.services import etcd_server, placement_server

QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:128"
PAUSE_S = 30.0
SPECS = 1000
WITHIN_S = 180.0


def run() -> list[Row]:
    """All rows of this bench."""
    with lab(nodes=2) as cloud:
        rows = [Row(name, _timed(cloud, fault), "s", f"<= {goal}") for name, goal, fault in FAULTS]
        rows.append(_outage(cloud))
    return [*rows, *_resync()]


def _timed(cloud: Lab, fault: Callable[[Lab, LabNode], None]) -> float:
    """Seconds from the end of a fault, which asks for something to be built and destroyed, until all is sound."""
    node = cloud.nodes[0]
    _clear(cloud)
    _sound(cloud)
    fault(cloud, node)
    healed = time.monotonic()
    _sound(cloud)
    return time.monotonic() - healed


def _ask(cloud: Lab, node: LabNode, *words: str) -> str:
    instance = str(uuid.uuid4())
    _told(cloud, f"{QUERY}&in_tree={node.uuid}", "--uuid", instance, *words)
    return instance


def _told(cloud: Lab, *words: str, codes: tuple[int, ...] = (0,)) -> None:
    told = cloud.schedule(*words)
    if told.code not in codes:
        raise AssertionError(f"{words}: exit {told.code}: {told.err}")


def _clear(cloud: Lab) -> None:
    for entry in cloud.store.scan(keys.INSTANCES).entries:
        _told(cloud, "destroy", keys.last(entry.key))


def _sound(cloud: Lab) -> None:
    places = [Place(node.uuid, node.host.uri, node.state_dir) for node in cloud.nodes]
    wait_until_sound(cloud.store, cloud.placement_endpoint, places, WITHIN_S)


def _two(cloud: Lab, node: LabNode) -> tuple[str, str]:
    """One that runs, and one that has just been asked for."""
    return _ask(cloud, node, "--wait"), _ask(cloud, node)


def _nothing(cloud: Lab, node: LabNode) -> None:
    _ask(cloud, node)


def _agent_killed(cloud: Lab, node: LabNode) -> None:
    old, _ = _two(cloud, node)
    node.kill_agent()
    _told(cloud, "destroy", old, "--wait-timeout", "1", codes=(4,))
    node.start_agent()


def _libvirtd_killed(cloud: Lab, node: LabNode) -> None:
    old, _ = _two(cloud, node)
    node.host.kill_libvirtd()
    _told(cloud, "destroy", old, "--wait-timeout", "1", codes=(4,))
    node.host.start_libvirtd()


def _placement_restarted(cloud: Lab, node: LabNode) -> None:
    old, _ = _two(cloud, node)
    cloud.control.placement.kill()
    _told(cloud, "destroy", old, "--wait-timeout", "1", codes=(4,))
    cloud.control.placement.start()


def _etcd_restarted(cloud: Lab, node: LabNode) -> None:
    _two(cloud, node)
    cloud.control.etcd.kill()
    cloud.control.etcd.start()


def _etcd_paused(cloud: Lab, node: LabNode) -> None:
    _two(cloud, node)
    cloud.control.etcd.pause()
    time.sleep(PAUSE_S)
    cloud.control.etcd.resume()


def _etcd_restored(cloud: Lab, node: LabNode) -> None:
    _ask(cloud, node, "--wait")
    snapshot = cloud.control.snapshot_etcd()
    _ask(cloud, node, "--wait")
    cloud.control.restore_etcd(snapshot)
    node.wait_ready()
    _told(cloud, "doctor", "--fix", codes=(0, 6, 7))


def _link(disturb: Callable[[LabNode], None]) -> Callable[[Lab, LabNode], None]:
    """The node's way to etcd and Placement is bad while one is asked for and one is to go."""

    def fault(cloud: Lab, node: LabNode) -> None:
        old = _ask(cloud, node, "--wait")
        disturb(node)
        _ask(cloud, node)
        _told(cloud, "destroy", old, "--wait-timeout", "1", codes=(4,))
        node.link.heal()
        node.plug()

    return fault


def _leaked(cloud: Lab, node: LabNode) -> None:
    """A scheduler died between claim and commit, and its intent has ended."""
    placement = Placement(PlacementConfig(cloud.placement_endpoint))
    held = Candidate({node.uuid: {"VCPU": 1}}, {"": [node.uuid]}, {})
    Claims(placement, read_cloud(cloud.store) or "").claim(str(uuid.uuid4()), held)


FAULTS: list[tuple[str, int, Callable[[Lab, LabNode], None]]] = [
    ("nothing: a build alone", 60, _nothing),
    ("agent killed (kill -9) while building and destroying, started again", 60, _agent_killed),
    ("libvirtd killed while building and destroying, started again", 10, _libvirtd_killed),
    ("Placement killed while building and destroying, started again", 60, _placement_restarted),
    ("etcd killed while building, started again", 60, _etcd_restarted),
    (f"etcd paused for {PAUSE_S:g} s while building", 60, _etcd_paused),
    ("etcd restored from an older snapshot, doctor --fix", 60, _etcd_restored),
    ("the node's link cut while asked for both, healed", 60, _link(lambda node: node.link.cut())),
    ("the node's link silent while asked for both, healed", 60, _link(lambda node: node.link.silence())),
    ("the node unplugged while asked for both, plugged in", 60, _link(lambda node: node.unplug())),
    ("an allocation that nobody speaks for, until its node released it", 120, _leaked),
]


def _outage(cloud: Lab) -> Row:
    """The agent's processor time while etcd is dead, as a share of one core."""
    node = cloud.nodes[0]
    _clear(cloud)
    cloud.control.etcd.kill()
    started, used = time.monotonic(), node.cpu_seconds()
    time.sleep(PAUSE_S)
    share = (node.cpu_seconds() - used) / (time.monotonic() - started)
    cloud.control.etcd.start()
    _sound(cloud)
    return Row(f"agent while etcd is dead for {PAUSE_S:g} s, of a core", 100 * share, "%", "<= 5")


def _resync() -> list[Row]:
    """An agent with 1,000 specs lists them all and looks at each."""
    with _full_node() as (cloud, machine), machine.agent() as node:
        until(lambda: len(cloud.instances.all()) == SPECS, "all are there", WITHIN_S)
        until(lambda: all(each.ip for each in cloud.instances.all()), "all run", WITHIN_S)
        until(node.queue.idle, "nothing is left to do", WITHIN_S)
        started, used = time.monotonic(), time.process_time()
        node.watcher.doubt()
        until(lambda: not node.queue.idle(), "it has begun", WITHIN_S)
        until(node.queue.idle, "all were looked at", WITHIN_S)
        lasted, spent = time.monotonic() - started, time.process_time() - used
    return [
        Row(f"resync of {SPECS} specs on one node", lasted, "s"),
        Row("  processor time for each spec", 1000 * spent / SPECS, "ms"),
    ]


@contextmanager
def _full_node() -> Iterator[tuple[TestCloud, FakeMachine]]:
    """A machine with 1,000 guests, on the fake driver, to be served by an agent."""
    prefix = f"/bench-{uuid.uuid4()}"
    with etcd_server() as etcd, placement_server() as placement, tempfile.TemporaryDirectory() as directory:
        store = EtcdStore(etcd.client, prefix)
        cloud = TestCloud.make(store, placement.endpoint)
        machine = FakeMachine(etcd, placement, prefix, Path(directory) / "n1", "n1")
        machine.vcpus = machine.disk_gb = SPECS
        machine.subnet = IPv4Network("198.19.0.0/20")
        with machine.agent():
            until(lambda: store.scan(keys.ALIVE).entries, "alive", WITHIN_S)
            scheduler = cloud.scheduler()
            for _ in range(SPECS):
                asked = request("resources=VCPU:1,MEMORY_MB:1,DISK_GB:1")
                scheduler.create(replace(asked, image=ImageRef(str(machine.image))))
            until(lambda: all(each.ip for each in cloud.instances.all()), f"{SPECS} run", WITHIN_S)
        yield cloud, machine
        store.close()
