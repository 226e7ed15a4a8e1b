"""What placing would come to: the verbs explain and fits, and create's --dry-run. Nothing is claimed or written.

JSON and YAML have a row for each node, with `free` as {class: amount}; in the other formats each class is a column.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from placet import keys, wiring
from placet.cli import output
from placet.cli.placing import add_placing, read_placing
from placet.cli.words import count
from placet.config import ScheduleConfig, load_schedule
from placet.errors import NotFound, NothingFits, Usage
from placet.image_requirements import query_for_image
from placet.model import ImageRecord, decode
from placet.request import Request, resolve_image

if TYPE_CHECKING:
    from placet.previewing import Judged, Place, Previews
    from placet.store import Store

ALL = "(all)"
NESTED = ("json", "yaml")


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    explain = verbs.add_parser(
        "explain",
        help="say of each node whether a request fits there, and if not, why",
        description="Say of each node whether a request fits there, what is free of what it asks for, and all that is "
        "lacking. Exit code 0 if it fits somewhere, 3 if nowhere. Beyond 100 nodes the figures are those that the "
        "nodes report of themselves; whether it fits is always Placement's word.",
    )
    _add_request(explain)
    explain.add_argument("--node", metavar="NODE", help="only this one: its name or UUID")
    output.add_format(explain)
    explain.set_defaults(verb=_explain)
    fits = verbs.add_parser(
        "fits",
        help="count how many more such instances fit, and what runs out first",
        description="Count how many more such instances fit: on each node if all went there, and in all; and which "
        "resource then runs out. Exit code 0, or 3 when none fits, or fewer than --count.",
    )
    _add_request(fits)
    fits.add_argument("--count", type=count, default=1, metavar="N", help="exit with 3 unless so many fit (default: 1)")
    output.add_format(fits)
    fits.set_defaults(verb=_fits)


def _add_request(parser: Any) -> None:
    parser.add_argument("query", metavar="QUERY", help="as for create: resources=VCPU:1,MEMORY_MB:256,DISK_GB:1&…")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="what it requires of a node is asked for, too")
    add_placing(parser.add_argument_group("where it may go (docs/scheduling.md)"))


def add_dry_run(create: Any) -> None:
    """Tell argparse of what create takes besides."""
    group = create.add_argument_group("only looking")
    group.add_argument(
        "--dry-run", action="store_true", help="show where it would go and what else is close; claim and write nothing"
    )
    output.add_format(group)


def check_dry_run(arguments: argparse.Namespace) -> None:
    """Raises Usage for words that do not go together."""
    if not arguments.dry_run:
        if arguments.format != "table" or arguments.column:
            raise Usage("-f and -c say how --dry-run shows its rows; without it create prints one line")
        return
    if arguments.count > 1:
        raise Usage("--dry-run looks at one instance; `schedule.py fits` says how many fit")
    if arguments.wait or arguments.wait_for:
        raise Usage("--dry-run places nothing that could be waited for")


def dry_run(arguments: argparse.Namespace, config: ScheduleConfig, store: Store, request: Request) -> int:
    """Show the best places for a request, the best first. Raises NothingFits, after saying so on stdout."""
    try:
        places, in_all = _previews(config, store).places(request)
    except NothingFits:
        print("[]" if arguments.format in NESTED else "NO ALLOCATIONS LEFT", flush=True)
        raise
    classes = list(request.query.amounts)
    rows = [_place_row(place, arguments.format) for place in places]
    output.show_rows(rows, ["node", "left", *map(str.lower, classes)], arguments)
    if arguments.format == "table":
        print(f"it would go to {output.clean(_told(places, in_all))}; nothing was claimed", file=sys.stderr)
    return 0


def _told(places: list[Place], in_all: int) -> str:
    if in_all == 1:
        return f"{places[0].name}, the only node where it fits"
    best = f"{places[0].name}, the best of {in_all} nodes where it fits"
    return best if len(places) == in_all else f"{best}, or to one nearly as good: a random sample is looked at first"


def _explain(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    request = _request(arguments, config, store)
    node = wiring.nodes(store).find_alive(arguments.node) if arguments.node else None
    judged, picture = _previews(config, store).judge(request, node)
    if node is not None and not judged:
        raise NotFound(f"node {arguments.node} is not in Placement: start its agent, or see `schedule.py doctor`")
    classes = list(request.query.amounts)
    rows = [_judged_row(each, classes, arguments.format) for each in judged]
    output.show_rows(rows, ["node", "fits", *map(str.lower, classes), "reason"], arguments)
    if not any(each.fits for each in judged):
        raise NothingFits(picture.told)
    if picture.is_reported and arguments.format == "table":
        print("the figures are those that the nodes report of themselves", file=sys.stderr)
    return 0


def _fits(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    request = _request(arguments, config, store)
    nested = arguments.format in NESTED
    try:
        found = _previews(config, store).fits(request)
    except NothingFits:
        output.show_rows([_fits_row(None if nested else ALL, None, 0, (), nested)], FITS_COLUMNS, arguments)
        raise
    rows = [_fits_row(found.names[room.node], room.node, room.count, room.runs_out, nested) for room in found.rooms]
    rows.append(_fits_row(None if nested else ALL, None, found.total, (), nested))
    output.show_rows(rows, FITS_COLUMNS, arguments)
    if found.total < arguments.count:
        raise NothingFits(f"{found.total} of {arguments.count} fit")
    return 0


FITS_COLUMNS = ("node", "fits", "runs_out")


def _previews(config: ScheduleConfig, store: Store) -> Previews:
    from placet.previewing import Previews

    try:
        placement, _ = wiring.placement(config, store)
    except NotFound as problem:
        raise NothingFits(str(problem)) from problem
    return Previews(store, placement, wiring.new_random(), config.policy, time.time)


def _request(arguments: argparse.Namespace, config: ScheduleConfig, store: Store) -> Request:
    """What create would ask for with the same words, as far as it matters for where it fits."""
    word = arguments.image or config.defaults.image
    entry = None if "/" in word else store.get(keys.image(word))
    record = decode(ImageRecord, entry.value, entry.key) if entry else None
    placing = read_placing(arguments, store, query_for_image(arguments.query, config.defaults.amounts, record))
    return Request(
        instance="",
        request_id="",
        name="",
        query=placing.query,
        image=resolve_image(word if arguments.image else "/", record, placing.query),
        project=config.project,
        group=placing.group,
        group_policy=placing.group_policy,
        host=placing.host,
        avoid=placing.avoid,
    )


def _place_row(place: Place, form: str) -> dict[str, Any]:
    left = round(place.left, 4) if form in NESTED else f"{place.left:.0%}"
    return {"node": place.name, "uuid": place.node, "left": left, **_free(place.free, form)}


def _judged_row(judged: Judged, classes: list[str], form: str) -> dict[str, Any]:
    node, nested = judged.node, form in NESTED
    free = {name: node.free(name) if node.offers is not None else None for name in classes}
    return {
        "node": node.name,
        "uuid": node.uuid,
        "state": node.state,
        "fits": judged.fits if nested else "yes" if judged.fits else "no",
        **_free(free, form),
        **_reasons(judged, nested),
    }


def _reasons(judged: Judged, nested: bool) -> dict[str, Any]:
    """In a table without what its columns show."""
    if nested:
        return {"reasons": [lack.alone for lack in judged.lacks]}
    from placet.node_facts import FREE

    words = [lack.brief if lack.measure == FREE else lack.alone for lack in judged.lacks]
    return {"reason": "; ".join(words) or None}


def _fits_row(node: str | None, uuid: str | None, fit: int, runs_out: tuple[str, ...], nested: bool) -> dict[str, Any]:
    return {
        "node": node,
        "uuid": uuid,
        "fits": fit,
        "runs_out": list(runs_out) if nested else ", ".join(runs_out) or None,
    }


def _free(free: Mapping[str, int | None], form: str) -> dict[str, Any]:
    return {"free": dict(free)} if form in NESTED else {name.lower(): amount for name, amount in free.items()}
