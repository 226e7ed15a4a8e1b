"""How soon after a spec was put its node's worker has it, with a thousand simulated nodes that watch, list and audit.

What is timed is real work: each spec's resources were claimed, its guest boots, and is destroyed afterwards. Before a
figure counts, each spec must have come to its own node's worker alone, each guest have its IP, and doctor find nothing.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median

from bench.rows import Row
from bench.simulated import SimulatedCloud, simulated_cloud
from placet import keys, wiring
from placet.candidates import Candidate
from placet.claims import Claims
from placet.cloud import read_cloud
from placet.model import ImageRef, Intent, Mark, Nic, Spec, decode, encode
from placet.networks import mac_of
from placet.node_records import Status
from placet.placement import Placement
from placet.simulation.nodes import SimulatedNode
from placet.simulation.running import memory_mib
from placet.store import Delete, Operation, Put

NODES = int(os.environ.get("PLACET_BENCH_NODES", "1000"))
SPECS = 1000
PER_S = 20.0
AMOUNTS = {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
DEADLINE_S = 180.0
LEASE_S = 900


def run() -> list[Row]:
    """All rows of this bench."""
    before = time.monotonic()
    with simulated_cloud(NODES) as cloud:
        began_s = time.monotonic() - before
        probe = Probe(cloud)
        specs = [probe.claimed() for _ in range(SPECS)]
        late_ms = sorted(probe.put(specs))
        probe.check(specs)
        memory = memory_mib() / NODES
        probe.clear(specs)
    return [
        Row(f"{NODES} simulated nodes are there after", began_s, "s"),
        Row(f"spec put to its worker, {NODES} simulated nodes, median", median(late_ms), "ms"),
        Row(f"spec put to its worker, {NODES} simulated nodes, p99", late_ms[int(0.99 * len(late_ms))], "ms", "<= 10"),
        Row(f"spec put to its worker, {NODES} simulated nodes, the longest", late_ms[-1], "ms"),
        Row(f"specs lost, doubled or misled, of {SPECS}", 0, "", "<= 0"),
        Row("memory per simulated node", memory, "MiB", "<= 0.5"),
    ]


class Probe:
    """Puts specs, and hears which worker has them when."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self._cloud = cloud
        self._store = cloud.store
        self._random = random.Random(5)  # noqa: S311
        self._placement = Placement(cloud.config.placement)
        self._claims = Claims(self._placement, read_cloud(cloud.store) or "")
        self._lease = cloud.store.grant_lease(LEASE_S)
        self._had: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for node in cloud.fleet.nodes:
            self._listen(node)

    def _listen(self, node: SimulatedNode) -> None:
        look_at: Callable[[str], None] = node.duties.look_at

        def heard(instance: str) -> None:
            self._had[instance].append((node.id, time.monotonic()))
            look_at(instance)

        node.duties.look_at = heard  # type: ignore[method-assign]

    def claimed(self) -> Spec:
        """A spec for some node whose resources are claimed, under an intent: else a sweep would release them."""
        node, instance = self._random.choice(self._cloud.fleet.nodes).id, wiring.new_uuid()
        intent = encode(Intent(instance, instance, "bench"))
        self._store.transact([], [Put(keys.intent(instance), intent, self._lease)])
        if not self._claims.claim(instance, Candidate({node: AMOUNTS}, {"": [node]}, {})):
            raise AssertionError(f"no room on node {node}")
        nics = (Nic(mac_of(instance)),)
        image = ImageRef("/images/simulated.qcow2")
        return Spec(instance, node, f"vm-{instance[:8]}", image, {node: AMOUNTS}, nics, time.time(), instance)

    def put(self, specs: list[Spec]) -> list[float]:
        """Milliseconds from before each put until a worker has it, at a steady pace."""
        began = {}
        start = time.monotonic()
        for number, spec in enumerate(specs):
            time.sleep(max(0.0, start + number / PER_S - time.monotonic()))
            commit: list[Operation] = [
                Put(keys.spec(spec.node, spec.instance), encode(spec)),
                Delete(keys.intent(spec.instance)),
            ]
            began[spec.instance] = time.monotonic()
            self._store.transact([], commit)
        _until(lambda: all(self._had[spec.instance] for spec in specs), "every spec has come to a worker")
        return [1000 * (self._had[instance][0][1] - at) for instance, at in began.items()]

    def check(self, specs: list[Spec]) -> None:
        """Each was with its own node's worker alone, and runs."""
        _until(lambda: all(self._has_ip(spec) for spec in specs), "every guest has its IP")
        for spec in specs:
            nodes = {node for node, _ in self._had[spec.instance]}
            if nodes != {spec.node}:
                raise AssertionError(f"{spec.instance} of node {spec.node} was with {nodes}")

    def clear(self, specs: list[Spec]) -> None:
        """All are destroyed, and nothing is left."""
        for spec in specs:
            mark = encode(Mark("bench", time.time(), spec.instance))
            self._store.transact([], [Put(keys.destroy(spec.node, spec.instance), mark)])
        nodes = self._cloud.fleet.nodes
        _until(lambda: not any(node.hypervisor.domains for node in nodes), "every guest is gone")
        _until(lambda: not any(self._store.scan(keys.specs(spec.node)).entries for spec in specs), "every spec is gone")
        left = [spec.instance for spec in specs if self._claims.held(spec.instance).allocations]
        if left:
            raise AssertionError(f"{len(left)} allocations are left: {left[:3]}")

    def _has_ip(self, spec: Spec) -> bool:
        entry = self._store.get(keys.status(spec.node, spec.instance))
        return entry is not None and "ip" in decode(Status, entry.value, entry.key).stages


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")
        time.sleep(0.2)
    print(what, file=sys.stderr, flush=True)
