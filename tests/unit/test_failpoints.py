"""Named points at which a test can end the programs: they exist, do nothing unarmed, and a wrong name is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import placet
from placet.config import BESIDE_SCRIPT
from placet.errors import Usage
from placet.failpoints import POINTS, VARIABLE, arm_from_environment, at, reach

SOURCES = sorted(Path(placet.__file__).parent.rglob("*.py"))


def test_every_point_is_reached_somewhere_and_every_reached_one_is_named() -> None:
    calls = [call for source in SOURCES for call in re.findall(r"\breach\((.*)\)", source.read_text())]
    reached = {point for call in calls for point in re.findall(r'"([a-z.-]+)"', call)}
    assert reached == POINTS


def test_nothing_happens_at_a_point_that_is_not_armed() -> None:
    for point in POINTS:
        reach(point)


def test_a_point_is_armed_for_the_length_of_a_with_and_alone() -> None:
    reached: list[str] = []
    with at("create.claimed", lambda: reached.append("claimed")):
        reach("create.claimed")
        reach("create.committed")
        reach("create.claimed")
    reach("create.claimed")
    assert reached == ["claimed", "claimed"]


def test_a_point_is_disarmed_also_when_the_test_fails() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), at("create.claimed", fail):
        reach("create.claimed")
    reach("create.claimed")


def test_a_point_that_does_not_exist_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Usage, match=r"no point 'create\.claimd' \(did you mean 'create\.claimed'\?\)"):
        with at("create.claimd", lambda: None):
            pass
    monkeypatch.setenv(VARIABLE, "")
    arm_from_environment()


@pytest.mark.parametrize("program", ["schedule.py", "compute.py"])
def test_a_wrong_point_in_the_environment_is_one_line_and_exit_2(program: str) -> None:
    done = run(program, "create.claimd", "--help")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"{program}: {VARIABLE}: no point 'create.claimd' (did you mean 'create.claimed'?)\n"


@pytest.mark.parametrize("program", ["schedule.py", "compute.py"])
def test_a_point_that_is_never_reached_changes_nothing(program: str) -> None:
    done = run(program, "create.claimed", "--help")
    assert (done.returncode, done.stderr) == (0, "") and "usage:" in done.stdout


def test_an_armed_point_ends_the_process_as_a_power_cut_does() -> None:
    code = (
        "from placet.failpoints import arm_from_environment, reach; arm_from_environment();"
        "reach('create.claimed'); print('before', flush=True); reach('create.committed'); print('after', flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment("create.committed"),
        cwd=BESIDE_SCRIPT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"before\n")


def run(program: str, point: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BESIDE_SCRIPT / program), *words],
        env=environment(point),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment(point: str) -> dict[str, str]:
    return {**os.environ, VARIABLE: point}
