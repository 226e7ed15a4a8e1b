"""The flags that say where an instance may go; create, and whatever shows where it would go, take them alike."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from placet import keys, wiring
from placet.errors import NotFound, Usage
from placet.model import Zone, decode
from placet.policies import GROUP_POLICIES
from placet.query import Query, in_aggregate, with_traits
from placet.query_words import check_trait
from placet.request import check_name
from placet.schema import similar

if TYPE_CHECKING:
    from placet.store import Store


@dataclass(frozen=True)
class Placing:
    """What a Request needs of these flags: its fields of the same names; `query` is complete with zone and traits.
    Nodes are UUIDs."""

    query: Query
    group: str | None = None
    group_policy: str | None = None
    host: str | None = None
    avoid: tuple[str, ...] = ()


def add_placing(group: Any) -> None:
    """Tell argparse of the flags."""
    group.add_argument("--host", metavar="NODE", help="only there: a node's name or UUID")
    group.add_argument("--avoid", action="append", default=[], metavar="NODE", help="not there; repeatable")
    group.add_argument("--zone", metavar="ZONE", help="only on nodes of this zone (see: zone list)")
    group.add_argument("--trait", action="append", default=[], metavar="T", help="a node that has it; repeatable")
    group.add_argument("--not-trait", action="append", default=[], metavar="T", help="one that lacks it; repeatable")
    group.add_argument("--group", metavar="NAME", help="one of a group that is placed together, or apart")
    group.add_argument(
        "--policy",
        choices=GROUP_POLICIES,
        help="how the group is placed, which its first member says: never on one node (anti-affinity), all on one "
        "(affinity), or that as far as there is room (soft-…)",
    )


def read_placing(arguments: argparse.Namespace, store: Store, query: Query) -> Placing:
    """What the flags ask for. Raises Usage."""
    _check(arguments)
    host = _node(store, "host", arguments.host) if arguments.host is not None else None
    avoid = tuple(dict.fromkeys(_node(store, "avoid", word) for word in arguments.avoid))
    if host is not None and host in avoid:
        raise Usage(f"--host {arguments.host} is a node to --avoid as well; say one of them")
    if arguments.trait or arguments.not_trait:
        query = with_traits(query, arguments.trait, arguments.not_trait)
    if arguments.zone is not None:
        query = in_aggregate(query, _aggregate(store, arguments.zone))
    return Placing(query, arguments.group, arguments.policy, host, avoid)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.group is not None:
        check_name(arguments.group)
    elif arguments.policy is not None:
        raise Usage("--policy is a group's; say --group NAME as well")
    for flag in ("trait", "not_trait"):
        for word in getattr(arguments, flag):
            check_trait(word, f"--{flag.replace('_', '-')}")
    both = sorted(set(arguments.trait) & set(arguments.not_trait))
    if both:
        raise Usage(f"--trait {both[0]} contradicts --not-trait {both[0]}; say one of them")


def _node(store: Store, flag: str, word: str) -> str:
    try:
        return wiring.nodes(store).find_alive(word)
    except NotFound as problem:
        raise Usage(f"--{flag}: {problem}") from problem


def _aggregate(store: Store, word: str) -> str:
    entry = store.get(keys.zone(word))
    if entry is None:
        known = [keys.last(each.key) for each in store.scan(keys.ZONES).entries]
        raise Usage(f"no zone {word!r}{similar(word, known)}; `schedule.py zone list` shows what there is")
    return decode(Zone, entry.value, entry.key).aggregate
