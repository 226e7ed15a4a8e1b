"""What tests of Placement itself put into it and ask of it; everything by placet.placement's own client."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from placet.candidates import Candidate
from placet.placement import Placement
from placet.query import for_placement, parse_query
from placet.resources import Inventory

CLOUD = "e5b2d0a1-0000-4000-8000-00000000c10d"
X86, ARM, SSD = "HW_ARCH_X86_64", "HW_ARCH_AARCH64", "STORAGE_DISK_SSD"
FOUR = Inventory(4)


def new() -> str:
    return str(uuid.uuid4())


def offer(placement: Placement, inventories: Mapping[str, Inventory], *traits: str) -> str:
    """A provider with this inventory and these traits."""
    provider = new()
    assert placement.create_provider(provider, f"name-{provider}")
    assert placement.put_inventories(provider, inventories, 0)
    assert placement.put_traits(provider, traits, 1)
    return provider


def of(provider: str, **amounts: int) -> Candidate:
    """A candidate as somebody made it up."""
    return Candidate({provider: amounts}, {"": [provider]}, {})


def generation(placement: Placement, provider: str) -> int:
    found = placement.provider(provider)
    assert found
    return found.generation


def nodes(placement: Placement, query: str, **defaults: int) -> set[str | None]:
    """Where the candidates of a user's query are."""
    return {found.node for found in placement.candidates(for_placement(parse_query(query, defaults)))}
