"""Named points in the flows at which a test can make the program die. Nothing happens at them otherwise.

`PLACET_FAILPOINT=build.disk-made` in the environment of compute.py or schedule.py ends the process there by SIGKILL,
the first time it comes by. Within one process, `placet.failpoints.at` takes any function instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from placet.errors import Usage
from placet.schema import nearest

VARIABLE = "PLACET_FAILPOINT"
POINTS = frozenset(
    {
        "create.intent-written",
        "create.claimed",
        "create.committed",
        "build.spec-read",
        "build.status-written",
        "build.image-half-fetched",
        "build.disk-made",
        "build.domain-defined",
        "build.domain-started",
        "build.ip-seen",
        "build.ip-written",
        "destroy.asked",
        "destroy.domain-gone",
        "destroy.disk-gone",
        "destroy.allocation-gone",
        "destroy.keys-gone",
        "sweep.intent-written",
        "sweep.released",
    }
)

_armed: dict[str, Callable[[], None]] = {}


def reach(point: str) -> None:
    """Pass a point; the program may end here if a test wants it to."""
    if _armed and point in _armed:
        _armed[point]()


def arm_from_environment() -> None:
    """Called once by the entry points. Raises Usage for a point that does not exist."""
    if point := os.environ.get(VARIABLE):
        _arm(point, lambda: os.kill(os.getpid(), signal.SIGKILL))


@contextlib.contextmanager
def at(point: str, action: Callable[[], None]) -> Iterator[None]:
    """Run `action` at a point for the length of a `with`. Raises Usage for a point that does not exist."""
    _arm(point, action)
    try:
        yield
    finally:
        del _armed[point]


def _arm(point: str, action: Callable[[], None]) -> None:
    if point not in POINTS:
        raise Usage(f"{VARIABLE}: no point {point!r}{nearest(point, POINTS)}")
    _armed[point] = action
