"""The verbs of images: image add, list, show, remove, warm."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from placet import wiring
from placet.cli import output
from placet.config import load_schedule
from placet.errors import PlacetError, Usage
from placet.guest_inputs import parse_properties
from placet.image_checks import FORMATS, check_checksum, check_properties, check_source
from placet.model import ImageRecord
from placet.request import check_name

if TYPE_CHECKING:
    from placet.image_records import Brought, ImageRecords

COLUMNS = ("name", "format", "disk", "download", "min_memory_mb", "digest", "age")
DIGEST_SHOWN = len("sha256:") + 12


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    image = verbs.add_parser(
        "image", help="add, list, show, remove or warm images", description="Images by name, and what nodes have."
    )
    doings = image.add_subparsers(metavar="DOING", required=True, parser_class=type(image))
    _add_add(doings)
    listing = doings.add_parser("list", help="list the images", description="List the images.")
    output.add_format(listing)
    listing.set_defaults(verb=_list)
    show = _add_named(doings, "show", _show, "show all that is known of an image")
    output.add_format(show)
    _add_named(doings, "remove", _remove, "forget an image; instances made of it go on")
    warm = _add_named(doings, "warm", _warm, "have nodes fetch an image before anybody needs it")
    warm.add_argument("--node", action="append", metavar="NODE", help="this one; can be repeated (default: all alive)")
    output.add_format(warm)


def _add_named(doings: Any, word: str, doing: Any, tells: str) -> Any:
    parser = doings.add_parser(word, help=tells, description=f"{word}: {tells}")
    parser.add_argument("name", metavar="NAME", help="the image's name")
    parser.set_defaults(verb=doing)
    return parser


def _add_add(doings: Any) -> None:
    add = doings.add_parser(
        "add",
        help="give an image a name, once a node has fetched and inspected it",
        description="Have a node fetch an image and inspect it; record its name, digest and sizes. docs/images.md says "
        "what an image may be, and which properties mean something.",
    )
    add.add_argument("name", metavar="NAME", help="small letters, digits and '-'")
    add.add_argument("source", metavar="URL|NODEPATH", help="a URL, or a path on the nodes, below their image_dirs")
    add.add_argument("--checksum", metavar="sha256:HEX", help="of the file as it is fetched; another is refused")
    add.add_argument("--format", dest="image_format", choices=FORMATS, help="what it must be (default: what it is)")
    add.add_argument("--property", action="append", default=[], metavar="K=V", help="a word about it; can be repeated")
    add.add_argument("--min-memory-mb", type=int, default=0, metavar="N", help="what an instance of it must have")
    add.add_argument("--node", metavar="NODE", help="the node that fetches it (default: one that is alive)")
    add.add_argument("--no-fetch", action="store_true", help="record it as it is said to be; nobody looks at it")
    add.set_defaults(verb=_add)


def _add(arguments: argparse.Namespace) -> int:
    wanted = _wanted(arguments)
    store = wiring.store(load_schedule(arguments.config))
    images = wiring.images(store)
    if arguments.no_fetch:
        images.record(wanted)
        return 0
    node = wiring.nodes(store).find(arguments.node) if arguments.node else None
    with output.progress() as tell:
        images.add(wanted, node, lambda name, report: tell(f"node {name}: {report.task}"))
    return 0


def _wanted(arguments: argparse.Namespace) -> ImageRecord:
    if arguments.no_fetch and arguments.node:
        raise Usage("--node says who fetches it, and --no-fetch that nobody does; give one of them")
    if arguments.min_memory_mb < 0:
        raise Usage(f"--min-memory-mb {arguments.min_memory_mb} is below 0")
    properties = parse_properties(arguments.property)
    check_properties(properties)
    return ImageRecord(
        check_name(arguments.name),
        check_source(arguments.source),
        arguments.image_format,
        check_checksum(arguments.checksum) if arguments.checksum is not None else None,
        min_memory_mb=arguments.min_memory_mb,
        properties=properties,
    )


def _list(arguments: argparse.Namespace) -> int:
    rows = [_row(record) for record in _images(arguments).all()]
    if not rows and arguments.format == "table":
        print("no images; add one with: schedule.py image add NAME URL", file=sys.stderr)
    output.show_rows(rows, COLUMNS, arguments)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    output.show_one(_row(_images(arguments).get(arguments.name)), arguments)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    _images(arguments).remove(arguments.name)
    return 0


def _warm(arguments: argparse.Namespace) -> int:
    store = wiring.store(load_schedule(arguments.config))
    nodes = [wiring.nodes(store).find(word) for word in arguments.node or ()]
    with output.progress() as tell:
        brought = wiring.images(store).warm(
            arguments.name, list(dict.fromkeys(nodes)), lambda name, report: tell(f"node {name}: {report.task}")
        )
    brought.sort(key=lambda each: each.node)
    output.show_rows([_outcome(each) for each in brought], ("node", "image", "reason"), arguments)
    failed = [str(each.problem) for each in brought if each.problem]
    if failed:
        raise PlacetError(f"{len(failed)} of {len(brought)} have not got {arguments.name}: {'; '.join(failed)}")
    return 0


def _outcome(brought: Brought) -> dict[str, Any]:
    report = brought.report
    fault = report.fault.code if report and report.fault else "silent"
    return {
        "node": brought.node,
        "image": "missing" if brought.problem else "here",
        "reason": fault if brought.problem else None,
        "digest": report.digest if report else None,
    }


def _images(arguments: argparse.Namespace) -> ImageRecords:
    return wiring.images(wiring.store(load_schedule(arguments.config)))


def _row(record: ImageRecord) -> dict[str, Any]:
    """Everything about an image; bytes as numbers, and again for people."""
    return {
        "name": record.name,
        "source": record.source,
        "format": record.format,
        "checksum": record.checksum,
        "digest": record.checksum[:DIGEST_SHOWN] if record.checksum else None,
        "virtual_size": record.virtual_size or None,
        "disk": output.size(record.virtual_size),
        "size": record.size or None,
        "download": output.size(record.size),
        "min_disk_gb": record.min_disk_gb,
        "min_memory_mb": record.min_memory_mb,
        "properties": dict(record.properties),
        "created_at": output.iso(record.created_at),
        "age": output.age(time.time() - record.created_at),
    }
