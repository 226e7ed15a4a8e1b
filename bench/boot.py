"""Create-to-IP through Placet against the binding alone, one VM and twenty at once; the agent at rest.

Both sides run in turns in one run on one machine. What is timed on Placet's side is the library's call to the
confirmed IP in etcd. Before a figure counts, every VM must have its own IP, and nothing may be left afterwards.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench.bare import Bare
from bench.rows import Row
from bench.stack import Stack, running
from placet import wiring
from placet.hypervisor import CachedImage
from placet.images import ImageCache, Limits
from placet.lifecycle import Stage
from placet.model import ImageRef
from placet.query import parse_query
from placet.request import Request

ROUNDS = 5
MANY = 20
MANY_ROUNDS = 2
MEMORY_MB = 128
SETTLE_S = 10.0
REST_S = 30.0
TIMEOUT_S = 300.0


def run() -> list[Row]:
    """All rows of this bench."""
    with running() as stack:
        bare = Bare(
            stack.compute.libvirt_uri,
            Path(stack.compute.state_dir) / "instances",
            stack.compute.network.name,
            _image(stack),
        )
        placet = ThroughPlacet(stack)
        _one(placet, bare)  # warm up both
        singles = [_one(placet, bare) for _ in range(ROUNDS)]
        rates = [_many(placet, bare) for _ in range(MANY_ROUNDS)]
        rest = _at_rest(stack, placet)
        bare.close()
    ratio = median(ours / theirs for ours, theirs in singles)  # by pairs: the machine's pace drifts between them
    our_rate, bare_rate = (median(side) for side in zip(*rates, strict=True))
    return [
        Row("create to IP, one VM, Placet", median(ours for ours, _ in singles), "s"),
        Row("create to IP, one VM, binding alone", median(theirs for _, theirs in singles), "s"),
        Row("create to IP, one VM: Placet / binding", ratio, "", "<= 1.10"),
        Row(f"{MANY} VMs at once, Placet", our_rate, "VM/s"),
        Row(f"{MANY} VMs at once, binding alone", bare_rate, "VM/s"),
        Row(f"{MANY} VMs at once: Placet / binding", our_rate / bare_rate, "", ">= 0.9"),
        *rest,
    ]


class ThroughPlacet:
    """VMs as schedule.py makes them, through the library."""

    def __init__(self, stack: Stack) -> None:
        store = wiring.store(stack.schedule)
        self._scheduler = wiring.scheduler(stack.schedule, store)
        self._instances = wiring.instances(store)
        self._destroyer = wiring.destroyer(store)
        self._image = ImageRef(str(next(Path(stack.compute.image_dirs[0]).glob("*.qcow2"))))
        self.made: list[str] = []

    def start(self) -> str:
        """One instance, placed."""
        instance = wiring.new_uuid()
        query = parse_query(f"resources=VCPU:1,MEMORY_MB:{MEMORY_MB},DISK_GB:1", {})
        request = Request(instance, wiring.new_uuid(), f"vm-{instance[:8]}", query, self._image)
        self._scheduler.create(request)
        self.made.append(instance)
        return instance

    def wait(self, instances: Sequence[str], stage: Stage = Stage.IP) -> None:
        """Until each has a confirmed IP, none of them twice."""
        ips = set()
        for instance in instances:
            self._instances.wait_for(instance, stage, TIMEOUT_S)
            ips.add(self._instances.ip(instance))
        if len(ips) != len(instances):
            raise AssertionError(f"{len(instances)} VMs have {len(ips)} IPs")

    def clear(self) -> None:
        """Destroy all, and see that they are gone."""
        for instance in self.made:
            self._destroyer.destroy(instance, "bench", TIMEOUT_S)
        self.made.clear()
        if self._instances.all():
            raise AssertionError("instances are left")


def _image(stack: Stack) -> CachedImage:
    source = next(Path(stack.compute.image_dirs[0]).glob("*.qcow2"))
    cache = ImageCache(source.parent / "bench-cache", [source.parent], Limits(max_bytes=2**31, timeout_s=60))
    return cache.fetch(ImageRef(str(source)))


def _one(placet: ThroughPlacet, bare: Bare) -> tuple[float, float]:
    """Seconds to the IP through Placet and by the binding alone."""
    ours = _timed(lambda: placet.wait([placet.start()]))
    placet.clear()
    specs = bare.prepare(1, MEMORY_MB)

    def start_one() -> None:
        bare.start(specs[0])
        bare.wait(specs)

    theirs = _timed(start_one)
    bare.clear()
    _say(f"one VM: {ours:.2f} s through Placet, {theirs:.2f} s by the binding alone")
    return ours, theirs


def _many(placet: ThroughPlacet, bare: Bare) -> tuple[float, float]:
    """VMs a second through Placet and by the binding alone, asked for by as many threads as a node has workers."""
    ours = MANY / _timed(lambda: _all_at_once(placet))
    placet.clear()
    specs = bare.prepare(MANY, MEMORY_MB)

    def start_all() -> None:
        todo = list(specs)
        _in_threads(4, lambda: bare.start(todo.pop()) if todo else None, MANY)
        bare.wait(specs)

    theirs = MANY / _timed(start_all)
    bare.clear()
    _say(f"{MANY} VMs: {ours:.3f}/s through Placet, {theirs:.3f}/s by the binding alone")
    return ours, theirs


def _all_at_once(placet: ThroughPlacet) -> None:
    _in_threads(4, placet.start, MANY)
    placet.wait(list(placet.made))


def _in_threads(count: int, do: Callable[[], object], times: int) -> None:
    problems: list[Exception] = []

    def work(share: int) -> None:
        try:
            for _ in range(share):
                do()
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(times // count,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def _at_rest(stack: Stack, placet: ThroughPlacet) -> list[Row]:
    """The agent with twenty VMs that do nothing."""
    _all_at_once(placet)
    placet.wait(list(placet.made), Stage.AGENT)
    time.sleep(SETTLE_S)  # not a wait for a condition: a span without requests, before the span that is measured
    agent = stack.agent
    before = agent.cpu_times()
    time.sleep(REST_S)
    after = agent.cpu_times()
    used = (after.user + after.system - before.user - before.system) / REST_S * 100
    resident = agent.memory_info().rss / 2**20
    children = sum(child.memory_info().rss for child in agent.children()) / 2**20
    placet.clear()
    return [
        Row(f"agent at rest with {MANY} VMs, of a core", used, "%", "<= 1"),
        Row(f"agent at rest with {MANY} VMs, resident", resident, "MiB", "<= 120"),
        Row("its metadata service, resident", children, "MiB", "<= 60"),
    ]


def _timed(do: Callable[[], object]) -> float:
    started = time.monotonic()
    do()
    return time.monotonic() - started


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
