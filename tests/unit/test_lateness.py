"""When an instance that runs is told to be late, and in what words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.lateness import TAIL_CHARACTERS, TAIL_LINES, next_look, tail_of, with_lateness
from placet.lifecycle import Power, Stage, State
from placet.node_records import Status
from tests.unit.test_model import SPEC

STARTED_AT = 1000.0
LATE = replace(SPEC, deadlines={"ip": 60.0, "agent": 90.0})
RUNNING = Status("i", "n", State.ACTIVE, Stage.STARTED, {"started": STARTED_AT}, STARTED_AT, Power.RUNNING)
WITH_IP = replace(RUNNING, stages={**RUNNING.stages, "ip": STARTED_AT + 70})
LINES = b"booting\r\nno network\r\n"


def warning(status: Status, after_s: float, console: bytes = LINES) -> str | None:
    return with_lateness(LATE, status, STARTED_AT + after_s, lambda: console).warning


def test_before_the_deadline_nothing_is_said() -> None:
    assert warning(RUNNING, 59.9) is None


def test_past_it_the_stage_is_named_with_the_consoles_last_lines_and_the_state_stays() -> None:
    late = with_lateness(LATE, RUNNING, STARTED_AT + 60, lambda: LINES)

    assert late.warning == "no ip after 60 s; the console's last lines: booting | no network"
    assert (late.state, late.stage) == (State.ACTIVE, Stage.STARTED)


def test_a_guest_that_prints_nothing_is_told_to_do_so() -> None:
    assert warning(RUNNING, 60, console=b"\r\n \r\n") == "no ip after 60 s; its console is empty"


def test_the_console_is_read_once_for_each_warning() -> None:
    late = with_lateness(LATE, RUNNING, STARTED_AT + 60, lambda: LINES)

    assert with_lateness(LATE, late, STARTED_AT + 80, lambda: pytest.fail("read again")) == late


def test_reaching_the_stage_takes_the_warning_away() -> None:
    assert warning(replace(WITH_IP, warning="no ip after 60 s; …"), 75) is None


def test_another_stage_that_is_late_is_another_warning() -> None:
    told = warning(replace(WITH_IP, warning="no ip after 60 s; …"), 90)

    assert told is not None and told.startswith("no agent after 90 s")


@pytest.mark.parametrize("power", [power for power in Power if power is not Power.RUNNING])
def test_one_that_does_not_run_is_not_late(power: Power) -> None:
    assert warning(replace(RUNNING, power=power, warning="no ip after 60 s; …"), 1000) is None
    assert next_look(LATE, replace(RUNNING, power=power), STARTED_AT) is None


def test_an_image_that_promises_nothing_is_never_late() -> None:
    assert with_lateness(SPEC, RUNNING, STARTED_AT + 1e9, lambda: LINES).warning is None
    assert next_look(SPEC, RUNNING, STARTED_AT) is None


def test_it_is_looked_at_again_when_the_next_stage_is_due() -> None:
    assert next_look(LATE, RUNNING, STARTED_AT) == 60
    assert next_look(LATE, RUNNING, STARTED_AT + 60) == 30
    assert next_look(LATE, WITH_IP, STARTED_AT + 70) == 20
    assert next_look(LATE, RUNNING, STARTED_AT + 90) is None


@given(st.binary(max_size=4000))
def test_whatever_a_guest_prints_the_tail_is_short_and_harmless(console: bytes) -> None:
    tail = tail_of(console)

    assert len(tail) <= TAIL_CHARACTERS
    assert "\x1b" not in tail and "\n" not in tail and "\r" not in tail and "\x07" not in tail


def test_of_many_lines_the_last_few_are_told() -> None:
    console = "".join(f"line {number}\r\n" for number in range(30)).encode()

    assert tail_of(console).split(" | ") == [f"line {number}" for number in range(30 - TAIL_LINES, 30)]


def test_colours_of_a_console_are_left_out() -> None:
    assert tail_of(b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b]0;title\x07cron\r\n") == "[  OK  ] Started cron"
