"""Which stage of a boot is late, and when the next will be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import Usage
from placet.readiness import STAGES, deadlines_of, next_deadline, overdue

STARTED = 1000.0


@pytest.mark.parametrize(
    ("properties", "deadlines"),
    [
        ({}, {"ip": 300}),
        ({"kind": "plain", "os": "debian"}, {"ip": 300}),
        ({"kind": "mini"}, {"ip": 60, "agent": 90}),
        ({"kind": "cloud-init"}, {"ip": 300, "agent": 600}),
        ({"kind": "cloud-init", "deadline_ready": "900"}, {"ip": 300, "agent": 600, "ready": 900}),
        ({"kind": "mini", "deadline_agent": "0", "deadline_ip": "1.5"}, {"ip": 1.5}),
    ],
)
def test_the_image_says_how_long_its_boots_take(properties: dict[str, str], deadlines: dict[str, float]) -> None:
    assert deadlines_of(properties) == deadlines


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"kind": "cloudinit"}, "kind=cloudinit: no kind of image (did you mean 'cloud-init'?)"),
        ({"deadline_ip": "soon"}, "deadline_ip=soon: expected seconds, 0 for never"),
        ({"deadline_ready": "-1"}, "deadline_ready=-1"),
        ({"deadline_agent": "nan"}, "deadline_agent=nan"),
        ({"deadline_agent": "inf"}, "deadline_agent=inf"),
    ],
)
def test_a_property_that_is_none_is_told(properties: dict[str, str], words: str) -> None:
    with pytest.raises(Usage) as told:
        deadlines_of(properties)
    assert words in str(told.value)


DEADLINES = {"ip": 60.0, "agent": 90.0, "ready": 600.0}


@pytest.mark.parametrize(
    ("reached", "now", "late", "following"),
    [
        ([], 1059.0, None, 1060.0),
        ([], 1060.0, ("ip", 60.0), 1090.0),
        ([], 1100.0, ("ip", 100.0), 1600.0),
        (["ip"], 1070.0, None, 1090.0),
        (["ip"], 1095.0, ("agent", 95.0), 1600.0),
        (["agent"], 1095.0, ("ip", 95.0), 1600.0),
        (["ip", "agent"], 1700.0, ("ready", 700.0), None),
        (["ip", "agent", "ready"], 9999.0, None, None),
    ],
)
def test_the_first_stage_that_is_missing_past_its_deadline_is_overdue(
    reached: list[str], now: float, late: tuple[str, float] | None, following: float | None
) -> None:
    stages = {stage: STARTED + 1 for stage in reached}
    assert overdue(stages, STARTED, DEADLINES, now) == late
    assert next_deadline(stages, STARTED, DEADLINES, now) == following


def test_a_stage_without_a_deadline_is_never_late() -> None:
    assert overdue({}, STARTED, {}, 1e12) is None
    assert next_deadline({}, STARTED, {}, STARTED) is None


SECONDS = st.floats(0.001, 1e6)


@given(st.dictionaries(st.sampled_from(STAGES), SECONDS), st.sets(st.sampled_from(STAGES)), SECONDS)
def test_at_the_next_deadline_something_is_overdue(
    deadlines: dict[str, float], reached: set[str], running_s: float
) -> None:
    stages = dict.fromkeys(reached, STARTED)
    at = next_deadline(stages, STARTED, deadlines, STARTED + running_s)
    if at is not None:
        assert at > STARTED + running_s
        assert overdue(stages, STARTED, deadlines, at + 0.001) is not None
