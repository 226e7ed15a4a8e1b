"""Making many simulated nodes known to etcd and Placement, by the functions with which one real node does it.

Those that are known already cost a look at a list: a second start of 10,000 makes no call for each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network

from placet import keys
from placet.drivers.fake import TRAITS
from placet.errors import Conflict, Unreachable
from placet.model import BadRecord, decode
from placet.networks import subnet_at
from placet.node_records import Identity
from placet.placement import Placement
from placet.registration import (
    bind_identities,
    claim_subnets,
    publish_inventory,
    publish_new,
    publish_traits,
    register_provider,
)
from placet.simulation.nodes import Enlisted
from placet.simulation.shapes import FIRST_SUBNET, RANGE, hypervisor_of, inventory_of, name_of, node_of
from placet.store import Entry, Range, Store

AT_ONCE = 4  # callers of Placement: more only wait for each other
ATTEMPTS = 5
PAUSE_S = 1.0
PER_PAGE = 1000
PUBLISHED = 2  # a provider's generation once inventory and traits have been set, each of which adds one


class Stopped(Exception):
    """Somebody wants it to end before it is done."""


class Enlisting:
    """Of nodes 1 to `count` of the simulation that has this `seed`, a UUID. Each step can be repeated.

    Raises Stopped once `stop` is set, PlacetError.
    """

    def __init__(self, store: Store, placement: Placement, seed: str, count: int, stop: threading.Event) -> None:
        self._store = store
        self._placement = placement
        self._nodes = {node_of(seed, number): number for number in range(1, count + 1)}
        self._hypervisors = {node: hypervisor_of(seed, number) for node, number in self._nodes.items()}
        self._stop = stop

    def run(self, progress: Callable[[int, int], None]) -> list[Enlisted]:
        """All of them; `progress` hears how many providers of how many are made."""
        providers = {found.uuid: found.generation for found in self._placement.providers()}
        unknown = [node for node in self._nodes if node not in providers]
        if unknown:
            self._check_names()
        self._bind()
        subnets = self._claim_subnets()
        new = [node for node in self._nodes if providers.get(node, 0) < PUBLISHED]
        self._register(new, progress)
        return [Enlisted(number, node, self._hypervisors[node], subnets[node]) for node, number in self._nodes.items()]

    def _check_names(self) -> None:
        """Raises Conflict when another node has one of our names: `schedule.py` could not tell them apart."""
        ours = {name_of(number): node for node, number in self._nodes.items()}
        for entry in entries_below(self._store, keys.NODES):
            node = keys.node_of(entry.key)
            if entry.key != keys.identity(node):
                continue
            name = _name_in(entry)
            if ours.get(name, node) != node:
                raise Conflict(
                    f"this cloud has a node {name} already ({node}), of another simulation or a real one: start that "
                    f"simulation again with its own state_dir:, or schedule.py node forget {node}"
                )

    def _bind(self) -> None:
        now = time.time()
        bind_identities(
            self._store,
            [Identity(node, name_of(number), self._hypervisors[node], now) for node, number in self._nodes.items()],
        )

    def _claim_subnets(self) -> dict[str, IPv4Network]:
        whole = IPv4Network(RANGE)
        wanted = {node: str(subnet_at(whole, FIRST_SUBNET + number)) for node, number in self._nodes.items()}
        return claim_subnets(self._store, RANGE, wanted)

    def _register(self, nodes: Sequence[str], progress: Callable[[int, int], None]) -> None:
        done = 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="enlist") as threads:
            for _ in threads.map(self._register_one, nodes):
                done += 1
                progress(done, len(nodes))

    def _register_one(self, node: str) -> None:
        for attempt in range(ATTEMPTS):
            if self._stop.is_set():
                raise Stopped
            try:
                self._publish(node)
                return
            except Unreachable:
                if attempt == ATTEMPTS - 1:
                    raise
                self._stop.wait(PAUSE_S * 2**attempt)

    def _publish(self, node: str) -> None:
        offered = inventory_of(self._nodes[node])
        if register_provider(self._placement, node, self._hypervisors[node]):
            publish_new(self._placement, node, offered, TRAITS)
        else:
            publish_inventory(self._placement, node, offered)
            publish_traits(self._placement, node, TRAITS, enabled=True)


def entries_below(store: Store, prefix: str) -> Iterator[Entry]:
    """All keys there, page by page: together they may be more than one answer can hold."""
    start = ""
    while True:
        found = store.read(Range(prefix, start, PER_PAGE))[0]
        yield from found.entries
        if len(found.entries) < PER_PAGE:
            return
        start = found.entries[-1].key + "\0"


def _name_in(entry: Entry) -> str:
    try:
        return decode(Identity, entry.value, entry.key).name
    except BadRecord:
        return ""
