"""What nodes of a test's cloud offer, have and say, changed as an operator or their agents would."""

from __future__ import annotations

import json

from placet import keys
from placet.model import Mark, encode
from placet.node_records import Alive, Identity
from placet.resources import Inventory
from placet.store import Delete, Put
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import Told

SMALL = "resources=VCPU:1,MEMORY_MB:1024,DISK_GB:1"


def offer(cloud: TestCloud, node: str, **classes: Inventory) -> None:
    """Change what a node offers."""
    found, generation = cloud.placement.inventories(node)
    assert cloud.placement.put_inventories(node, {**found, **classes}, generation)


def give_trait(cloud: TestCloud, node: str, *traits: str) -> None:
    found, generation = cloud.placement.traits(node)
    assert cloud.placement.put_traits(node, found | set(traits), generation)


def report(cloud: TestCloud, node: str, name: str, **capacity: int) -> None:
    """Have the node say of itself what it offers."""
    words = (node, name, "127.0.0.1", new_uuid(), "fake", "qemu", 1.0)
    alive = Alive(*words, capacity=capacity, traits=("HW_ARCH_X86_64",))
    cloud.store.transact([], [Put(keys.alive(node), encode(alive))])


def go_down(cloud: TestCloud, node: str, name: str) -> None:
    identity = encode(Identity(node, name, new_uuid(), 1.0))
    cloud.store.transact([], [Delete(keys.alive(node)), Put(keys.identity(node), identity)])


def drain(cloud: TestCloud, node: str) -> None:
    cloud.store.transact([], [Put(keys.closed(node), encode(Mark("test", 1.0)))])


def everything(cloud: TestCloud) -> list[tuple[str, bytes, int]]:
    """Every key of the cloud with its revision, and what each provider has claimed of it."""
    keys_found = [(entry.key, entry.value, entry.mod_revision) for entry in cloud.store.scan("").entries]
    held = [(each.uuid, b"", each.generation) for each in cloud.placement.providers()]
    return [*keys_found, *held]


def rows(told: Told) -> list[dict[str, object]]:
    return list(json.loads(told.out))
