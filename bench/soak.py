"""Instances created and destroyed at a steady rate on simulated nodes, for minutes; then all is as if nothing had been.

PLACET_BENCH_SECONDS sets for how long (60; at most 300), PLACET_BENCH_NODES on how many nodes (200).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench.rows import Row
from bench.simulated import SimulatedCloud, simulated_cloud
from placet import keys, wiring
from placet.cloud import read_cloud
from placet.errand_records import Finding
from placet.instances import Instance
from placet.lifecycle import Stage, State
from placet.model import ImageRef
from placet.placement import Placement
from placet.query import parse_query
from placet.request import Request
from placet.simulation.running import memory_mib

SECONDS = min(300.0, float(os.environ.get("PLACET_BENCH_SECONDS", "60")))
NODES = int(os.environ.get("PLACET_BENCH_NODES", "200"))
PER_S = 4.0
SIZES = ((1, 256, 1), (2, 1024, 10), (4, 4096, 20))  # VCPU, MEMORY_MB, DISK_GB
USERS = 4
TICK_S = 0.1
ANSWERED_S = 240.0
GONE_S = 180.0


def run() -> list[Row]:
    """All rows of this bench."""
    with simulated_cloud(NODES) as cloud:
        before = memory_mib()
        soak = Soak(cloud, PER_S)
        started = time.monotonic()
        soak.go_on(lambda: time.monotonic() - started < SECONDS)
        lasted_s = time.monotonic() - started
        soak.end()
        grown = memory_mib() - before
    tally = soak.tally
    late = sorted(tally.late_s)
    return [
        Row(f"created on {NODES} simulated nodes in {lasted_s:.0f} s", tally.created, ""),
        Row("  of them destroyed meanwhile", tally.destroyed, ""),
        Row("created a second", tally.created / lasted_s, "/s", f">= {0.9 * PER_S:g}"),
        Row("request to IP, 99 % within (boots as recorded)", late[int(0.99 * len(late))], "s"),
        Row("lost, doubled, or left over", len(tally.wrong), "", "<= 0"),
        Row("findings of doctor", len(soak.findings), "", "<= 0"),
        Row("memory grown meanwhile", grown, "MiB"),
    ]


@dataclass
class Tally:
    """What has happened; `wrong` has a line for each thing that must not have. `late_s` are from request to IP."""

    created: int = 0
    destroyed: int = 0
    late_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Soak:
    """Creates at a steady rate and destroys what runs, as a few users would at the same time."""

    def __init__(self, cloud: SimulatedCloud, per_s: float) -> None:
        self._cloud = cloud
        self._per_s = per_s
        self._scheduler = wiring.scheduler(cloud.config, cloud.store)
        self._destroyer = wiring.destroyer(cloud.store)
        self._instances = wiring.instances(cloud.store)
        self._placement = Placement(cloud.config.placement)
        self._random = random.Random(7)  # noqa: S311
        self._users = ThreadPoolExecutor(USERS, thread_name_prefix="user")
        self._lock = threading.Lock()
        self._ours: set[str] = set()
        self._with_ip: set[str] = set()
        self._going: set[str] = set()
        self.tally = Tally()
        self.findings = ["doctor was not asked"]

    def go_on(self, more: Callable[[], bool]) -> None:
        """Until `more` says no. Half of what has its IP stays for a while, the other half goes at once."""
        due = time.monotonic()
        while more():
            if time.monotonic() >= due:
                due += 1 / self._per_s
                self._users.submit(self._told, self._create)
            self._look()
            for instance in sorted(self._with_ip - self._going)[::2]:
                self._destroy(instance)
            time.sleep(TICK_S)

    def end(self) -> None:
        """Destroy all, and see that nothing is left, anywhere; `findings` are what doctor says then."""
        self._users.shutdown()  # what was asked for has been
        self._users = ThreadPoolExecutor(USERS, thread_name_prefix="user")
        deadline = time.monotonic() + GONE_S
        while self._ours - self._with_ip - self._going and time.monotonic() < deadline:
            self._look()
            time.sleep(TICK_S)
        lost = self._ours - self._with_ip
        self.tally.wrong += [f"{instance} never had its IP" for instance in lost]
        for instance in self._ours - self._going:
            self._destroy(instance)
        self._users.shutdown()
        self.tally.wrong += self._left_over()
        self.findings = [f"{each.kind}: {each.subject}: {each.detail}" for each in self._examined()]

    def _examined(self) -> list[Finding]:
        """What doctor finds; asked again while some nodes only had not the time to answer it on a busy machine."""
        deadline = time.monotonic() + ANSWERED_S
        while True:
            found = list(self._cloud.findings())
            deaf = any(each.kind == "deaf-node" for each in found)
            if not deaf or time.monotonic() > deadline:
                return found

    def _create(self) -> None:
        instance = wiring.new_uuid()
        vcpus, memory_mb, disk_gb = self._random.choice(SIZES)
        query = parse_query(f"resources=VCPU:{vcpus},MEMORY_MB:{memory_mb},DISK_GB:{disk_gb}", {})
        image = ImageRef("/images/simulated.qcow2")
        self._scheduler.create(Request(instance, wiring.new_uuid(), f"vm-{instance[:8]}", query, image))
        with self._lock:
            self._ours.add(instance)
            self.tally.created += 1

    def _destroy(self, instance: str) -> None:
        self._going.add(instance)

        def destroy() -> None:
            if not self._destroyer.destroy(instance, "bench", GONE_S):
                raise AssertionError(f"{instance} was gone before it was destroyed")
            with self._lock:
                self.tally.destroyed += 1

        self._users.submit(self._told, destroy)

    def _told(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as problem:  # whatever it is, it is a result
            with self._lock:
                self.tally.wrong.append(repr(problem))

    def _look(self) -> None:
        """What runs now: once each, on one node, each with an IP of its own."""
        found = [each for each in self._instances.all() if each.state is not State.DELETED]
        ips = Counter(each.ip for each in found if each.ip)
        on = Counter(instance for node in self._cloud.fleet.nodes for instance in tuple(node.hypervisor.domains))
        doubled = [ip for ip, count in ips.items() if count > 1] + [one for one, count in on.items() if count > 1]
        failed = [each.index.instance for each in found if each.state is State.ERROR]
        with self._lock:
            self.tally.wrong += [f"{one} is there twice" for one in doubled] + [f"{one} failed" for one in failed]
            for each in found:
                self._note(each)

    def _note(self, found: Instance) -> None:
        instance = found.index.instance
        if found.ip and found.status and instance in self._ours and instance not in self._with_ip:
            self._with_ip.add(instance)
            self.tally.late_s.append(found.status.stages[Stage.IP.value] - found.index.created_at)

    def _left_over(self) -> list[str]:
        """Every trace of an instance but its events and its deleted index."""
        kept = (keys.EVENTS, keys.INSTANCES)
        left = [entry.key for entry in self._cloud.store.scan("").entries if not entry.key.startswith(kept)]
        found = [key for key in left if self._ours & set(key.split("/"))]
        cloud = read_cloud(self._cloud.store)
        for instance in self._ours:
            held = self._placement.allocation(instance)
            if held.allocations and held.user == cloud:
                found.append(f"allocation of {instance}")
        for node in self._cloud.fleet.nodes:
            hypervisor = node.hypervisor
            found += [f"{each} on {node.id}" for each in {*hypervisor.domains, *hypervisor.disks}]
        return [f"left over: {each}" for each in found]
