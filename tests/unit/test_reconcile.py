"""What a node decides to do for one instance, whatever is wanted and observed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.hypervisor import Observed
from placet.lifecycle import RESTARTS, Power, Stage, State
from placet.model import Spec
from placet.node_records import Address, Status
from placet.reconcile import (
    BUILD,
    MAX_RESTARTS,
    RESTARTS_WITHIN_S,
    Action,
    Fail,
    new_status,
    plan,
    report,
    transition,
    with_fault,
    with_restart,
)
from tests.unit.test_model import SPEC

CLOUD = "cloud"
FRESH = new_status("i", "n", 1.0)
STARTED = replace(FRESH, state=State.ACTIVE, stage=Stage.STARTED, stages={"defined": 1.0, "started": 2.0})
RUNNING = Observed(Power.RUNNING, has_disk=True, owner=CLOUD)
NOTHING = Observed(Power.ABSENT)

observations = st.builds(
    Observed,
    power=st.sampled_from(Power),
    has_disk=st.booleans(),
    owner=st.sampled_from([None, CLOUD, "", "other"]),
    agent=st.booleans(),
)
statuses = st.sampled_from([None, FRESH, STARTED, with_fault(FRESH, "x", "y", 2.0)])
specs = st.sampled_from([None, SPEC, replace(SPEC, power="stopped")])


def test_a_new_instance_is_built_from_the_start() -> None:
    assert plan(SPEC, False, None, NOTHING, CLOUD) == BUILD


def test_a_build_that_was_cut_off_goes_on_where_it_was() -> None:
    assert plan(SPEC, False, FRESH, Observed(Power.ABSENT, has_disk=True), CLOUD) == (
        Action.CHECK_CLAIM,
        Action.DEFINE,
        Action.START,
        Action.REPORT,
    )
    assert plan(SPEC, False, FRESH, Observed(Power.SHUTOFF, True, CLOUD), CLOUD) == (
        Action.CHECK_CLAIM,
        Action.DEFINE,
        Action.START,
        Action.REPORT,
    )


def test_a_running_instance_is_only_reported() -> None:
    assert plan(SPEC, False, STARTED, RUNNING, CLOUD) == (Action.REPORT,)


@given(st.sampled_from([SPEC, replace(SPEC, power="stopped")]), statuses, observations)
def test_what_was_made_for_another_request_is_left_alone(spec: Spec, status: Status | None, observed: Observed) -> None:
    steps = plan(spec, False, status, observed, CLOUD, made_for="another")
    if observed.has_disk or observed.power is not Power.ABSENT:
        assert all(isinstance(step, Fail) for step in steps)


def test_a_guest_that_powered_itself_off_stays_off() -> None:
    assert plan(SPEC, False, STARTED, Observed(Power.SHUTOFF, True, CLOUD), CLOUD) == (Action.REPORT,)


def test_a_lost_disk_is_an_error_and_never_rebuilt() -> None:
    steps = plan(SPEC, False, STARTED, NOTHING, CLOUD)
    assert [step.code for step in steps if isinstance(step, Fail)] == ["disk-missing"]


def test_a_destroy_goes_domain_disk_allocation_keys() -> None:
    assert plan(SPEC, True, STARTED, RUNNING, CLOUD) == (
        Action.REMOVE_DOMAIN,
        Action.REMOVE_DISK,
        Action.RELEASE,
        Action.REMOVE_KEYS,
    )


@given(specs, statuses, observations)
def test_absence_never_destroys(spec: Spec | None, status: Status | None, observed: Observed) -> None:
    steps = plan(spec, False, status, observed, CLOUD)
    assert not set(steps) & {Action.REMOVE_DOMAIN, Action.REMOVE_DISK, Action.RELEASE, Action.REMOVE_KEYS}


@given(specs, st.booleans(), statuses, observations)
def test_a_foreign_domain_is_never_touched(
    spec: Spec | None, destroy: bool, status: Status | None, observed: Observed
) -> None:
    steps = plan(spec, destroy, status, replace(observed, owner="other"), CLOUD)
    assert not set(steps) & {Action.REMOVE_DOMAIN, Action.DEFINE, Action.START, Action.CREATE_DISK}


@given(specs, statuses, observations)
def test_nothing_starts_before_its_claim_is_checked(
    spec: Spec | None, status: Status | None, observed: Observed
) -> None:
    steps = plan(spec, False, status, observed, CLOUD)
    if Action.START in steps:
        assert steps[0] is Action.CHECK_CLAIM


@given(specs, statuses, observations)
def test_a_destroy_always_ends_with_its_keys(spec: Spec | None, status: Status | None, observed: Observed) -> None:
    assert plan(spec, True, status, observed, CLOUD)[-1] is Action.REMOVE_KEYS


@given(statuses, observations, st.floats(10, 20))
def test_a_stage_keeps_the_time_at_which_it_was_first_reached(
    status: Status | None, observed: Observed, now: float
) -> None:
    once = report(SPEC, status, observed, now)
    again = report(SPEC, once, observed, now + 5)
    assert again.stages == once.stages
    assert again.stage is max(map(Stage, again.stages), key=list(Stage).index)


@pytest.mark.parametrize(
    ("power", "state"),
    [(Power.RUNNING, State.ACTIVE), (Power.SHUTOFF, State.SHUTOFF), (Power.PAUSED, State.PAUSED)],
)
def test_power_becomes_state(power: Power, state: State) -> None:
    assert report(SPEC, FRESH, Observed(power, True, CLOUD), 2.0).state is state


def test_only_a_confirmed_address_reaches_the_ip_stage() -> None:
    reserved = Address("198.19.0.2", "52:54:00:00:00:01")
    assert report(SPEC, STARTED, replace(RUNNING, addresses=(reserved,)), 3.0).stage is Stage.STARTED
    confirmed = replace(reserved, confirmed_by="lease")
    assert report(SPEC, STARTED, replace(RUNNING, addresses=(confirmed,)), 3.0).stage is Stage.IP


UP = Status("i", "n", State.ACTIVE, Stage.AGENT, {"defined": 1.0, "started": 2.0, "ip": 3.0, "agent": 4.0}, 4.0)


@pytest.mark.parametrize("power", [Power.SHUTOFF, Power.CRASHED])
def test_a_domain_that_had_stopped_and_runs_again_has_its_boot_before_it_once_more(power: Power) -> None:
    again = report(SPEC, replace(UP, power=power), RUNNING, 50.0)
    assert (again.stage, again.stages) == (Stage.STARTED, {"defined": 1.0, "started": 50.0})


@pytest.mark.parametrize("power", [Power.RUNNING, Power.PAUSED])
def test_one_that_only_paused_goes_on_where_it_was(power: Power) -> None:
    assert report(SPEC, replace(UP, power=power), RUNNING, 50.0).stages == UP.stages


def test_a_restart_by_its_policy_begins_the_boot_anew_but_what_a_guest_said_of_itself_stands() -> None:
    again = with_restart(replace(UP, stages={**UP.stages, "ready": 5.0}), 50.0)
    assert again and again.stages == {"defined": 1.0, "started": 50.0, "ready": 5.0}


CRASHED = Observed(Power.CRASHED, True, CLOUD)
POWERED_OFF = Observed(Power.SHUTOFF, True, CLOUD)
AGAIN = (Action.CHECK_CLAIM, Action.RESTART, Action.REPORT)


@pytest.mark.parametrize(
    ("policy", "after_crash", "after_power_off"),
    [("never", None, (Action.REPORT,)), ("on-failure", AGAIN, (Action.REPORT,)), ("always", AGAIN, AGAIN)],
)
def test_a_guest_that_ended_by_itself_comes_back_as_its_policy_says(
    policy: str, after_crash: tuple[Action, ...] | None, after_power_off: tuple[Action, ...]
) -> None:
    spec = replace(SPEC, restart=policy)
    crashed = plan(spec, False, STARTED, CRASHED, CLOUD)
    if after_crash is None:
        assert [step.code for step in crashed if isinstance(step, Fail)] == ["guest-crashed"]
    else:
        assert crashed == after_crash
    assert plan(spec, False, STARTED, POWERED_OFF, CLOUD) == after_power_off


@given(specs, statuses, observations, st.sampled_from(RESTARTS), st.booleans())
def test_only_what_was_started_and_shall_run_is_ever_started_again(
    spec: Spec | None, status: Status | None, observed: Observed, policy: str, destroy: bool
) -> None:
    wanted = replace(spec, restart=policy) if spec else None
    if Action.RESTART in plan(wanted, destroy, status, observed, CLOUD):
        assert wanted and wanted.power == "running" and policy != "never" and not destroy
        assert status and Stage.STARTED.value in status.stages and status.state is not State.ERROR
        assert observed.power in (Power.CRASHED, Power.SHUTOFF) and observed.has_disk and observed.owner != "other"


def test_a_restart_is_counted_until_there_were_too_many_of_late() -> None:
    status: Status | None = STARTED
    for number in range(MAX_RESTARTS):
        assert status
        status = with_restart(status, 100.0 + number)
    assert status and status.restarts == (100.0, 101.0, 102.0)
    assert with_restart(status, 103.0) is None
    assert with_restart(status, 100.0 + RESTARTS_WITHIN_S - 0.1) is None
    later = with_restart(status, 100.0 + RESTARTS_WITHIN_S)
    assert later and later.restarts == (101.0, 102.0, 100.0 + RESTARTS_WITHIN_S)


def test_a_clock_that_went_back_gives_a_guest_its_restarts_again_rather_than_none() -> None:
    status = replace(STARTED, restarts=(1000.0, 1001.0, 1002.0))
    again = with_restart(status, 50.0)
    assert again and again.restarts == (50.0,)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, FRESH, ("state", "BUILD, at stage claimed")),
        (FRESH, STARTED, ("state", "BUILD -> ACTIVE, at stage started")),
        (STARTED, replace(STARTED, restarts=(3.0,)), ("restarted", "by its policy, 1 of at most 3 times of late")),
        (STARTED, replace(STARTED, stages={**STARTED.stages, "ip": 3.0}), ("stage", "ip")),
        (STARTED, with_fault(STARTED, "x", "why", 3.0), ("fault", "x at stage started: why")),
        (None, with_fault(FRESH, "x", "why", 3.0), ("fault", "x at stage claimed: why")),
        (STARTED, replace(STARTED, updated_at=9.0, task="fetching"), None),
        (replace(STARTED, restarts=(3.0,)), STARTED, None),
        (STARTED, replace(STARTED, warning="no ip after 60 s"), ("warning", "no ip after 60 s")),
        (replace(STARTED, warning="no ip after 60 s"), STARTED, None),
    ],
)
def test_a_transition_is_told_in_a_word_and_a_line(
    before: Status | None, after: Status, told: tuple[str, str] | None
) -> None:
    assert transition(before, after) == told
