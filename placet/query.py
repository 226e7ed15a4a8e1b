"""What a user asks of Placement: the query string of `GET /allocation_candidates`, checked and completed. Pure.

Step 1 of a request's way. The words are Placement's own and keep their meaning
(https://docs.openstack.org/api-ref/placement/#list-allocation-candidates); here only their form is checked, so that
a typo is told before anything is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from placet.errors import BadQuery
from placet.schema import nearest

MAX_QUERY_BYTES = 8 * 1024
MAX_AMOUNT = 2**31 - 1
DISABLED_TRAIT = "COMPUTE_STATUS_DISABLED"
PARAMETER = re.compile(
    r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?|group_policy|limit|root_required|same_subtree"
)
WORDS = ("resources", "required", "member_of", "in_tree", "group_policy", "limit", "root_required", "same_subtree")
REPEATABLE = ("required", "member_of", "same_subtree")  # these add up (microversions 1.39, 1.24, 1.36)
RESOURCE_CLASS = re.compile(r"[A-Z0-9_]{1,255}")
BASE_CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB")


@dataclass(frozen=True)
class Query:
    """`parameters` in the order given, as Placement takes them; `amounts` is the sum asked of each class."""

    parameters: tuple[tuple[str, str], ...]
    amounts: Mapping[str, int]
    limit: int | None = None

    @property
    def text(self) -> str:
        """One line for people and for the digest of a request."""
        return "&".join(f"{name}={value}" for name, value in self.parameters)


def parse_query(text: str, defaults: Mapping[str, int]) -> Query:
    """The query that `text` holds, with VCPU, MEMORY_MB and DISK_GB filled in from `defaults`. Raises BadQuery."""
    if len(text.encode()) > MAX_QUERY_BYTES:
        raise BadQuery(f"the query has {len(text.encode())} bytes, over the {MAX_QUERY_BYTES} that are taken")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    except ValueError as problem:
        raise BadQuery(f"{text!r} is no query; write 'resources=VCPU:1,MEMORY_MB:256,DISK_GB:1'") from problem
    amounts: dict[str, int] = {}
    names: set[str] = set()
    for name, value in pairs:
        _check_parameter(name, value)
        if name in names and not name.startswith(REPEATABLE):
            raise BadQuery(f"{name}= is there twice, and only the last would count; write it once")
        names.add(name)
        if name.startswith("resources"):
            for resource_class, amount in _parse_resources(name, value).items():
                amounts[resource_class] = amounts.get(resource_class, 0) + amount
    if not any(name.startswith("resources") for name, _ in pairs):
        raise BadQuery(f"{text!r} asks for no resources; write 'resources=VCPU:1,MEMORY_MB:256,DISK_GB:1'")
    missing = {name: defaults[name] for name in BASE_CLASSES if name not in amounts and name in defaults}
    limit = next((int(value) for name, value in pairs if name == "limit"), None)
    return Query(_complete(pairs, missing), {**amounts, **missing}, limit)


def for_placement(query: Query) -> list[tuple[str, str]]:
    """The query as it is sent: nodes that are shutting down left out. A limit is ours to apply, once the nodes that
    are down or drained have been left out, too."""
    parameters = [(name, value) for name, value in query.parameters if name not in ("limit", "root_required")]
    given = [value for name, value in query.parameters if name == "root_required"]
    parameters.append(("root_required", ",".join([*given, f"!{DISABLED_TRAIT}"])))
    return parameters


def _check_parameter(name: str, value: str) -> None:
    if not PARAMETER.fullmatch(name):
        raise BadQuery(f"{name!r} is no parameter of a query{nearest(name, WORDS)}")
    if not value.strip():
        raise BadQuery(f"{name}= says nothing; give it a value or leave it out")
    if name == "limit" and not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise BadQuery(f"limit={value} is no whole number above 0")


def _parse_resources(name: str, value: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in value.split(","):
        resource_class, colon, amount = part.partition(":")
        if not colon or not RESOURCE_CLASS.fullmatch(resource_class):
            raise BadQuery(f"{name}: {part!r} is not CLASS:AMOUNT, as in VCPU:1 or MEMORY_MB:256")
        if not re.fullmatch(r"[0-9]{1,12}", amount) or not 0 < int(amount) <= MAX_AMOUNT:
            raise BadQuery(f"{name}: {part!r}: the amount must be a whole number from 1 to {MAX_AMOUNT}")
        if resource_class in found:
            raise BadQuery(f"{name}: {resource_class} is named twice")
        found[resource_class] = int(amount)
    return found


def _complete(pairs: list[tuple[str, str]], missing: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    if not missing:
        return tuple(pairs)
    added = ",".join(f"{name}:{amount}" for name, amount in missing.items())
    if not any(name == "resources" for name, _ in pairs):
        return (*pairs, ("resources", added))
    return tuple((name, f"{value},{added}" if name == "resources" else value) for name, value in pairs)
