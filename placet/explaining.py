"""Finding out why a request fits nowhere: from Placement node by node, or, where there are many, from what the nodes
report of themselves. After step 1 of a request's way; it decides nothing (placet/reasons.py does) and writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from placet import keys
from placet.conditions import Condition, conditions_of
from placet.digests import Digest, digest_of
from placet.errors import PlacetError, Refused
from placet.model import BadRecord, Zone, decode
from placet.node_facts import DOWN, DRAINED, SHUTTING_DOWN, UP, Elsewhere, Lack, NodeFacts
from placet.node_records import Identity
from placet.placement import Placement, Provider
from placet.query import DISABLED_TRAIT
from placet.reasons import all_lacks, fallen, hint, worth_asking
from placet.registration import PROVIDER_PREFIX
from placet.request import Request
from placet.resources import Inventory
from placet.schema import changed
from placet.store import Entry, Get, Store

MAX_ASKED = 40  # three exchanges each
MAX_ASKED_OF_MANY = 20  # those whose report comes nearest: what is suggested is to be certain
READ_AT_ONCE = 100
NO_NODES = "no node has registered yet: start compute.py on one"


class Bounds(Protocol):
    """Where the user lets a request go: `only` there, if that is set, and not to the nodes in `never`."""

    @property
    def only(self) -> str | None: ...

    @property
    def never(self) -> Container[str]: ...


@dataclass(frozen=True)
class Picture:
    """The nodes of the cloud, and what is asked of each. `known` are those that Placement was asked about: of the
    others, if there are any, the figures are their own. `is_whole` tells that nothing else is asked."""

    nodes: tuple[NodeFacts, ...]
    conditions: tuple[Condition, ...]
    known: tuple[NodeFacts, ...]
    is_whole: bool = True

    @property
    def is_reported(self) -> bool:
        return len(self.known) < len(self.nodes)

    @property
    def told(self) -> str:
        """Why the request fits on none of them, and what would, in one line."""
        if not self.nodes:
            return NO_NODES
        count = f"{len(self.nodes)} node{'s' if len(self.nodes) != 1 else ''}"
        source = ", by the nodes' own reports" if self.is_reported else ""
        reasons = fallen(self.conditions, self.nodes, self.rest)
        text = f"{count}{source}: {reasons}{hint(self.conditions, self.nodes, self.known, self.is_whole)}"
        return "".join(character if character.isprintable() else "?" for character in text)

    @property
    def rest(self) -> str:
        """Why a node that lacks nothing is not among Placement's candidates."""
        if not self.is_whole:
            return "do not match the rest of the query"
        return "have room by their reports, not by Placement" if self.is_reported else "have room by now, ask again"

    def lacks(self, node: NodeFacts) -> list[Lack]:
        """All that a node that does not fit lacks."""
        return all_lacks(self.conditions, node) or [Lack(self.rest)]


def explain(placement: Placement, store: Store, request: Request, bounds: Bounds) -> str:
    """Why a request fits nowhere, in one line. It never raises: that nothing fits is known without it."""
    try:
        return look(placement, store, request, bounds).told
    except PlacetError as problem:
        return f"nothing fits {request.query.text}; why, could not be found out: {problem}"


def look(placement: Placement, store: Store, request: Request, bounds: Bounds, only: str | None = None) -> Picture:
    """The nodes and what decides about them; with `only`, that node. Raises Unreachable, Refused."""
    found = placement.providers()
    entries = store.scan(keys.ALIVE).entries
    nodes = _nodes(store, found, {keys.last(entry.key): digest_of(entry) for entry in entries}, only)
    elsewhere = _elsewhere(placement, [each for each in found if not _is_node(each)])
    conditions, is_whole = conditions_of(request.query, _flags(request), _zones(store, request), elsewhere)
    within = _within(placement, request)
    names = {node.uuid: node.name for node in nodes}
    nodes = [
        changed(
            node,
            within=frozenset(value for value, members in within.items() if node.uuid in members),
            kept_out=_kept_out(request, bounds, names, node),
        )
        for node in nodes
    ]
    if len(nodes) <= MAX_ASKED:
        known = _asked(placement, nodes)
        return Picture(known, tuple(conditions), known, is_whole)
    known = _asked(placement, worth_asking(conditions, nodes, MAX_ASKED_OF_MANY))
    surely = {node.uuid: node for node in known}
    return Picture(tuple(surely.get(node.uuid, node) for node in nodes), tuple(conditions), known, is_whole)


def _nodes(
    store: Store, providers: Iterable[Provider], alive: Mapping[str, Digest], only: str | None
) -> list[NodeFacts]:
    """This cloud's nodes as etcd knows them, with what they report; a provider that etcd knows nothing of is another
    cloud's, or doctor's to tell of."""
    closed = {keys.last(entry.key) for entry in store.scan(keys.CLOSED).entries}
    ours = [each.uuid for each in providers if _is_node(each) and only in (None, each.uuid)]
    names = _names(store, [node for node in ours if node not in alive])
    nodes = []
    for node in ours:
        if digest := alive.get(node):
            state = DRAINED if node in closed else UP
            offers = {name: Inventory(capacity) for name, capacity in digest.capacity.items()}
            nodes.append(NodeFacts(node, digest.name, state, offers, digest.used, digest.traits))
        elif node in names:
            nodes.append(NodeFacts(node, names[node], DOWN))
    return nodes


def _is_node(provider: Provider) -> bool:
    return provider.name.startswith(PROVIDER_PREFIX) and provider.parent is None


def _names(store: Store, nodes: list[str]) -> dict[str, str]:
    """The names of those nodes that etcd knows."""
    found = {}
    for start in range(0, len(nodes), READ_AT_ONCE):
        some = nodes[start : start + READ_AT_ONCE]
        for node, read in zip(some, store.read(*(Get(keys.identity(node)) for node in some)), strict=True):
            if read.entry is not None:
                found[node] = _name(node, read.entry)
    return found


def _name(node: str, identity: Entry) -> str:
    try:
        return decode(Identity, identity.value, identity.key).name
    except BadRecord:
        return node


def _asked(placement: Placement, nodes: Iterable[NodeFacts]) -> tuple[NodeFacts, ...]:
    """The same nodes as Placement knows them; one that was forgotten meanwhile is left out."""
    found = []
    for node in nodes:
        try:
            offers, _ = placement.inventories(node.uuid)
            traits, _ = placement.traits(node.uuid)
            used = placement.usages(node.uuid)
        except Refused:
            continue
        state = SHUTTING_DOWN if DISABLED_TRAIT in traits and node.state in (UP, DRAINED) else node.state
        found.append(changed(node, state=state, offers=offers, used=used, traits=traits))
    return tuple(found)


def _elsewhere(placement: Placement, others: list[Provider]) -> Elsewhere:
    """What there is beside the nodes' own; the first of many speak for all: they are of few kinds."""
    asked = _asked(placement, [NodeFacts(each.uuid, each.name) for each in others[:MAX_ASKED]])
    return Elsewhere(
        frozenset(each.uuid for each in others),
        frozenset(name for each in asked for name in each.offers or ()),
        frozenset(trait for each in asked for trait in each.traits),
    )


def _within(placement: Placement, request: Request) -> dict[str, frozenset[str]]:
    """The providers for which each value of `member_of` holds."""
    values = [value for name, value in request.query.parameters if name == "member_of"]
    return {value: frozenset(each.uuid for each in placement.providers(member_of=value)) for value in values}


def _zones(store: Store, request: Request) -> dict[str, str]:
    """The names of aggregates, if the request speaks of any."""
    if not any(name == "member_of" for name, _ in request.query.parameters):
        return {}
    names = {}
    for entry in store.scan(keys.ZONES).entries:
        with contextlib.suppress(BadRecord):
            zone = decode(Zone, entry.value, entry.key)
            names[zone.aggregate] = zone.name
    return names


def _flags(request: Request) -> tuple[str, ...]:
    given = {"--host": request.host, "--avoid": request.avoid, "--group": request.group}
    return tuple(flag for flag, value in given.items() if value)


def _kept_out(request: Request, bounds: Bounds, names: Mapping[str, str], node: NodeFacts) -> tuple[str, ...]:
    """The flags that exclude a node, each with what it says."""
    words = []
    if request.host not in (None, node.uuid):
        words.append(f"--host {names.get(str(request.host), request.host)}")
    if node.uuid in request.avoid:
        words.append(f"--avoid {node.name}")
    by_group = bounds.only not in (None, request.host, node.uuid) or node.uuid in bounds.never
    if request.group and by_group and node.uuid not in request.avoid:
        words.append(f"--group {request.group}")
    return tuple(words)
