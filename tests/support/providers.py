"""Resource providers that an operator makes by Placement's own API: shared pools, and what is nested in a node."""

from __future__ import annotations

from collections.abc import Mapping

from placet.candidates import SHARING_TRAIT
from placet.placement import Placement
from placet.resources import Inventory
from tests.support.clouds import new_uuid


def nested_provider(placement: Placement, node: str, name: str, inventories: Mapping[str, Inventory]) -> str:
    """A provider below a node's."""
    return _provider(placement, name, inventories, {"parent_provider_uuid": node})


def shared_pool(placement: Placement, nodes: list[str], name: str, inventories: Mapping[str, Inventory]) -> str:
    """A provider that these nodes share, by an aggregate of theirs."""
    pool, aggregate = _provider(placement, name, inventories, {}), new_uuid()
    assert placement.put_traits(pool, [SHARING_TRAIT], placement.traits(pool)[1])
    for provider in (pool, *nodes):
        found, generation = placement.aggregates(provider)
        assert placement.put_aggregates(provider, {*found, aggregate}, generation)
    return pool


def _provider(placement: Placement, name: str, inventories: Mapping[str, Inventory], more: Mapping[str, str]) -> str:
    uuid = new_uuid()
    answer = placement._api.post("/resource_providers", json={"uuid": uuid, "name": name, **more})
    assert answer.status_code == 200, answer.text
    for resource_class in inventories:
        if resource_class.startswith("CUSTOM_"):
            placement.create_resource_class(resource_class)
    assert placement.put_inventories(uuid, inventories, answer.json()["generation"])
    return uuid
