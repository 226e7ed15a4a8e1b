"""What an image says that its instances need of a node: its properties `resources:CLASS` and `trait:TRAIT`. Pure.

The form is OpenStack's for flavors (https://docs.openstack.org/nova/latest/configuration/extra-specs.html):
`resources:CUSTOM_GPU=1`, `trait:HW_CPU_X86_AVX2=required`, `trait:CUSTOM_SLOW=forbidden`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from placet.errors import BadQuery, Usage
from placet.model import ImageRecord
from placet.query import Query, parse_query, with_traits
from placet.query_words import check_trait, parse_resources
from placet.schema import similar

RESOURCES, TRAIT = "resources:", "trait:"
REQUIRED, FORBIDDEN = "required", "forbidden"


@dataclass(frozen=True)
class Requirements:
    """Amounts by resource class, and the traits that a node must and must not have."""

    amounts: Mapping[str, int] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()


def parse_requirements(properties: Mapping[str, str]) -> Requirements:
    """What an image's properties ask for; those that are no requirement are passed over. Raises Usage."""
    amounts: dict[str, int] = {}
    traits: dict[str, set[str]] = {REQUIRED: set(), FORBIDDEN: set()}
    for name, value in properties.items():
        try:
            if name.startswith(RESOURCES):
                amounts |= _amount(name.removeprefix(RESOURCES), value)
            elif name.startswith(TRAIT):
                _kind(traits, value).add(check_trait(name.removeprefix(TRAIT)))
        except Usage as problem:
            raise Usage(f"image property {f'{name}={value}'!r:.80}: {problem}") from problem
    return Requirements(amounts, frozenset(traits[REQUIRED]), frozenset(traits[FORBIDDEN]))


def query_for_image(text: str, defaults: Mapping[str, int], image: ImageRecord | None) -> Query:
    """The query that `text` holds, with what its image requires besides. What the user asks for stands if it is as
    much; defaults grow with the image. Raises BadQuery, Usage naming the image where the two disagree."""
    if image is None:
        return parse_query(text, defaults)
    try:
        needed = parse_requirements(image.properties)
    except Usage as problem:
        raise Usage(f"image {image.name!r} is recorded wrongly: {problem}") from problem
    raised = {name: max(amount, defaults.get(name, 0)) for name, amount in needed.amounts.items()}
    query = parse_query(text, {**defaults, **raised})
    for name, amount in needed.amounts.items():
        if query.amounts[name] < amount:
            raise Usage(f"image {image.name!r} needs {name}:{amount}, asked for {query.amounts[name]}")
    try:
        return with_traits(query, needed.required, needed.forbidden)
    except BadQuery as problem:
        raise Usage(f"image {image.name!r} and the query contradict each other: {problem}") from problem


def _amount(resource_class: str, value: str) -> dict[str, int]:
    found = parse_resources("resources", f"{resource_class}:{value}")
    if found.keys() != {resource_class}:
        raise Usage("expected one amount")
    return found


def _kind(traits: Mapping[str, set[str]], value: str) -> set[str]:
    if value not in traits:
        raise Usage(f"expected {REQUIRED} or {FORBIDDEN}{similar(value, traits)}")
    return traits[value]
