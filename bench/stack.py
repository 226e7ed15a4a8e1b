"""A cloud of its own for a bench: what up.sh starts, in a directory that is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from placet.compute_config import ComputeConfig, load_compute
from placet.config import BESIDE_SCRIPT, ScheduleConfig, load_schedule


class Stack:
    """A running cloud with one node."""

    def __init__(self, state_dir: Path) -> None:
        self.compute: ComputeConfig = load_compute(str(state_dir / "compute.yaml"))
        self.schedule: ScheduleConfig = load_schedule(str(state_dir / "schedule.yaml"))
        self._state_dir = state_dir

    @property
    def agent(self) -> psutil.Process:
        """The process of compute.py."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if str(self._state_dir / "compute.yaml") in words and any(word.endswith("compute.py") for word in words):
                return process
        raise RuntimeError("compute.py does not run")


@contextlib.contextmanager
def running() -> Iterator[Stack]:
    """Start it, and destroy it whatever happens."""
    state_dir = Path(tempfile.mkdtemp(prefix="placet-bench-", dir="/var/tmp"))
    state_dir.rmdir()
    environment = {**os.environ, "PLACET_STATE_DIR": str(state_dir)}

    def onebox(*words: str) -> None:
        command = [sys.executable, "-m", "placet.onebox", *words]
        done = subprocess.run(
            command, cwd=BESIDE_SCRIPT, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            raise RuntimeError(done.stdout.decode())

    try:
        onebox("up", "--no-vm", "--own-libvirt")
        yield Stack(state_dir)
    finally:
        if state_dir.exists():
            onebox("destroy", "--yes")
        shutil.rmtree(state_dir, ignore_errors=True)
