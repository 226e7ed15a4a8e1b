"""Ending an instance's entry in the index: it is shown as deleted for a day, its name and group slot are free."""

from __future__ import annotations

from placet import keys
from placet.leases import Kept, lease_of
from placet.model import BadRecord, Index, Mark, decode, encode
from placet.schema import changed
from placet.store import Compare, Delete, ModifiedAt, Operation, Put, Store


def closing(store: Store, instance: str, node: str, now: float) -> tuple[list[Compare], list[Operation]]:
    """What a transaction needs to close the index of an instance on `node`; nothing when it is not there, closed, or
    by now that of one placed elsewhere under the same UUID."""
    entry = store.get(keys.instance(instance))
    if entry is None:
        return [], []
    try:
        index = decode(Index, entry.value, entry.key)
    except BadRecord:
        return [], []
    if index.deleted_at is not None or index.node != node:
        return [], []
    compares: list[Compare] = [ModifiedAt(entry.key, entry.mod_revision)]
    closed = encode(changed(index, deleted_at=now))
    operations: list[Operation] = [Put(entry.key, closed, lease_of(Kept.DELETED, now))]
    name = store.get(keys.name(index.project, index.name))
    if name is not None and holder_of(name.value, name.key) == instance:
        compares.append(ModifiedAt(name.key, name.mod_revision))
        operations.append(Delete(name.key))
    if index.group is not None:
        operations.append(Delete(keys.group_member(index.project, index.group, node, instance)))
    return compares, operations


def holder_of(value: bytes, key: str) -> str | None:
    """Whose a name is; None when it can't be told."""
    try:
        return decode(Mark, value, key).instance
    except BadRecord:
        return None
