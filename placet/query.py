"""What a user asks of Placement: the query string of `GET /allocation_candidates`, checked and completed. Pure.

Step 1 of a request's way. The words are Placement's own and keep their meaning
(https://docs.openstack.org/api-ref/placement/#list-allocation-candidates). Their form is checked in query_words.py, so
that a typo is told before anything is claimed; whether a trait or class exists, Placement says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from placet.errors import BadQuery
from placet.query_words import check_groups, check_word, parse_resources, wanted_traits

MAX_QUERY_BYTES = 8 * 1024
DISABLED_TRAIT = "COMPUTE_STATUS_DISABLED"
REPEATABLE = ("required", "member_of", "same_subtree")  # these add up (microversions 1.39, 1.24, 1.36)
EXAMPLE = "write 'resources=VCPU:1,MEMORY_MB:256,DISK_GB:1'"


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
    """The query that `text` holds; classes that it does not name are filled in from `defaults`. Raises BadQuery."""
    if len(text.encode()) > MAX_QUERY_BYTES:
        raise BadQuery(f"the query has {len(text.encode())} bytes, over the {MAX_QUERY_BYTES} that are taken")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    except ValueError as problem:
        raise BadQuery(f"{text!r:.80} is no query; {EXAMPLE}") from problem
    pairs = [(name, check_word(name, value)) for name, value in pairs]
    _check_repeated(pairs)
    pairs = list(dict.fromkeys(pairs))
    amounts: dict[str, int] = {}
    for name, value in pairs:
        if name.startswith("resources"):
            for resource_class, amount in parse_resources(name, value).items():
                amounts[resource_class] = amounts.get(resource_class, 0) + amount
    if not amounts:
        raise BadQuery(f"{text!r:.80} asks for no resources; {EXAMPLE}")
    missing = {name: amount for name, amount in defaults.items() if name not in amounts}
    limit = next((int(value) for name, value in pairs if name == "limit"), None)
    query = Query(_complete(pairs, missing), {**amounts, **missing}, limit)
    check_groups(query.parameters)
    return query


def with_traits(query: Query, required: Iterable[str], forbidden: Iterable[str]) -> Query:
    """The query, for a node that has and lacks these traits as well: the providers of its unsuffixed resources, or the
    node itself where all resources are in groups of their own. Raises BadQuery when it asks for the opposite."""
    words = {*required, *(f"!{trait}" for trait in forbidden)} - wanted_traits(query.parameters)
    if not words:
        return query
    added = ",".join(sorted(words))
    if _is_unsuffixed(query):
        found = Query((*query.parameters, ("required", added)), query.amounts, query.limit)
    else:
        rest = [(name, value) for name, value in query.parameters if name != "root_required"]
        given = [value for name, value in query.parameters if name == "root_required"]
        found = Query((*rest, ("root_required", ",".join([*given, added]))), query.amounts, query.limit)
    check_groups(found.parameters)
    return found


def in_aggregate(query: Query, aggregate: str) -> Query:
    """The query, for providers in this aggregate alone: of its unsuffixed resources, or of every group where all
    resources are in groups of their own."""
    names = ["member_of"] if _is_unsuffixed(query) else _in_groups(query, "member_of")
    return Query((*query.parameters, *((name, aggregate) for name in names)), query.amounts, query.limit)


def for_placement(query: Query) -> list[tuple[str, str]]:
    """The query as it is sent: nodes that are shutting down left out. A limit is ours to apply, once the nodes that
    are down or drained have been left out, too."""
    parameters = [(name, value) for name, value in query.parameters if name not in ("limit", "root_required")]
    given = [value for name, value in query.parameters if name == "root_required"]
    parameters.append(("root_required", ",".join([*given, f"!{DISABLED_TRAIT}"])))
    return parameters


def for_one_node(query: Query, node: str) -> list[tuple[str, str]]:
    """The query as it is sent to ask about one node alone. Whether that one is shutting down is to be read from its
    traits in the answer: to leave such nodes out, Placement would look at the traits of all nodes first."""
    return [*((name, value) for name, value in query.parameters if name != "limit"), ("in_tree", node)]


def _is_unsuffixed(query: Query) -> bool:
    return any(name == "resources" for name, _ in query.parameters)


def _in_groups(query: Query, word: str) -> list[str]:
    suffixes = (name.removeprefix("resources") for name, _ in query.parameters if name.startswith("resources"))
    return [word + suffix for suffix in suffixes]


def _check_repeated(pairs: Iterable[tuple[str, str]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names and not name.startswith(REPEATABLE):
            raise BadQuery(f"{name}= is there twice, and only the last would count; write it once")
        names.add(name)


def _complete(pairs: list[tuple[str, str]], missing: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    if not missing:
        return tuple(pairs)
    added = ",".join(f"{name}:{amount}" for name, amount in missing.items())
    if not any(name == "resources" for name, _ in pairs):
        return (*pairs, ("resources", added))
    return tuple((name, f"{value},{added}" if name == "resources" else value) for name, value in pairs)
