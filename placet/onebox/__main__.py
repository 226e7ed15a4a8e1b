"""`python -m placet.onebox [up | status | down | destroy]`: what ./up.sh ends with. The edge: prints, exits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from placet import config
from placet.errors import PlacetError, Usage
from placet.onebox import settings
from placet.onebox.destroy import Destroy
from placet.onebox.down import down
from placet.onebox.layout import StateDirectory
from placet.onebox.lock import locked
from placet.onebox.machine import Machine
from placet.onebox.options import Command, parse
from placet.onebox.settings import Settings
from placet.onebox.status import status
from placet.onebox.steps import Steps, explain
from placet.onebox.supervisor import supervisor_for
from placet.onebox.up import Up

INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run one verb; its exit code."""
    command = parse(argv)
    steps = Steps(sys.stdout)
    try:
        return _run(command, StateDirectory(config.state_dir().absolute()), steps)
    except (PlacetError, OSError) as problem:
        print(explain(problem), file=sys.stderr)
        return problem.exit_code if isinstance(problem, PlacetError) else 1
    except KeyboardInterrupt:
        print("up.sh: interrupted; run it again to go on", file=sys.stderr)
        return INTERRUPTED


def _run(command: Command, state: StateDirectory, steps: Steps) -> int:
    if os.geteuid() != 0:
        raise PlacetError("root is needed, for libvirt and networks; run ./up.sh, which uses sudo")
    supervisor = supervisor_for(state)

    def waiting() -> None:
        steps.say("another up.sh is at work here: waiting for it")

    if command.verb == "up":
        with locked(state.root, waiting, create=True), _tidied(state):
            return Up(command.up, state, steps, Machine(), supervisor).run()
    if command.verb == "status":
        return status(_found(state), state, supervisor, steps)
    _found(state)
    if command.verb == "destroy":
        _confirm(command, state)
    with locked(state.root, waiting):
        if command.verb == "down":
            return down(_found(state), state, supervisor, steps)
        return Destroy(_found(state), state, supervisor).run(steps)


@contextmanager
def _tidied(state: StateDirectory) -> Iterator[None]:
    """Where options were refused, the directory that was made for the lock goes again."""
    try:
        yield
    finally:
        with suppress(OSError):  # it has something in it, as it should
            state.root.rmdir()


def _found(state: StateDirectory) -> Settings:
    found = settings.load(state.settings)
    if found is None:
        raise PlacetError(f"no cloud in {state.root} ({state.settings.name} is not there): make one with ./up.sh")
    return found


def _confirm(command: Command, state: StateDirectory) -> None:
    if command.yes:
        return
    if not sys.stdin.isatty():
        raise Usage("destroy removes every VM and all data: say --yes to mean it")
    answer = input(f"Remove the cloud in {state.root}, every VM and all data? Type yes: ")
    if answer.strip() != "yes":
        raise Usage("nothing was removed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
