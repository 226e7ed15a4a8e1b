"""Reading a spec from etcd, where anybody who may write there can have put anything."""

from __future__ import annotations

from collections.abc import Iterable

from placet import keys
from placet.model import BadRecord, Spec, decode
from placet.store import Entry


def spec_at(entry: Entry) -> Spec:
    """The spec that a key holds. Raises BadRecord, also when it speaks of another instance or node than its key."""
    spec = decode(Spec, entry.value, entry.key)
    if (spec.instance, spec.node) != (keys.last(entry.key), keys.node_of(entry.key)):
        raise BadRecord(f"{entry.key}: it speaks of instance {spec.instance} on node {spec.node}")
    return spec


def held_by(specs: Iterable[Entry]) -> dict[str, int]:
    """What specs hold in all, by resource class; a bad one counts nothing."""
    total: dict[str, int] = {}
    for entry in specs:
        try:
            spec = decode(Spec, entry.value, entry.key)
        except BadRecord:
            continue
        for amounts in spec.allocations.values():
            for resource_class, amount in amounts.items():
                total[resource_class] = total.get(resource_class, 0) + amount
    return total
