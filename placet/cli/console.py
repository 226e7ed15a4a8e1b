"""The verb console: what a guest wrote to its serial console, as its node has kept it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from placet import wiring
from placet.cli.words import count
from placet.config import load_schedule
from placet.terminal import PlainText

if TYPE_CHECKING:
    from placet.consoles import Console

LINES = 50
EVERY_S = 0.5


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verb."""
    console = verbs.add_parser(
        "console",
        help="show what a guest wrote to its serial console",
        description="Show what a guest wrote to its serial console: its lines and printable characters.",
    )
    console.add_argument("instance", metavar="INSTANCE", help="a UUID, 8 or more digits of one, or a name")
    console.add_argument("--lines", type=count, default=LINES, metavar="N", help="the last N of them (default: 50)")
    console.add_argument("--follow", action="store_true", help="go on with what it writes, until it is destroyed")
    console.add_argument("--raw", action="store_true", help="all that it wrote, also what may steer your terminal")
    console.set_defaults(verb=_console)


def _console(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    instance = wiring.instances(store).find(arguments.instance, config.project)
    console = wiring.console(store, instance, arguments.lines)
    write = _writer(arguments.raw)
    if arguments.follow:
        _follow(console, write)
    else:
        _show(console, write, arguments.lines)
    return 0


def _show(console: Console, write: Callable[[str], None], lines: int) -> None:
    """Its last lines, in so many pieces as they can take: a guest that goes on and on is not waited for."""
    from placet.consoles import may_go_on
    from placet.hypervisor import LINE_BYTES, PIECE_BYTES

    for _ in range(lines * LINE_BYTES // PIECE_BYTES + 1):
        text = console.read()
        write(text)
        if not may_go_on(text):
            break


def _follow(console: Console, write: Callable[[str], None]) -> None:
    """Until the instance is destroyed, or somebody interrupts. One that has yet to start is waited for."""
    from placet.consoles import Destroyed, NeverRan, may_go_on

    told = False
    while True:
        text = ""
        try:
            text = console.read()
        except Destroyed:
            return
        except NeverRan as problem:
            if not told:
                print(f"schedule.py: {problem}; waiting for it", file=sys.stderr)
            told = True
        write(text)
        if not may_go_on(text):
            time.sleep(EVERY_S)


def _writer(raw: bool) -> Callable[[str], None]:
    """Writes to stdout at once, plain text if not `raw`. What the terminal's encoding lacks is shown as `?`."""
    plain = PlainText()
    encoding = sys.stdout.encoding

    def write(text: str) -> None:
        shown = text if raw else plain.plain(text)
        sys.stdout.write(shown.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()

    return write
