"""Reading a spec from etcd, where anybody who may write there can have put anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from placet import keys
from placet.guest_inputs import flaw_of
from placet.model import BadRecord, Index, Spec, decode
from placet.store import Entry, Store


def spec_at(entry: Entry) -> Spec:
    """The spec that a key holds. Raises BadRecord, also when it speaks of another instance or node than its key, or
    holds what no guest could be given."""
    spec = decode(Spec, entry.value, entry.key)
    if (spec.instance, spec.node) != (keys.last(entry.key), keys.node_of(entry.key)):
        raise BadRecord(f"{entry.key}: it speaks of instance {spec.instance} on node {spec.node}")
    flaw = flaw_of(spec)
    if flaw is not None:
        raise BadRecord(f"{entry.key}: {flaw}")
    return spec


def is_live(store: Store, instance: str) -> bool:
    """Whether the index speaks for an instance, and its spec is there. One that can't be read does: hands off."""
    entry = store.get(keys.instance(instance))
    if entry is None:
        return False
    try:
        index = decode(Index, entry.value, entry.key)
    except BadRecord:
        return True
    return index.deleted_at is None and store.get(keys.spec(index.node, instance)) is not None


def own_amounts(spec: Spec) -> Mapping[str, int]:
    """What a spec holds of its node's own provider. A child of it (a GPU) or a shared pool has a capacity of its own,
    which the node's does not tell."""
    return spec.allocations.get(spec.node, {})


def held_by(specs: Iterable[Entry]) -> dict[str, int]:
    """What specs hold in all of their node's own provider, by resource class; a bad one counts nothing."""
    total: dict[str, int] = {}
    for entry in specs:
        try:
            spec = decode(Spec, entry.value, entry.key)
        except BadRecord:
            continue
        for resource_class, amount in own_amounts(spec).items():
            total[resource_class] = total.get(resource_class, 0) + amount
    return total
