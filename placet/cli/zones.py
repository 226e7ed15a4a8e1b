"""The verbs of zones: zone add, remove, list."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from placet import wiring
from placet.cli import output
from placet.config import load_schedule
from placet.request import check_name

if TYPE_CHECKING:
    from placet.zones import Zones, ZoneView

COLUMNS = ("name", "nodes", "up", "members")


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    zone = verbs.add_parser(
        "zone",
        help="add nodes to a zone, remove them, list zones",
        description="Zones: names for groups of nodes, for `create --zone ZONE`. Each is an aggregate of Placement's.",
    )
    doings = zone.add_subparsers(metavar="DOING", required=True, parser_class=type(zone))
    add = doings.add_parser(
        "add",
        help="have nodes be in a zone, which is made if it is new",
        description="Have nodes be in a zone, which is made if it is new. A node may be in several. A shared pool (a "
        "provider of Placement's, by name or UUID) must be in the zone as well for its nodes to use it there.",
    )
    remove = doings.add_parser(
        "remove",
        help="take nodes out of a zone, or all of them",
        description="Take nodes out of a zone, all of them if none is named. A zone without nodes is gone.",
    )
    for parser, doing, many in ((add, _add, "+"), (remove, _remove, "*")):
        parser.add_argument("zone", metavar="ZONE", help="small letters, digits and '-'")
        parser.add_argument("node", metavar="NODE", nargs=many, help="its name or UUID")
        parser.set_defaults(verb=doing)
    listing = doings.add_parser("list", help="list the zones", description="List the zones with their nodes.")
    output.add_format(listing)
    listing.set_defaults(verb=_list)


def _add(arguments: argparse.Namespace) -> int:
    name, zones = check_name(arguments.zone), _zones(arguments)
    zones.add(name, dict.fromkeys(zones.member(word) for word in arguments.node))
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    zones = _zones(arguments)
    members = {zones.member(word): word for word in arguments.node}
    gone = zones.remove(arguments.zone, members)
    for member in members.keys() - set(gone):
        print(f"{members[member]} was not in zone {arguments.zone}", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    rows = [_row(found) for found in _zones(arguments).all()]
    if not rows and arguments.format == "table":
        print("no zones; add one with: schedule.py zone add ZONE NODE", file=sys.stderr)
    output.show_rows(rows, COLUMNS, arguments)
    return 0


def _zones(arguments: argparse.Namespace) -> Zones:
    config = load_schedule(arguments.config)
    return wiring.zones(config, wiring.store(config))


def _row(found: ZoneView) -> dict[str, Any]:
    return {
        "name": found.zone.name,
        "nodes": len(found.members),
        "up": len(found.up),
        "members": sorted(found.members.values()),
        "uuids": sorted(found.members),
        "aggregate": found.zone.aggregate,
        "created_at": output.iso(found.zone.created_at),
    }
