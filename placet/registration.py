"""How a node makes itself known: who it is, which hypervisor it has, which subnet, what it offers. Before step 1.

Each part can be repeated: a hundred restarts are one provider.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import TypeVar

from placet import keys
from placet.errors import Conflict, PlacetError, Refused, Unreachable
from placet.model import decode, encode, is_uuid
from placet.networks import number_of, subnet_at, subnet_count
from placet.node_records import Alive, Identity, Subnet
from placet.placement import Placement
from placet.query import DISABLED_TRAIT
from placet.resources import Inventory
from placet.store import Absent, Get, Put, Store, Transaction

T = TypeVar("T")
ATTEMPTS = 10
PER_READ = 64  # nodes, each with two keys; etcd takes 128 in one exchange
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
    bind_identities(store, [identity])


def bind_identities(store: Store, identities: Sequence[Identity]) -> None:
    """The same for many nodes, in few exchanges."""
    for _ in range(ATTEMPTS):
        missing = [each for batch in batched(identities, PER_READ) for each in _unbound(store, batch)]
        if not missing:
            return
        bound = ((keys.identity(each.node), encode(each)) for each in missing)
        store.transact_all([Transaction([Absent(key)], [Put(key, value)]) for key, value in bound])
    raise Unreachable("etcd kept losing nodes' identities while they were written; start again")


def _unbound(store: Store, identities: Sequence[Identity]) -> list[Identity]:
    """Those that nobody has bound yet. Raises Conflict when one is bound to another hypervisor, or alive on one."""
    keys_read = [make(each.node) for make in (keys.identity, keys.alive) for each in identities]
    entries = [found.entry for found in store.read(*map(Get, keys_read))]
    missing = []
    for identity, entry, alive in zip(identities, entries, entries[len(identities) :], strict=False):
        found = decode(Identity, entry.value, entry.key) if entry else identity
        if found.hypervisor != identity.hypervisor:
            raise Conflict(
                f"node {identity.node} is already {found.name!r} with hypervisor {found.hypervisor}, not this one "
                f"({identity.hypervisor}); was its state directory copied? Remove node-uuid or set another uuid:"
            )
        if alive and decode(Alive, alive.value, alive.key).hypervisor != identity.hypervisor:
            raise Conflict(f"node {identity.node} is alive elsewhere; set another uuid: in compute.yaml")
        if entry is None:
            missing.append(identity)
    return missing


def claim_subnet(store: Store, cloud_range: str, node: str, before: str | None = None) -> IPv4Network:
    """The /24 of the cloud's range that is this node's alone; claimed now if it has none yet, or etcd has lost it:
    then rather the one it had `before`, where its guests have their addresses."""
    return claim_subnets(store, cloud_range, {node: before})[node]


def claim_subnets(store: Store, cloud_range: str, nodes: Mapping[str, str | None]) -> dict[str, IPv4Network]:
    """The same for many nodes, each with the subnet that it rather has, in few exchanges."""
    whole = IPv4Network(cloud_range)
    for _ in range(ATTEMPTS):
        taken: dict[int, str] = {}
        for entry in store.scan(keys.SUBNETS).entries:
            found = decode(Subnet, entry.value, entry.key)
            taken[found.number] = found.node
        owned = {owner: number for number, owner in taken.items() if owner in nodes and number < subnet_count(whole)}
        missing = [node for node in nodes if node not in owned]
        if not missing:
            return {node: subnet_at(whole, owned[node]) for node in nodes}
        claimed = _choose_subnets(whole, taken, {node: nodes[node] for node in missing})
        store.transact_all(
            [
                Transaction([Absent(keys.subnet(each.number))], [Put(keys.subnet(each.number), encode(each))])
                for each in claimed
            ]
        )
    raise Conflict(f"other nodes kept taking subnets of {cloud_range} at the same time; start again")


def _choose_subnets(whole: IPv4Network, taken: Mapping[int, str], nodes: Mapping[str, str | None]) -> list[Subnet]:
    used = set(taken)
    free = (number for number in range(subnet_count(whole)) if number not in used)
    chosen = []
    for node, before in nodes.items():
        number = number_of(whole, IPv4Network(before)) if before else -1
        if number in used or not 0 <= number < subnet_count(whole):
            number = next(free, -1)
        if number < 0:
            raise Refused(f"network.range {whole} has no /24 left for another node; widen it on every node")
        used.add(number)
        chosen.append(Subnet(number, node))
    return chosen


def restore_keys(store: Store, identity: Identity, cloud_range: str, subnet: IPv4Network) -> None:
    """Write again what etcd may have lost of the node since it registered; what is there is left alone."""
    number = number_of(IPv4Network(cloud_range), subnet)
    records = {keys.identity(identity.node): identity, keys.subnet(number): Subnet(number, identity.node)}
    for (key, record), found in zip(records.items(), store.read(*map(Get, records)), strict=True):
        if found.entry is None:
            store.transact([Absent(key)], [Put(key, encode(record))])


def register_provider(placement: Placement, node: str, hypervisor: str) -> bool:
    """The node as a resource provider, whose name carries the hypervisor: Placement itself refuses a second. Tells
    whether it was made just now: then its generation is 0, and nothing is there that must be read first."""
    name = PROVIDER_PREFIX + hypervisor
    if placement.create_provider(node, name):
        return True
    if placement.provider(node) is not None:
        return False
    other = next((found.uuid for found in placement.providers() if found.name == name), None)
    if other != node:
        raise Conflict(
            f"hypervisor {hypervisor} is node {other} already; one agent per hypervisor: "
            f"set uuid: {other} in compute.yaml, or give this agent a libvirtd of its own"
        )
    return False


def publish_new(placement: Placement, node: str, offered: Mapping[str, Inventory], traits: frozenset[str]) -> None:
    """What a provider offers that was made just now, in one call each; if that was not so, as for any other."""
    if not placement.put_inventories(node, _wanted({}, offered), 0):
        publish_inventory(placement, node, offered)
    if not placement.put_traits(node, traits, 1):
        publish_traits(placement, node, traits, enabled=True)


def publish_inventory(
    placement: Placement, node: str, offered: Mapping[str, Inventory], gone: Collection[str] = ()
) -> None:
    """Offer these amounts, and those of `gone` no more; classes that somebody else added are kept."""

    def once() -> bool:
        found, generation = placement.inventories(node)
        kept = without(placement, node, found, gone)
        wanted = _wanted(kept, offered)
        return wanted == found or placement.put_inventories(node, wanted, generation)

    _retry(once, f"the inventory of {node}")


def _wanted(kept: Mapping[str, Inventory], offered: Mapping[str, Inventory]) -> dict[str, Inventory]:
    return {**kept, **{name: replace(one, max_unit=one.max_unit or one.total) for name, one in offered.items()}}


def without(
    placement: Placement, node: str, found: Mapping[str, Inventory], gone: Collection[str]
) -> dict[str, Inventory]:
    """An inventory without some classes; of those that instances still hold, nothing is left to give."""
    used = placement.usages(node) if found.keys() & gone else {}
    closed = {name: replace(found[name], reserved=found[name].total) for name in found.keys() & gone if used.get(name)}
    return {**{name: one for name, one in found.items() if name not in gone}, **closed}


def publish_traits(
    placement: Placement, node: str, traits: frozenset[str], enabled: bool, gone: Collection[str] = ()
) -> None:
    """Say what the node can do, not what is `gone`, and whether new instances may come; traits that others set are
    kept."""

    def once() -> bool:
        found, generation = placement.traits(node)
        others = {trait for trait in found if not trait.startswith(OURS)}.difference(gone)
        wanted = others | traits | (set() if enabled else {DISABLED_TRAIT})
        return wanted == found or placement.put_traits(node, wanted, generation)

    _retry(once, f"the traits of {node}")


def _retry(once: Callable[[], bool], what: str) -> None:
    if not any(once() for _ in range(ATTEMPTS)):
        raise Unreachable(f"Placement kept changing {what} under us; start again")


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
