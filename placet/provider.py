"""What a node offers in Placement, made to agree with its compute.yaml at each start. Before step 1 of a request's way.

What an operator sets there by hand is kept. So that what compute.yaml no longer says can be taken away again, the node
remembers in a file what it has set itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placet.config import BASE_CLASSES
from placet.errors import BadConfig, PlacetError, Refused
from placet.log import warn
from placet.model import BadRecord, decode, encode
from placet.placement import Placement
from placet.registration import publish_inventory, publish_traits
from placet.resources import Inventory
from placet.schema import similar

CUSTOM = "CUSTOM_"


@dataclass(frozen=True)
class Offered:
    """The resource classes and the traits that a node has set for itself, sorted."""

    classes: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def publish_offer(
    placement: Placement, node: str, offered: Mapping[str, Inventory], traits: frozenset[str], path: Path
) -> None:
    """Offer these amounts and traits, and no more what the file at `path` says that the node offered before.

    The file is written ahead, so that nothing is ever set that it does not tell of. Raises BadConfig for a trait or a
    class that does not exist, PlacetError.
    """
    before = _read(path)
    _write(path, _offered({*before.classes, *offered}, {*before.traits, *traits}))
    held = _publish_classes(placement, node, offered, {*before.classes, *BASE_CLASSES} - offered.keys())
    _publish_traits(placement, node, traits, frozenset(before.traits) - traits)
    _write(path, _offered({*offered, *held}, traits))


def _publish_classes(
    placement: Placement, node: str, offered: Mapping[str, Inventory], gone: Collection[str]
) -> set[str]:
    """Those of `gone` that instances hold stay, with nothing left to give."""
    for name in _custom(offered):
        placement.create_resource_class(name)
    try:
        publish_inventory(placement, node, offered, gone)
    except Refused as problem:
        _tell_unknown("inventory", offered, placement.resource_classes(), problem)
        raise
    held = placement.inventories(node)[0].keys() & set(gone) if gone else set()
    if held:
        warn("classes-still-held", classes=",".join(sorted(held)), remedy="destroy what holds them, then start again")
    return held


def _publish_traits(placement: Placement, node: str, traits: frozenset[str], gone: Collection[str]) -> None:
    for name in _custom(traits):
        placement.create_trait(name)
    try:
        publish_traits(placement, node, traits, enabled=True, gone=gone)
    except Refused as problem:
        _tell_unknown("traits", traits, placement.known_traits(), problem)
        raise


def _custom(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(CUSTOM)]


def _tell_unknown(key: str, names: Iterable[str], known: Collection[str], problem: Refused) -> None:
    """Raises BadConfig for the first name that is not known."""
    for name in names:
        if name not in known:
            hint = similar(name, known) or f"; one of your own begins with {CUSTOM}"
            raise BadConfig(f"compute.yaml: {key}: Placement knows no {name}{hint}") from problem


def _offered(classes: Iterable[str], traits: Iterable[str]) -> Offered:
    return Offered(tuple(sorted(classes)), tuple(sorted(traits)))


def _read(path: Path) -> Offered:
    try:
        return decode(Offered, path.read_bytes(), str(path))
    except FileNotFoundError:
        return Offered()
    except (OSError, BadRecord) as problem:
        raise PlacetError(f"{path}: {problem}; if it can't be mended, remove it") from problem


def _write(path: Path, offered: Offered) -> None:
    """Whole or not at all. Raises PlacetError."""
    part = path.with_suffix(".part")
    try:
        part.write_bytes(encode(offered))
        part.replace(path)
    except OSError as problem:
        raise PlacetError(f"{path}: {problem.strerror}; make the state directory writable for root") from problem
