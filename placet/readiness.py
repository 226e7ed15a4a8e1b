"""After how many seconds of running a stage of the boot is overdue, and which one is. Pure.

The image says how long its boots take: by its property `kind`, or stage by stage by `deadline_ip`, `deadline_agent`
and `deadline_ready` (seconds; 0 expects that stage never). An instance that is late stays what it is; its node warns.
"""

from __future__ import annotations

from collections.abc import Mapping

from placet.errors import Usage
from placet.lifecycle import Stage
from placet.schema import nearest

STAGES = (Stage.IP.value, Stage.AGENT.value, Stage.READY.value)
PLAIN = "plain"
KINDS: Mapping[str, Mapping[str, float]] = {
    "mini": {"ip": 60.0, "agent": 90.0},
    "cloud-init": {"ip": 300.0, "agent": 600.0},
    PLAIN: {"ip": 300.0},
}


def deadlines_of(properties: Mapping[str, str]) -> dict[str, float]:
    """Seconds by stage, of an image with these properties; a stage that is not expected is left out. Raises Usage."""
    kind = properties.get("kind", PLAIN)
    if kind not in KINDS:
        raise Usage(f"image property kind={kind}: no kind of image{nearest(kind, KINDS)}")
    given = {stage: _seconds(properties, f"deadline_{stage}") for stage in STAGES}
    found = {stage: KINDS[kind].get(stage, 0.0) if given[stage] is None else given[stage] for stage in STAGES}
    return {stage: seconds for stage, seconds in found.items() if seconds}


def overdue(
    stages: Mapping[str, float], started_at: float, deadlines: Mapping[str, float], now: float
) -> tuple[str, float] | None:
    """The first stage that should have been reached by `now` and is not, and for how many seconds the guest has run."""
    running_s = now - started_at
    late = [stage for stage in _missing(stages, deadlines) if running_s >= deadlines[stage]]
    return (late[0], running_s) if late else None


def next_deadline(
    stages: Mapping[str, float], started_at: float, deadlines: Mapping[str, float], now: float
) -> float | None:
    """When the next stage becomes overdue, in seconds since the epoch like `now`; None when none will."""
    due = [started_at + deadlines[stage] for stage in _missing(stages, deadlines)]
    return min((at for at in due if at > now), default=None)


def _missing(stages: Mapping[str, float], deadlines: Mapping[str, float]) -> list[str]:
    return [stage for stage in STAGES if stage in deadlines and stage not in stages]


def _seconds(properties: Mapping[str, str], name: str) -> float | None:
    text = properties.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Usage(f"image property {name}={text}: expected seconds, 0 for never")
    return seconds
