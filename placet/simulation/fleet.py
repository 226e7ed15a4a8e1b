"""All simulated nodes of a process while they serve: a few threads, one store, one stream of watches, one Placement."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from placet import keys
from placet.log import warn
from placet.registration import batched
from placet.simulation.enlisting import Stopped, entries_below
from placet.simulation.nodes import Enlisted, Shared, SimulatedNode
from placet.simulation.pools import Pool, Pools
from placet.store import Entry

AT_ONCE = 4
LOOKS_AT_ONCE = 32  # most of them wait for etcd or Placement; a real node has four of its own
PER_BATCH = 32
RETRY_S = 5.0
GOODBYES_AT_ONCE = 8
FINISH_S = 20.0
GOODBYE_S = 60.0


class Fleet:
    """`start` returns when every node is alive and watches; then `stop` ends them."""

    def __init__(self) -> None:
        """Its `pools` are for the nodes that `muster` makes."""
        self._nodes: dict[int, SimulatedNode] = {}
        self.pools = Pools(
            looks=Pool("look", LOOKS_AT_ONCE, self._look),
            watches=Pool("watch", 2, lambda key: self._nodes[int(key)].watch(), RETRY_S),
            beats=Pool("beat", 2, lambda key: self._nodes[int(key)].duties.beat(), RETRY_S),
            audits=Pool("audit", 2, lambda key: self._nodes[int(key)].duties.audit(), RETRY_S),
            errands=Pool("errand", 2, self._serve_errand),
        )

    @property
    def nodes(self) -> Sequence[SimulatedNode]:
        """All of them, by their numbers."""
        return tuple(self._nodes.values())

    def muster(self, shared: Shared, enlisted: Sequence[Enlisted]) -> None:
        """Build the nodes."""
        self._shared = shared
        self._nodes.update((each.number, SimulatedNode(shared, each)) for each in enlisted)

    def start(self, stop: threading.Event) -> None:
        """As a real node begins: it carries out its destroys, says that it is alive, and does what its keys say.

        Raises Stopped once `stop` is set, PlacetError.
        """
        store = self._shared.store
        revision = store.scan(keys.CLOUD).revision
        below: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries_below(store, keys.NODES):
            below[keys.node_of(entry.key)].append(entry)
        for node in self.nodes:
            if any(entry.key.startswith(keys.destroys(node.id)) for entry in below[node.id]):
                node.duties.carry_out_destroys(node.id, store)
        for node in self.nodes:
            node.watcher.begin(below.pop(node.id, []), revision)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="begin") as threads:
            for _ in threads.map(lambda batch: self._begin(batch, stop), batched(self.nodes, PER_BATCH)):
                pass
        for node in self.nodes:
            node.spread()
        for pool in self.pools.all:
            pool.start()

    def stop(self) -> None:
        """Let their leases end now; providers stay as they are, since `alive` is gone and every placing compares it."""
        for node in self.nodes:
            node.duties.is_ending = True
        for pool in self.pools.all:
            pool.close()
        for pool in self.pools.all:
            pool.join(FINISH_S)
        deadline = time.monotonic() + GOODBYE_S
        given_up = threading.Event()

        def say_goodbye(node: SimulatedNode) -> None:
            if given_up.is_set():
                return
            if not node.heartbeat.stop() or time.monotonic() > deadline:
                given_up.set()

        with ThreadPoolExecutor(GOODBYES_AT_ONCE, thread_name_prefix="goodbye") as threads:
            for _ in threads.map(say_goodbye, self.nodes):
                pass
        if given_up.is_set():
            warn("goodbyes-given-up", remedy=f"leases end by themselves within {self._shared.pace.ttl_s} s")

    def _begin(self, batch: Sequence[SimulatedNode], stop: threading.Event) -> None:
        if stop.is_set():
            raise Stopped
        store, ttl_s = self._shared.store, self._shared.pace.ttl_s
        leases = [store.grant_lease(ttl_s) for _ in batch]
        begun = list(zip(batch, leases, strict=True))
        store.transact_all([node.heartbeat.begin(node.watcher.used, lease) for node, lease in begun])
        for node, lease in begun:
            node.heartbeat.begun(node.watcher.used, lease)

    def _look(self, key: str) -> None:
        number, _, instance = key.partition(" ")
        self._nodes[int(number)].duties.look_at(instance)

    def _serve_errand(self, key: str) -> None:
        number, _, errand = key.partition(" ")
        self._nodes[int(number)].serve_errand(errand)
