"""How a node makes itself known: who it is, which hypervisor it has, which subnet, what it offers. Before step 1.

Each part can be repeated: a hundred restarts are one provider.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from placet import keys
from placet.errors import Conflict, PlacetError, Refused, Unreachable
from placet.model import Alive, Identity, Subnet, decode, encode, is_uuid
from placet.placement import Placement
from placet.query import DISABLED_TRAIT
from placet.resources import Inventory
from placet.store import Absent, Put, Store

ATTEMPTS = 10
PROVIDER_PREFIX = "placet-"
OURS = ("HW_", "COMPUTE_")  # the traits that a node answers for; others are the operator's and are kept


def node_uuid(state_dir: Path, configured: str | None, new_uuid: Callable[[], str]) -> str:
    """The node's identity: `uuid:` of compute.yaml, else the one made once and kept in the state directory."""
    if configured:
        return configured.lower()
    path = state_dir / "node-uuid"
    try:
        if not path.exists():
            temporary = path.with_suffix(".new")
            with temporary.open("w") as file:
                file.write(new_uuid() + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        found = path.read_bytes().decode(errors="replace").strip()
    except OSError as problem:
        raise PlacetError(f"{path}: {problem.strerror}; make the state directory writable for root") from problem
    if not is_uuid(found):
        raise PlacetError(f"{path}: {found!r} is no UUID; put the node's back (`schedule.py nodes`) or remove the file")
    return found


def bind_identity(store: Store, identity: Identity) -> None:
    """Tie the node to its hypervisor, once and for all. Raises Conflict when the identity is another's."""
    key = keys.identity(identity.node)
    store.transact([Absent(key)], [Put(key, encode(identity))])
    entry = store.get(key)
    found = decode(Identity, entry.value, key) if entry else identity
    if found.hypervisor != identity.hypervisor:
        raise Conflict(
            f"node {identity.node} is already {found.name!r} with hypervisor {found.hypervisor}, not this one "
            f"({identity.hypervisor}); was its state directory copied? Remove node-uuid or set another uuid:"
        )
    alive = store.get(keys.alive(identity.node))
    if alive and decode(Alive, alive.value, alive.key).hypervisor != identity.hypervisor:
        raise Conflict(f"node {identity.node} is alive elsewhere; set another uuid: in compute.yaml")


def claim_subnet(store: Store, cloud_range: str, node: str, before: str | None = None) -> IPv4Network:
    """The /24 of the cloud's range that is this node's alone; claimed now if it has none yet, or etcd has lost it:
    then rather the one it had `before`, where its guests have their addresses."""
    subnets = list(ip_network(cloud_range).subnets(new_prefix=24))
    for _ in range(ATTEMPTS):
        taken = {
            found.number: found.node
            for entry in store.scan(keys.SUBNETS).entries
            for found in [decode(Subnet, entry.value, entry.key)]
        }
        mine = next((number for number, owner in taken.items() if owner == node and number < len(subnets)), None)
        if mine is not None:
            return IPv4Network(subnets[mine])
        frees = [number for number in range(len(subnets)) if number not in taken]
        free = next((number for number in frees if str(subnets[number]) == before), frees[0] if frees else None)
        if free is None:
            raise Refused(f"network.range {cloud_range} has no /24 left for another node; widen it on every node")
        store.transact([Absent(keys.subnet(free))], [Put(keys.subnet(free), encode(Subnet(free, node)))])
    raise Conflict(f"other nodes kept taking subnets of {cloud_range} at the same time; start again")


def restore_keys(store: Store, identity: Identity, cloud_range: str, subnet: IPv4Network) -> None:
    """Write again what etcd may have lost of the node since it registered; what is there is left alone."""
    number = list(ip_network(cloud_range).subnets(new_prefix=24)).index(subnet)
    for key, record in (
        (keys.identity(identity.node), identity),
        (keys.subnet(number), Subnet(number, identity.node)),
    ):
        if store.get(key) is None:
            store.transact([Absent(key)], [Put(key, encode(record))])


def register_provider(placement: Placement, node: str, hypervisor: str) -> None:
    """The node as a resource provider, whose name carries the hypervisor: Placement itself refuses a second."""
    name = PROVIDER_PREFIX + hypervisor
    if placement.provider(node) is not None or placement.create_provider(node, name):
        return
    other = next((found.uuid for found in placement.providers() if found.name == name), None)
    if other != node:
        raise Conflict(
            f"hypervisor {hypervisor} is node {other} already; one agent per hypervisor: "
            f"set uuid: {other} in compute.yaml, or give this agent a libvirtd of its own"
        )


def publish_inventory(placement: Placement, node: str, offered: Mapping[str, Inventory]) -> None:
    """Offer these amounts; classes that somebody else added are kept."""

    def once() -> bool:
        found, generation = placement.inventories(node)
        wanted = {**found, **{name: replace(one, max_unit=one.max_unit or one.total) for name, one in offered.items()}}
        return wanted == found or placement.put_inventories(node, wanted, generation)

    _retry(once, f"the inventory of {node}")


def publish_traits(placement: Placement, node: str, traits: frozenset[str], enabled: bool) -> None:
    """Say what the node can do, and whether new instances may come; traits that others set are kept."""

    def once() -> bool:
        found, generation = placement.traits(node)
        others = {trait for trait in found if not trait.startswith(OURS)}
        wanted = others | traits | (set() if enabled else {DISABLED_TRAIT})
        return wanted == found or placement.put_traits(node, wanted, generation)

    _retry(once, f"the traits of {node}")


def _retry(once: Callable[[], bool], what: str) -> None:
    if not any(once() for _ in range(ATTEMPTS)):
        raise Unreachable(f"Placement kept changing {what} under us; start again")
