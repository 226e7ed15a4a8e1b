"""A cloud of isolated hosts on this machine, for trying things out. It needs root, and leaves nothing behind.

python -m tests.lab up [--nodes N] [--etcds 1|3]   start one; it runs until Ctrl-C or SIGTERM
python -m tests.lab sh NODE [COMMAND …]            a shell, or a command, inside a host (node-1 …) or `switch`
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.lab.lab import PREFIX, Lab, lab
from tests.lab.namespaces import enter_command, running

MOST_NODES = 50
WRONG_INPUT = 2
INTERRUPTED = 130


class WrongInput(Exception):
    """What the user asked for cannot be done; the message is one line."""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated flags."""

    def error(self, message: str) -> NoReturn:
        raise WrongInput(f"{message}; `python -m tests.lab --help` shows what it takes")


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code."""
    try:
        arguments = _parser().parse_args(argv)
        _check_root()
        code: int = arguments.verb(arguments)
    except WrongInput as problem:
        print(f"tests.lab: {problem}", file=sys.stderr)
        return WRONG_INPUT
    except (RuntimeError, OSError, subprocess.SubprocessError) as problem:
        print(f"tests.lab: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def up(arguments: argparse.Namespace) -> int:
    """Run a lab in the foreground. Ends with 0 when it is told to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"starting {arguments.nodes} nodes …", flush=True)
    with lab(arguments.nodes, arguments.etcds) as made:
        print(usage_of(made), flush=True)
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("ending …", flush=True)
    return 0


def usage_of(made: Lab) -> str:
    """What a person needs to know of a lab that is up."""
    python = os.path.relpath(sys.executable)
    return "\n".join(
        [
            f"{', '.join(node.name for node in made.nodes)} are up; Ctrl-C ends everything",
            f"  {python} schedule.py --config {made.schedule_config} 'resources=VCPU:1' --wait",
            f"  {python} -m tests.lab sh {made.nodes[0].name}     # a shell inside; guests are reached from there",
            f"  etcd {made.etcd_client['host']}:{made.etcd_client['port']}, Placement {made.placement_endpoint}",
            f"  agents' logs: {made.directory}/node-*/agent.log",
        ]
    )


def sh(arguments: argparse.Namespace) -> int:
    """Replace this process by a shell or command inside a host of a running lab."""
    found = {place: pid for place, pid in running().items() if place.parent.name.startswith(PREFIX)}
    labs = {place.parent for place in found}
    if arguments.lab is not None:
        labs &= {arguments.lab.resolve()}
    if not labs:
        raise WrongInput("no such lab runs; start one with `python -m tests.lab up`")
    if len(labs) > 1:
        raise WrongInput(f"{len(labs)} labs run; say which: --lab {' or '.join(map(str, sorted(labs)))}")
    (directory,) = labs
    pid = found.get(directory / arguments.node)
    if pid is None:
        names = ", ".join(sorted(place.name for place in found if place.parent == directory))
        raise WrongInput(f"no node {arguments.node!r}; there are {names}")
    command = [word for at, word in enumerate(arguments.command) if (at, word) != (0, "--")]
    entered = [*enter_command(pid), "--", *(command or [os.environ.get("SHELL", "/bin/bash")])]
    os.execvp(entered[0], entered)  # noqa: S606 - it becomes the user's shell


def _check_root() -> None:
    if os.geteuid() != 0:
        raise WrongInput("root is needed, to make namespaces: sudo")


def _parser() -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m tests.lab", description=__doc__, formatter_class=raw, allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    starting = verbs.add_parser("up", help="start a lab and run until Ctrl-C or SIGTERM", allow_abbrev=False)
    starting.add_argument("--nodes", type=_number_of_nodes, default=3, metavar="N", help="hosts with agents (3)")
    starting.add_argument("--etcds", type=int, choices=(1, 3), default=1, help="members of etcd's cluster (1)")
    starting.set_defaults(verb=up)
    inside = verbs.add_parser("sh", help="a shell or a command inside a host of a lab", allow_abbrev=False)
    inside.add_argument("--lab", type=Path, metavar="DIR", help="which lab, when several run")
    inside.add_argument("node", metavar="NODE", help="node-1 …, or switch")
    inside.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="instead of a shell")
    inside.set_defaults(verb=sh)
    return parser


def _number_of_nodes(word: str) -> int:
    number = int(word) if word.isdecimal() else 0
    if not 1 <= number <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 to {MOST_NODES}")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
