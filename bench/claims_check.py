"""Whether what was placed is what stands: read from etcd and from Placement's own tables, before any speed is told."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable

from bench.cluster import Cluster
from placet import keys
from placet.model import Allocations, Index, Mark, Spec, decode
from placet.placing import Placed
from placet.store.etcd import EtcdStore

HELD = """
    SELECT consumer_id, p.uuid, c.name, used FROM allocations a
    JOIN resource_providers p ON p.id = a.resource_provider_id JOIN resource_classes c ON c.id = a.resource_class_id
"""
TOO_FULL = """
    SELECT p.uuid, c.name, SUM(used), (total - reserved) * allocation_ratio AS capacity FROM allocations a
    JOIN inventories i USING (resource_provider_id, resource_class_id)
    JOIN resource_providers p ON p.id = a.resource_provider_id JOIN resource_classes c ON c.id = a.resource_class_id
    GROUP BY p.uuid, c.name HAVING SUM(used) > capacity
"""


def check(cluster: Cluster, placed: Iterable[Placed]) -> list[str]:
    """What is wrong, of all that was ever `placed` here, in words; nothing when each has exactly one spec, index, name
    and allocation which agree, nothing else is there, and no node holds more than it has."""
    where = {each.instance: each.node for each in placed}
    held, wrong = _held(cluster)
    specs = _specs(cluster.store, wrong)
    wrong += _differences("spec", where, {each.instance: each.node for each in specs})
    wrong += _differences("index", where, _indexes(cluster.store))
    wrong += _differences("name", dict.fromkeys(where, ""), dict.fromkeys(_named(cluster.store), ""))
    wrong += [f"an intent is left: {entry.key}" for entry in cluster.store.scan(keys.INTENTS).entries]
    wrong += [
        f"{each.instance}: its spec says {each.allocations}, Placement {held.get(each.instance)}"
        for each in specs
        if held.get(each.instance) != each.allocations
    ]
    unknown = held.keys() - where.keys() - cluster.foreign
    return wrong + [f"{consumer}: an allocation of nobody's" for consumer in unknown]


def _held(cluster: Cluster) -> tuple[dict[str, Allocations], list[str]]:
    """What each consumer holds, and which providers hold too much."""
    held: dict[str, Allocations] = defaultdict(lambda: defaultdict(dict))
    with contextlib.closing(sqlite3.connect(f"file:{cluster.database}?mode=ro", uri=True)) as tables:
        for consumer, provider, resource_class, used in tables.execute(HELD):
            held[consumer][provider][resource_class] = used
        full = tables.execute(TOO_FULL).fetchall()
    return held, [f"{node}: {used} {name} of {capacity:g} are given" for node, name, used, capacity in full]


def _specs(store: EtcdStore, wrong: list[str]) -> list[Spec]:
    """All specs; those that lie at another's key, or twice, are wrong."""
    entries = [entry for entry in store.scan(keys.NODES).entries if "/specs/" in entry.key]
    found = [decode(Spec, entry.value, entry.key) for entry in entries]
    wrong += [
        f"{entry.key} is the spec of {each.instance} on {each.node}"
        for entry, each in zip(entries, found, strict=True)
        if entry.key != keys.spec(each.node, each.instance)
    ]
    times = Counter(each.instance for each in found)
    wrong += [f"{instance} has {count} specs" for instance, count in times.items() if count > 1]
    return found


def _indexes(store: EtcdStore) -> dict[str, str]:
    found = [decode(Index, entry.value, entry.key) for entry in store.scan(keys.INSTANCES).entries]
    return {each.instance: each.node for each in found if each.deleted_at is None}


def _named(store: EtcdStore) -> list[str]:
    return [str(decode(Mark, entry.value, entry.key).instance) for entry in store.scan(keys.NAMES).entries]


def _differences(what: str, wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    differing = [each for each in wanted.keys() | found.keys() if wanted.get(each) != found.get(each)]
    return [f"{each}: placed on {wanted.get(each)}, its {what} says {found.get(each)}" for each in differing]
