"""What is told of an instance that runs and has not come as far as it should have by now. Step 5; pure, no I/O.

Seconds count from the last start of its domain, which is the time of its stage `started`: reconcile.py begins that one,
`ip` and `agent` anew each time. A warning changes nothing but the status: the instance stays ACTIVE.
"""

from __future__ import annotations

from collections.abc import Callable

from placet.lifecycle import Power, Stage
from placet.model import Spec
from placet.node_records import Status
from placet.readiness import next_deadline, overdue
from placet.schema import changed
from placet.terminal import plain

TAIL_LINES = 5
TAIL_CHARACTERS = 500


def with_lateness(spec: Spec, status: Status, now: float, console: Callable[[], bytes]) -> Status:
    """The status with a warning of the first stage that is overdue, or without one. `console` gives what the guest last
    wrote there; it is asked once for each warning."""
    found = overdue(status.stages, status.stages[Stage.STARTED.value], spec.deadlines, now) if _runs(status) else None
    if found is None:
        return changed(status, warning=None)
    begins = f"no {found[0]} after {spec.deadlines[found[0]]:g} s"
    if status.warning is not None and status.warning.startswith(begins):
        return status
    tail = tail_of(console())
    ends = f"the console's last lines: {tail}" if tail else "its console is empty"
    return changed(status, warning=f"{begins}; {ends}")


def next_look(spec: Spec, status: Status, now: float) -> float | None:
    """In how many seconds another stage will be overdue; None when none will."""
    if not _runs(status):
        return None
    due = next_deadline(status.stages, status.stages[Stage.STARTED.value], spec.deadlines, now)
    return None if due is None else due - now


def tail_of(console: bytes) -> str:
    """Its last lines as one, without what could steer a terminal: a guest wrote them."""
    lines = (line.strip() for line in plain(console.decode(errors="replace")).splitlines())
    return " | ".join([line for line in lines if line][-TAIL_LINES:])[-TAIL_CHARACTERS:]


def _runs(status: Status) -> bool:
    return status.power is Power.RUNNING and Stage.STARTED.value in status.stages
