"""The verbs of nodes: nodes, drain, undrain; node drain, node undrain, node forget."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from typing import Any

from placet import keys, wiring
from placet.cli import output
from placet.config import ScheduleConfig, load_schedule
from placet.errors import PlacetError
from placet.model import decode, is_uuid
from placet.node_records import Alive, Identity, Seen
from placet.specs import held_by
from placet.store import Entry, Store

COLUMNS = ("name", "uuid", "state", "since", "instances", "vcpu", "memory_mb", "disk_gb")
FIELDS = ("uuid", "name", *COLUMNS[2:4], "since_at", *COLUMNS[4:], "address", "virt_type", "hypervisor")


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    nodes = verbs.add_parser(
        "nodes",
        help="list the nodes: used/capacity, alive or since when not",
        description="List the nodes. States: up; drained (up, and takes nothing new); stopped (its agent was ended); "
        "down (silent); orphan (Placement has it, etcd does not: see doctor).",
    )
    output.add_format(nodes)
    nodes.set_defaults(verb=_nodes)
    node = verbs.add_parser("node", help="drain, undrain or forget a node", description="Change the use of a node.")
    doings = node.add_subparsers(metavar="DOING", required=True, parser_class=type(node))
    for parsers, word, doing, tells in (
        (verbs, "drain", _drain, "place nothing new on a node; what runs goes on"),
        (verbs, "undrain", _undrain, "take a node into use again"),
        (doings, "drain", _drain, "place nothing new there; what runs goes on"),
        (doings, "undrain", _undrain, "take it into use again"),
        (doings, "forget", _forget, "remove one that is lost from Placement and etcd"),
    ):
        parser = parsers.add_parser(word, help=tells, description=f"{word}: {tells}")
        parser.add_argument("node", metavar="NODE", help="its name or UUID")
        parser.set_defaults(verb=doing)


def _nodes(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    rows = _rows(wiring.store(config))
    rows += _unknown(config, {row["uuid"] for row in rows})
    output.show_rows(rows, COLUMNS, arguments)
    return 0


def _drain(arguments: argparse.Namespace) -> int:
    store = wiring.store(load_schedule(arguments.config))
    nodes = wiring.nodes(store)
    if not nodes.drain(nodes.find(arguments.node), "schedule.py"):
        print(f"{arguments.node} was drained already", file=sys.stderr)
    return 0


def _undrain(arguments: argparse.Namespace) -> int:
    store = wiring.store(load_schedule(arguments.config))
    nodes = wiring.nodes(store)
    if not nodes.undrain(nodes.find(arguments.node)):
        print(f"{arguments.node} was not drained", file=sys.stderr)
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    nodes = wiring.nodes(store)
    placement, claims = wiring.placement(config, store)
    is_provider = is_uuid(arguments.node) and placement.provider(arguments.node) is not None
    node = arguments.node if is_provider else nodes.find(arguments.node)
    nodes.forget(node, placement, claims)
    return 0


def _rows(store: Store) -> list[dict[str, Any]]:
    alive = {keys.last(e.key): decode(Alive, e.value, e.key) for e in store.scan(keys.ALIVE).entries}
    closed = {keys.last(entry.key) for entry in store.scan(keys.CLOSED).entries}
    below = {entry.key: entry for entry in store.scan(keys.NODES).entries}
    identities = {node: e for e in below.values() if e.key == keys.identity(node := keys.node_of(e.key))}
    specs = defaultdict(list)
    for entry in below.values():
        if entry.key.startswith(keys.specs(keys.node_of(entry.key))):
            specs[keys.node_of(entry.key)].append(entry)
    rows = []
    for node, entry in identities.items():
        row = _row(node, entry, alive.get(node), below.get(keys.seen(node)), node in closed)
        rows.append({**row, **_use(alive.get(node), specs[node]), "instances": len(specs[node])})
    return sorted(rows, key=lambda row: str(row["name"]))


def _row(node: str, identity: Entry, alive: Alive | None, seen: Entry | None, closed: bool) -> dict[str, Any]:
    last_seen = decode(Seen, seen.value, seen.key) if seen else None
    since = alive.started_at if alive else last_seen.at if last_seen else None
    stopped = last_seen is not None and last_seen.stopped
    state = ("drained" if closed else "up") if alive else "stopped" if stopped else "down"
    return {
        "uuid": node,
        "name": alive.name if alive else decode(Identity, identity.value, identity.key).name,
        "state": state,
        "since": output.age(time.time() - since) if since else None,
        "since_at": output.iso(since),
        "instances": 0,
        **_use(alive, []),
        "address": alive.address if alive else None,
        "virt_type": alive.virt_type if alive else None,
        "hypervisor": alive.hypervisor if alive else None,
    }


def _unknown(config: ScheduleConfig, known: set[str]) -> list[dict[str, Any]]:
    """Providers that nobody serves and that hold nothing: what is left of nodes that etcd knows nothing of."""
    from placet.placement import Placement
    from placet.registration import PROVIDER_PREFIX

    try:
        placement = Placement(config.placement)
        orphans = [
            found.uuid
            for found in placement.providers()
            if found.name.startswith(PROVIDER_PREFIX) and found.parent is None and found.uuid not in known
            if not placement.provider_allocations(found.uuid)
        ]
    except PlacetError as problem:
        print(f"schedule.py: {problem}; providers without a node are not shown", file=sys.stderr)
        return []
    return [{**dict.fromkeys(FIELDS), "uuid": uuid, "state": "orphan", "instances": 0} for uuid in orphans]


def _use(alive: Alive | None, specs: list[Entry]) -> dict[str, str | None]:
    """What the specs hold there of what it offers, as of now; `alive` itself tells it later."""
    used, capacity = held_by(specs), alive.capacity if alive else {}
    amounts = {name: f"{used.get(name, 0)}/{capacity.get(name, 0)}" for name in ("VCPU", "MEMORY_MB", "DISK_GB")}
    return {name.lower(): amount if alive else None for name, amount in amounts.items()}
