"""Why a request fits nowhere, and the smallest change by which it would fit. Pure.

Both follow from the same conditions and facts: a change that is named, once made, lets at least one node meet them all.
"""

from __future__ import annotations

from collections.abc import Sequence

from placet.conditions import Change, Condition, IsOpen, NotKeptOut
from placet.node_facts import Lack, NodeFacts

MAX_ALTERNATIVES = 3
ASKED_ALIKE = 5


def fallen(conditions: Sequence[Condition], nodes: Sequence[NodeFacts], rest: str) -> str:
    """How many nodes fell for which reason, most first; each counts once, for the first condition that it lacks.
    `rest` is said of those that lack nothing and yet are not among Placement's candidates."""
    groups: dict[str, list[Lack]] = {}
    for node in nodes:
        lack = next((found for each in conditions if (found := each.lack(node))), Lack(rest))
        groups.setdefault(lack.what, []).append(lack)
    counted = sorted(groups.values(), key=len, reverse=True)
    return "; ".join(f"{len(lacks)} {lacks[0].among([lack.figure for lack in lacks])}" for lacks in counted)


def all_lacks(conditions: Sequence[Condition], node: NodeFacts) -> list[Lack]:
    """All that one node lacks."""
    return [lack for condition in conditions if (lack := condition.lack(node))]


def smallest_changes(conditions: Sequence[Condition], nodes: Sequence[NodeFacts]) -> list[tuple[Change, ...]]:
    """Alternatives, the smallest change first: of one thing each wherever that is enough for some node, else the fewest
    things together. Empty when nothing that could be changed helps."""
    ways = [way for node in nodes if (way := _way(conditions, node))]
    single: dict[Condition, Change] = {}
    for (change,) in (way for way in ways if len(way) == 1):
        known = single.get(change.condition)
        if known is None or change.size < known.size:
            single[change.condition] = change
    if single:
        return [(change,) for change in sorted(single.values(), key=lambda change: change.size)]
    return [min(ways, key=lambda way: (len(way), _size(way)))] if ways else []


def worth_asking(conditions: Sequence[Condition], nodes: Sequence[NodeFacts], most: int) -> list[NodeFacts]:
    """Up to `most` of many nodes, of which only what they report is known: those that lack nothing, and of those that
    lack the same and could be helped the ones that come nearest."""
    alike: dict[tuple[Condition, ...], list[tuple[float, NodeFacts]]] = {}
    for node in nodes:
        lacking = tuple(condition for condition in conditions if condition.lack(node))
        way = _way(conditions, node)
        if way or not lacking:
            alike.setdefault(lacking, []).append((_size(way), node))
    nearest = [sorted(alike[lacking], key=lambda found: found[0])[:ASKED_ALIKE] for lacking in sorted(alike, key=len)]
    return [node for found in nearest for _, node in found][:most]


def hint(
    conditions: Sequence[Condition], nodes: Sequence[NodeFacts], known: Sequence[NodeFacts], is_whole: bool = True
) -> str:
    """What follows after the reasons: nothing, or from "; " on. Changes are taken from the nodes that are `known` for
    certain; they may not be enough where the conditions are not the whole of what is asked."""
    apart = "; each of these is there, but no node has all of them" if fit_apart(conditions, nodes) else ""
    found = smallest_changes(conditions, known)[:MAX_ALTERNATIVES]
    told = ", or ".join(" and ".join(change.words for change in way) for way in found)
    return f"{apart}; {'fits' if is_whole else 'may fit'} {told}" if told else apart


def fit_apart(conditions: Sequence[Condition], nodes: Sequence[NodeFacts]) -> bool:
    """Whether two or more things are lacking, and each of them is there on some node that may be used."""
    wanted = [condition for condition in conditions if not isinstance(condition, (IsOpen, NotKeptOut))]
    gates = [condition for condition in conditions if isinstance(condition, (IsOpen, NotKeptOut))]
    able = [node for node in nodes if not all_lacks(gates, node)]
    lacking = [condition for condition in wanted if any(condition.lack(node) for node in able)]
    return len(lacking) > 1 and all(any(not condition.lack(node) for node in able) for condition in lacking)


def _way(conditions: Sequence[Condition], node: NodeFacts) -> tuple[Change, ...]:
    """The changes by which a node would meet everything; none when it does, or when some lack can't be helped."""
    changes = [condition.change(node) for condition in conditions if condition.lack(node)]
    return tuple(change for change in changes if change) if all(changes) else ()


def _size(way: Sequence[Change]) -> float:
    return sum(change.size for change in way)
