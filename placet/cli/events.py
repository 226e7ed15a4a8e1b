"""The verb events: the story of one instance or node, or of the whole cloud as it goes on."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from placet import keys, wiring
from placet.cli import output
from placet.config import load_schedule
from placet.errors import NotFound, Unreachable, Usage, WatchLost
from placet.log import warn
from placet.model import BadRecord, Happening, decode
from placet.store import Entry, Store

COLUMNS = ("at", "actor", "what", "reason")
PAUSE_S = 0.5


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    events = verbs.add_parser(
        "events",
        help="what happened to an instance or a node, and why",
        description="What happened to an instance or a node, who did it and why: the last three days, oldest first.",
    )
    events.add_argument(
        "subject", metavar="INSTANCE|NODE", nargs="?", help="a name, a UUID or digits of one; without: all of the cloud"
    )
    events.add_argument("--follow", action="store_true", help="go on with what happens from now on")
    output.add_format(events)
    events.set_defaults(verb=_events)


def _events(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    if arguments.follow and arguments.format not in ("table", "value", "json"):
        raise Usage("--follow goes with -f table, value or json")
    prefix = keys.EVENTS
    if arguments.subject:
        prefix = keys.events(_subject(store, arguments.subject, config.project))
    if arguments.follow:
        return _follow(store, prefix, arguments)
    listing = store.scan(prefix)
    if arguments.subject and not listing.entries:
        raise NotFound(f"no events of {arguments.subject!r}; they are kept for three days")
    rows = sorted(_rows(listing.entries), key=lambda row: str(row["time"]))
    output.show_rows(rows, COLUMNS if arguments.subject else ("at", "subject", *COLUMNS[1:]), arguments)
    return 0


def _subject(store: Store, word: str, project: str) -> str:
    """An instance by its name or digits, also one that is gone, or a node by its name; a whole UUID is either."""
    instances, nodes = wiring.instances(store), wiring.nodes(store)
    finds: list[Callable[[], str]] = [
        lambda: instances.find(word, project),
        lambda: instances.find_gone(word, project),
        lambda: nodes.find(word),
    ]
    for find in finds:
        with contextlib.suppress(NotFound):
            return find()
    raise NotFound(f"no instance or node {word!r}; `schedule.py list` and `schedule.py nodes` show what there is")


def _rows(entries: tuple[Entry, ...]) -> list[dict[str, Any]]:
    found = []
    for entry in entries:
        try:
            event = decode(Happening, entry.value, entry.key)
        except BadRecord as bad:
            warn("bad-record", reason=bad)
            continue
        found.append(_row(event))
    return found


def _row(event: Happening) -> dict[str, Any]:
    return {
        "at": time.strftime("%m-%d %H:%M:%S", time.localtime(event.at)),
        "time": f"{output.iso(event.at)[:-1]}.{int(event.at % 1 * 1000):03d}Z",  # type: ignore[index]
        "subject": event.subject,
        "actor": event.actor,
        "what": event.what,
        "reason": event.reason,
    }


def _follow(store: Store, prefix: str, arguments: argparse.Namespace) -> int:
    """Until interrupted. A lost watch is taken up where it ended, from a list if that is compacted."""
    seen: set[str] = set()
    fresh = bool(arguments.subject)
    while True:
        try:
            listing = store.scan(prefix)
            _show([entry for entry in listing.entries if entry.key not in seen] if fresh else [], arguments)
            seen, fresh = {entry.key for entry in listing.entries}, True
            watch = store.watch([prefix], listing.revision + 1)
            while True:
                arrived = [event.entry for event in watch.wait(60.0) if event.entry is not None]
                _show(arrived, arguments)
                seen |= {entry.key for entry in arrived}
        except (WatchLost, Unreachable) as problem:
            print(f"schedule.py: {problem}; trying again", file=sys.stderr)
            time.sleep(PAUSE_S)


def _show(entries: list[Entry], arguments: argparse.Namespace) -> None:
    for row in _rows(tuple(entries)):
        output.show_line(row, ("at", "subject", *COLUMNS[1:]), arguments)
