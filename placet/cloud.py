"""The cloud's own identity: one UUID in etcd, made by whoever comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from placet import keys
from placet.errors import Unreachable
from placet.model import decode, encode
from placet.store import Absent, Put, Store


@dataclass(frozen=True)
class Cloud:
    """`cloud`: its id is the user of our allocations in Placement and the mark on our domains."""

    id: str
    created_at: float
    extra: dict[str, Any] = field(default_factory=dict)


def join_cloud(store: Store, known: str | None, new_uuid: Callable[[], str], now: float) -> str:
    """The cloud's id: what etcd says, else the one that the node `known`s, else one made now.

    A cloud that is known is not written to an etcd that lacks it: it may be the wrong etcd. doctor does that.
    """
    found = read_cloud(store)
    if found is None and known is not None:
        return known
    if found is None:
        found_cloud(store, new_uuid(), now)
        found = read_cloud(store)
    if found is None:
        raise Unreachable("etcd lost the cloud's id while it was being made; start again")
    return found


def found_cloud(store: Store, cloud: str, now: float) -> bool:
    """Write the cloud's id; False when there is one."""
    return store.transact([Absent(keys.CLOUD)], [Put(keys.CLOUD, encode(Cloud(cloud, now)))])


def read_cloud(store: Store) -> str | None:
    """The id of the cloud that etcd holds; None when it holds none. Raises BadRecord."""
    found = store.get(keys.CLOUD)
    return decode(Cloud, found.value, keys.CLOUD).id if found else None
