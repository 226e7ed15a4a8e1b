"""schedule.py's command line: argv in, one flow run, an exit code out. The edge where errors become words.

The first word decides: with `=` in it it is a query (create); a UUID, or 8 or more hex digits of one, asks for an IP;
else it is a verb.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from placet.errors import PlacetError, Usage
from placet.failpoints import arm_from_environment
from placet.schema import nearest, similar

INTERRUPTED = 130
SELDOM = 20_000  # objects between two looks for garbage: loading makes many, and throws none away
HEX = re.compile(r"[0-9a-fA-F-]{8,36}")
USAGE = """\
Place, find and destroy virtual machines.

  schedule.py 'resources=VCPU:1,DISK_GB:1,MEMORY_MB:256' [IMAGE]   place one
  schedule.py UUID                                                 its IP
  schedule.py destroy UUID                                         destroy it
"""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated flags."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(allow_abbrev=False, **arguments)  # type: ignore[arg-type]

    def _check_value(self, action: argparse.Action, value: str) -> None:
        """argparse lists all choices; this names the nearest as well."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as problem:
            hint = similar(value, map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{problem.message}{hint}") from problem

    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message}; `{self.prog} --help` shows what it takes")


def run() -> NoReturn:
    """The console script."""
    run_program(main)


def run_program(program: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run it and end at once: what gRPC's or a download's threads are at must not hold up the interpreter's own end."""
    gc.set_threshold(SELDOM)
    code = INTERRUPTED
    try:
        code = program(sys.argv[1:])
    except SystemExit as end:  # argparse after --help
        code = end.code if isinstance(end.code, int) else 1
    finally:
        flush_all()
    os._exit(code)


def flush_all() -> None:
    """Bring out what was printed; whoever read it may have gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code. Errors are one line on stderr."""
    try:
        arm_from_environment()
        _check_words(argv)
        arguments = _parsed(routed(list(argv)))
        code: int = arguments.verb(arguments)
        sys.stdout.flush()
    except PlacetError as problem:
        print(f"schedule.py: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("schedule.py: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: nobody to tell
        return 1
    return code


def _parsed(argv: list[str]) -> argparse.Namespace:
    """IMAGE may also come behind flags, where argparse no longer looks for a word that can be left out."""
    arguments, rest = _parser(argv).parse_known_args(argv)
    if len(rest) == 1 and not rest[0].startswith("-") and getattr(arguments, "image", "") is None:
        arguments.image = rest.pop()
    if rest:
        raise Usage(f"unrecognized arguments: {' '.join(rest)}; `schedule.py --help` shows what it takes")
    return arguments


def _check_words(argv: Sequence[str]) -> None:
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError as problem:
            raise Usage(f"{word!a} is not UTF-8") from problem


def routed(argv: list[str]) -> list[str]:
    """argv with the verb that its first word implies put before it. Raises Usage for an unknown verb."""
    first = _first_word(argv)
    if first is None:
        return argv
    word = argv[first]
    if "=" in word:
        return [*argv[:first], "create", *argv[first:]]
    if HEX.fullmatch(word):
        return [*argv[:first], "ip", *argv[first:]]
    if word not in VERBS:
        raise Usage(f"unknown verb {word!r}{nearest(word, VERBS)}")
    return argv


def _first_word(argv: list[str]) -> int | None:
    index = 0
    while index < len(argv):
        if argv[index] == "--config":
            index += 2
        elif argv[index].startswith("-"):
            index += 1
        else:
            return index
    return None


VERBS = {  # and the modules of placet.cli that have them
    "create": "create",
    "explain": "previews",
    "fits": "previews",
    "ip": "instances",
    "list": "instances",
    "show": "instances",
    "destroy": "instances",
    "why": "why",
    "events": "events",
    "console": "console",
    "image": "images",
    "key": "keys",
    "nodes": "nodes",
    "node": "nodes",
    "drain": "nodes",
    "undrain": "nodes",
    "zone": "zones",
    "doctor": "doctor",
}


def _parser(argv: list[str]) -> Parser:
    """What reads argv. It has the verb that argv begins with, whose module alone is loaded, else all of them."""
    parser = Parser(prog="schedule.py", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="schedule.yaml to use")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    for module in _modules(argv):
        import_module(f"placet.cli.{module}").add_verbs(verbs)
    return parser


def _modules(argv: list[str]) -> list[str]:
    first = _first_word(argv)
    if first is None or argv[first] not in VERBS or {"-h", "--help"}.intersection(argv[:first]):
        return list(dict.fromkeys(VERBS.values()))
    return [VERBS[argv[first]]]
