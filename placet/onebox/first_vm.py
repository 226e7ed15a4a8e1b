"""The first VM, asked for as a user would: by schedule.py. Never makes a second one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from placet.lifecycle import Stage
from placet.onebox.layout import PROJECT, StateDirectory
from placet.onebox.steps import StepFailed

NAME = "first"
RESOURCES = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:256"
WAIT_S = 180
LOOK_AGAIN_S = 0.2
# what is waited for; a guest may be further by the time it is looked at
STAGES = [stage.value for stage in list(Stage)[: list(Stage).index(Stage.IP) + 1]]
# the small image's only user
USER = "root"


class FirstVm:
    """The VM called `first`."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._shown: dict[str, Any] = {}

    def make(self) -> str:
        """Place it if it is not there, wait for its IP. Raises StepFailed."""
        was_there = bool(self._look())
        if not was_there:
            placed = self._schedule(RESOURCES, "--name", NAME)
            if placed.returncode != 0:
                raise self._failed(placed.stderr.strip().removeprefix("schedule.py: "))
        self._wait()
        return f"{self._shown['ip'] or 'no IP'}{' (it was there)' if was_there else ''}"

    def _wait(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while self._is_on_its_way(self._look()) and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_S)
        if self._shown.get("state") == "ERROR" or self._is_on_its_way(self._shown):
            wrong = self._shown.get("fault") or f"no IP after {WAIT_S} s, at stage {self._shown.get('stage')}"
            raise self._failed(f"the VM `{NAME}` did not come up: {wrong}")

    def _is_on_its_way(self, shown: dict[str, Any]) -> bool:
        return shown.get("state") in (None, "BUILD", "ACTIVE") and not shown.get("ip")

    def _failed(self, message: str) -> StepFailed:
        remedy = f"mend that, then python schedule.py destroy {NAME}, then ./up.sh again"
        return StepFailed(message, remedy, self._state.log("compute"))

    def summary(self) -> list[str]:
        """What a person needs to go on, at most 80 columns wide."""
        shown = self._shown
        ssh = [f"  ssh -i {self._state.key} {USER}@{shown['ip']}", ""] if shown.get("ip") else []
        times = shown.get("stages", {})
        stages = ", ".join(f"{stage} {_seconds(times[stage])}" for stage in STAGES if stage in times)
        where = [] if self._state.is_default else [f"  export PLACET_STATE_DIR={self._state.root}"]
        return [
            "",
            f"  uuid    {shown.get('uuid')}",
            f"  node    {shown.get('node')}",
            f"  IP      {shown.get('ip') or 'none'}",
            f"  after   {stages} s",
            "",
            *ssh,
            "Next, in this directory:",
            "  . .venv/bin/activate",
            *where,
            f"  python schedule.py '{RESOURCES}'",
            "  python schedule.py list",
            f"  python schedule.py destroy {NAME}",
        ]

    def _look(self) -> dict[str, Any]:
        """What `show` says of it; empty when it is not there."""
        found = self._schedule("show", NAME, "-f", "json")
        shown: dict[str, Any] = json.loads(found.stdout) if found.returncode == 0 else {}
        self._shown = {} if shown.get("deleted_at") else shown
        return self._shown

    def _schedule(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "schedule.py"), *words]
        environment = {**os.environ, "PLACET_STATE_DIR": str(self._state.root)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _seconds(took: float) -> str:
    return f"{took:.1f}" if took < 10 else f"{took:.0f}"
