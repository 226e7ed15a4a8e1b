"""The words of a query, each checked by its form, and whether they go together. Pure.

What Placement would refuse is told here in words of its user's; what Placement would take and never match (a UUID in
capital letters) is brought into the one form that it compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from placet.config import CLASS_NAME, MAX_AMOUNT, TRAIT_NAME
from placet.errors import BadQuery
from placet.schema import nearest

WORDS = ("resources", "required", "member_of", "in_tree", "group_policy", "limit", "root_required", "same_subtree")
PARAMETER = re.compile(
    r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?|group_policy|limit|root_required|same_subtree"
)
POLICIES = ("none", "isolate")
MAX_TERMS = 24  # of one parameter: Placement joins tables for each, and SQLite no more than 64
Parameters = Sequence[tuple[str, str]]


def check_word(name: str, value: str) -> str:
    """A parameter's value in the form that Placement compares. Raises BadQuery."""
    found = PARAMETER.fullmatch(name)
    if found is None:
        raise BadQuery(f"{name!r:.80} is no parameter of a query{nearest(name, WORDS)}")
    if not value.strip():
        raise BadQuery(f"{name}= says nothing; give it a value or leave it out")
    if not value.isprintable():
        raise BadQuery(f"{name}={value!r:.80} has control characters; write plain text")
    return _CHECKS[found[1] or name](name, value.strip())


def parse_resources(name: str, value: str) -> dict[str, int]:
    """Amounts by class of `CLASS:AMOUNT,…`. Raises BadQuery."""
    found: dict[str, int] = {}
    for part in value.split(","):
        resource_class, colon, amount = part.partition(":")
        if not colon or not CLASS_NAME.fullmatch(resource_class):
            raise BadQuery(f"{name}: {part!r:.80} is not CLASS:AMOUNT, as in VCPU:1 or MEMORY_MB:256")
        if not re.fullmatch(r"[0-9]{1,12}", amount) or not 0 < int(amount) <= MAX_AMOUNT:
            raise BadQuery(f"{name}: {part!r:.80}: the amount must be a whole number from 1 to {MAX_AMOUNT}")
        if resource_class in found:
            raise BadQuery(f"{name}: {resource_class} is named twice")
        found[resource_class] = int(amount)
    return found


def check_trait(word: str, where: str = "trait") -> str:
    """A trait's name. Raises BadQuery."""
    if not TRAIT_NAME.fullmatch(word):
        raise BadQuery(f"{where}: {word!r:.80} is no trait: capital letters, digits and '_', as in HW_CPU_X86_AVX2")
    return word


def check_groups(parameters: Parameters) -> None:
    """Whether the parameters of a completed query go together. Raises BadQuery."""
    resources, others = _suffixes(parameters, "resources"), set[str]()
    subtrees = {suffix for name, value in parameters if name == "same_subtree" for suffix in value.split(",")}
    for word in ("required", "member_of", "in_tree"):
        suffixes = _suffixes(parameters, word)
        for suffix in sorted(suffixes - resources - subtrees):
            raise BadQuery(f"{word}{suffix}= is said of no resources; ask for some in resources{suffix}=")
        others |= suffixes
    groups = (resources | others) - {""}
    for suffix in sorted(subtrees - groups):
        hint = nearest(suffix, groups) if groups else "; the query has no groups"
        raise BadQuery(f"same_subtree: there is no group {suffix!r:.80}{hint}")
    if len(groups) > 1 and not any(name == "group_policy" for name, _ in parameters):
        raise BadQuery("several groups need group_policy=none (they may share a provider) or group_policy=isolate")
    _check_counts(parameters)
    _check_opposites(parameters)


def wanted_traits(parameters: Parameters) -> set[str]:
    """The traits that are required alone and, with `!`, forbidden, of what is not in a group of its own."""
    words = [value for name, value in parameters if name in ("required", "root_required")]
    return {word for value in words if not value.startswith("in:") for word in value.split(",")}


def _check_counts(parameters: Parameters) -> None:
    for name in dict.fromkeys(name for name, _ in parameters):
        count = sum(
            1 if value.startswith("in:") else value.count(",") + 1 for other, value in parameters if other == name
        )
        if count > MAX_TERMS:
            raise BadQuery(f"{name}: {count} are over the {MAX_TERMS} that a query may have; ask for fewer")


def _check_opposites(parameters: Parameters) -> None:
    for name in dict.fromkeys(name for name, _ in parameters if name.startswith("required")):
        wanted = wanted_traits([("required", value) for other, value in parameters if other == name])
        _check_opposite(name, wanted)
    _check_opposite("root_required", wanted_traits([pair for pair in parameters if pair[0] == "root_required"]))


def _check_opposite(name: str, wanted: set[str]) -> None:
    both = sorted(word for word in wanted if f"!{word}" in wanted)
    if both:
        raise BadQuery(f"{name}: {both[0]} is required and forbidden; say one of them")


def _suffixes(parameters: Parameters, word: str) -> set[str]:
    return {name.removeprefix(word) for name, _ in parameters if name.startswith(word)}


def _resources(name: str, value: str) -> str:
    parse_resources(name, value)
    return value


def _traits(name: str, value: str) -> str:
    """`A,!B` (all of these) or, but for the root's, `in:A,B` (one of these)."""
    kind = "in:" if value.startswith("in:") and name != "root_required" else ""
    words = [word.strip() for word in value.removeprefix(kind).split(",")]
    for word in words:
        check_trait(word if kind else word.removeprefix("!"), name)
    return kind + ",".join(words)


def _aggregates(name: str, value: str) -> str:
    form = re.match(r"!?(in:)?", value)
    kind = form[0] if form else ""
    words = value[len(kind) :].split(",") if kind.endswith("in:") else [value[len(kind) :]]
    return kind + ",".join(_uuid(name, word) for word in words)


def _uuid(name: str, value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError as problem:
        raise BadQuery(f"{name}: {value!r:.80} is no UUID, as in 7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10") from problem


def _policy(name: str, value: str) -> str:
    if value not in POLICIES:
        raise BadQuery(f"{name}={value!r:.80} is neither 'none' nor 'isolate'")
    return value


def _limit(_name: str, value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise BadQuery(f"limit={value:.20} is no whole number above 0")
    return value


def _subtree(name: str, value: str) -> str:
    words = [word.strip() for word in value.split(",")]
    if not all(words):
        raise BadQuery(f"{name}: {value!r:.80} has an empty group; write same_subtree=_A,_B")
    return ",".join(words)


_CHECKS: Mapping[str, Callable[[str, str], str]] = {
    "resources": _resources,
    "required": _traits,
    "root_required": _traits,
    "member_of": _aggregates,
    "in_tree": _uuid,
    "group_policy": _policy,
    "limit": _limit,
    "same_subtree": _subtree,
}
