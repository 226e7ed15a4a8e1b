"""compute.py's command line: configuration in, one agent run until SIGTERM or SIGINT, an exit code out. With --simulate
it is thousands of agents."""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from placet.cli.main import Parser, run_program
from placet.compute_config import ComputeConfig, load_compute
from placet.errors import Conflict, PlacetError
from placet.failpoints import arm_from_environment
from placet.log import log, start_logging, warn
from placet.node import build_node
from placet.schema import changed


def run() -> NoReturn:
    """The console script."""
    run_program(main)


def main(argv: Sequence[str]) -> int:
    """Serve as a node until told to stop. Errors are one line on stderr."""
    parser = Parser(prog="compute.py", description="The agent of one compute node; runs until SIGTERM or SIGINT.")
    parser.add_argument("--config", metavar="FILE", help="compute.yaml to use")
    parser.add_argument(
        "--simulate",
        metavar="N",
        type=_node_count,
        help="be N simulated nodes in this one process, for trying out large clouds",
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        arm_from_environment()
        arguments = parser.parse_args(argv)
        config = load_compute(arguments.config)
        if arguments.simulate:  # beside the real agent of this state directory, if there is one
            config = changed(config, state_dir=str(Path(config.state_dir) / "simulation"))
        start_logging(config.log_level)
        with _only_agent(config):
            if arguments.simulate:
                _simulate(config, arguments.simulate, stop)
            else:
                _serve(config, stop)
    except PlacetError as problem:
        print(f"compute.py: {problem}", file=sys.stderr)
        return problem.exit_code
    except OSError as problem:  # a file of the state directory: build_node touches several
        print(f"compute.py: {problem.filename}: {problem.strerror}; see to the state directory", file=sys.stderr)
        return 1
    return 0


def _serve(config: ComputeConfig, stop: threading.Event) -> None:
    node = build_node(config)
    log("registered", node=node.id)
    node.agent.run(stop)
    try:
        node.retire()
    except PlacetError as problem:  # the guests are fine and the lease has ended: nothing to fail for
        warn("retire-failed", reason=problem)
    log("stopped", node=node.id)


def _simulate(config: ComputeConfig, count: int, stop: threading.Event) -> None:
    from placet.simulation.running import simulate

    simulate(config, count, stop, lambda line: print(line, flush=True))


def _node_count(text: str) -> int:
    from placet.simulation.shapes import MAX_NODES

    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_NODES:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_NODES}")
    return int(text)


@contextmanager
def _only_agent(config: ComputeConfig) -> Iterator[None]:
    """Hold the state directory's lock: two agents on it would be one node twice."""
    path = Path(config.state_dir) / "agent.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        lock = path.open("a")
    except OSError as problem:
        raise PlacetError(f"{path}: {problem.strerror}; run as root or set state_dir: in compute.yaml") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            raise Conflict(
                f"another agent runs on {config.state_dir}; stop it, or set another state_dir: in compute.yaml"
            ) from problem
        yield
