"""Deciding what a node does for one instance: desired and observed in, actions out. Step 4; pure, no I/O.

Level-triggered: nothing here knows which event led to the look. Each action can be repeated at will, so that a crash
between any two of them is mended by planning again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from placet.hypervisor import Observed
from placet.lifecycle import Power, Stage, State
from placet.model import Spec
from placet.node_records import Address, FaultRecord, Status
from placet.schema import changed


class Action(Enum):
    """What a worker can be told to do, each naming its effect."""

    CHECK_CLAIM = "checking the claim"
    CREATE_DISK = "fetching the image and making the disk"
    DEFINE = "defining the domain"
    START = "starting the domain"
    RESTART = "starting the domain again"
    REMOVE_DOMAIN = "removing the domain"
    REMOVE_DISK = "removing the disk"
    RELEASE = "releasing the allocation"
    REMOVE_KEYS = "removing its keys"
    REPORT = "reporting"


@dataclass(frozen=True)
class Fail:
    """The instance cannot be served: it goes to ERROR with this fault and stays so until it is destroyed."""

    code: str
    message: str


Step = Action | Fail

MAX_RESTARTS = 3
RESTARTS_WITHIN_S = 600.0

BUILD = (Action.CHECK_CLAIM, Action.CREATE_DISK, Action.DEFINE, Action.START, Action.REPORT)
DESTROY = (Action.REMOVE_DOMAIN, Action.REMOVE_DISK, Action.RELEASE, Action.REMOVE_KEYS)


def plan(
    spec: Spec | None,
    destroy: bool,
    status: Status | None,
    observed: Observed,
    cloud: str,
    made_for: str | None = None,
) -> tuple[Step, ...]:
    """The steps that bring what is observed to what is wanted, in order.

    `made_for` is the request that this node last made something for under this UUID. Only a destroy takes a VM away.
    A domain without a spec keeps running, one of another cloud is not touched.
    """
    foreign = observed.owner not in (None, cloud)
    if destroy:
        return tuple(step for step in DESTROY if not (foreign and step is Action.REMOVE_DOMAIN))
    if spec is None or (status is not None and status.state is State.ERROR):
        return ()
    if foreign:
        return (Fail("foreign-domain", "a domain of somebody else has this UUID on the node; choose another UUID"),)
    if made_for not in (None, spec.request_id) and (observed.has_disk or observed.power is not Power.ABSENT):
        return (Fail("other-guest", "an earlier request's guest has this UUID on the node: a destroy takes it away"),)
    stages = status.stages if status else {}
    if not observed.has_disk and Stage.DEFINED.value in stages:
        return (Fail("disk-missing", "its disk is gone from the node; restore it from a backup"),)
    if _comes_back(spec, stages, observed):
        return (Action.CHECK_CLAIM, Action.RESTART, Action.REPORT)
    if observed.power is Power.CRASHED:
        return (Fail("guest-crashed", "the guest crashed; its console log may say why"),)
    if observed.power is Power.ABSENT:
        return tuple(step for step in BUILD if not (observed.has_disk and step is Action.CREATE_DISK))
    if observed.power is Power.SHUTOFF and spec.power == "running" and Stage.STARTED.value not in stages:
        return (Action.CHECK_CLAIM, Action.DEFINE, Action.START, Action.REPORT)
    return (Action.REPORT,)


def _comes_back(spec: Spec, stages: Mapping[str, float], observed: Observed) -> bool:
    """Whether the instance's own policy starts it again. One that was never started is not meant."""
    if spec.power != "running" or Stage.STARTED.value not in stages or not observed.has_disk:
        return False
    if observed.power is Power.CRASHED:
        return spec.restart in ("always", "on-failure")
    return observed.power is Power.SHUTOFF and spec.restart == "always"


def with_restart(status: Status, now: float) -> Status | None:
    """The status of an instance that is started again now; None when it was so too often of late."""
    recent = tuple(at for at in status.restarts if now - RESTARTS_WITHIN_S < at <= now)
    if len(recent) >= MAX_RESTARTS:
        return None
    stages = _begun_anew(status.stages, now)
    return changed(status, restarts=(*recent, now), stages=stages, stage=_furthest(stages), updated_at=now)


def report(spec: Spec, status: Status | None, observed: Observed, now: float) -> Status:
    """The status that tells what is observed, with the time of each stage that is newly reached.

    A domain that had stopped and runs again has its boot before it once more.
    """
    before = status or new_status(spec.instance, spec.node, now)
    stages = dict(before.stages)
    if _has_started_again(before, observed):
        stages = _begun_anew(stages, now)
    for stage in _stages_seen(observed):
        stages.setdefault(stage.value, now)
    return changed(
        before,
        state=_STATES.get(observed.power, before.state),
        stage=_furthest(stages),
        stages=stages,
        power=observed.power,
        addresses=observed.addresses,
        task=None,
        updated_at=now,
    )


def _has_started_again(before: Status, observed: Observed) -> bool:
    stopped = before.power in (Power.SHUTOFF, Power.CRASHED) and Stage.STARTED.value in before.stages
    return stopped and observed.power in (Power.RUNNING, Power.PAUSED)


def _begun_anew(stages: Mapping[str, float], now: float) -> dict[str, float]:
    """The stages of an instance whose domain is started now, not for the first time. `ready` is said once and for all,
    by a guest that has no need to say it again."""
    kept = {stage: at for stage, at in stages.items() if stage not in (Stage.IP.value, Stage.AGENT.value)}
    return {**kept, Stage.STARTED.value: now}


def _furthest(stages: Mapping[str, float]) -> Stage:
    return max((Stage(word) for word in stages), key=list(Stage).index)


def new_status(instance: str, node: str, now: float) -> Status:
    """The status of an instance whose node has just read its spec."""
    return Status(instance, node, State.BUILD, Stage.CLAIMED, {Stage.CLAIMED.value: now}, now)


def at_stage(status: Status, stage: Stage, now: float) -> Status:
    """The status once `stage` is reached."""
    return changed(
        status, stage=stage, stages={**status.stages, stage.value: status.stages.get(stage.value, now)}, updated_at=now
    )


def with_fault(status: Status, code: str, message: str, now: float) -> Status:
    """The status of an instance that cannot go on."""
    fault = FaultRecord(code, status.stage.value, message)
    return changed(status, state=State.ERROR, fault=fault, task=None, warning=None, updated_at=now)


def transition(before: Status | None, after: Status) -> tuple[str, str] | None:
    """What is new in a status, as an event's word and line; None when it is nothing to tell."""
    if after.fault and (before is None or before.fault != after.fault):
        return "fault", f"{after.fault.code} at stage {after.fault.stage}: {after.fault.message}"
    if before is None or before.state is not after.state:
        was = f"{before.state.value} -> " if before else ""
        return "state", f"{was}{after.state.value}, at stage {after.stage.value}"
    if len(after.restarts) and after.restarts != before.restarts:
        return "restarted", f"by its policy, {len(after.restarts)} of at most {MAX_RESTARTS} times of late"
    if after.warning and after.warning != before.warning:
        return "warning", after.warning
    reached = [stage for stage in after.stages if stage not in before.stages]
    return ("stage", ", ".join(reached)) if reached else None


def same_but_for_time(one: Status | None, other: Status) -> bool:
    """Whether writing `other` over `one` would tell nobody anything new."""
    return one is not None and changed(one, updated_at=other.updated_at) == other


_STATES = {
    Power.RUNNING: State.ACTIVE,
    Power.PAUSED: State.PAUSED,
    Power.SHUTOFF: State.SHUTOFF,
}


def _stages_seen(observed: Observed) -> list[Stage]:
    found = []
    if observed.power is not Power.ABSENT:
        found.append(Stage.DEFINED)
    if observed.power in (Power.RUNNING, Power.PAUSED):
        found.append(Stage.STARTED)
        if any(_is_confirmed(address) for address in observed.addresses):
            found.append(Stage.IP)
        if observed.agent:
            found.append(Stage.AGENT)
    return found


def _is_confirmed(address: Address) -> bool:
    return address.confirmed_by is not None
