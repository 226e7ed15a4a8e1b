"""Running a command as a user does, to its end: schedule.py in this process, or any as a process of its own, which
says where it hangs before it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from placet.cli.doctor import FIXED, FOUND
from placet.cli.main import main
from placet.compute_config import ComputeConfig

DEADLINE_S = 240.0
QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:256"


@dataclass(frozen=True)
class Told:
    """What a command said."""

    code: int
    out: str
    err: str


class ScheduleCommand:
    """schedule.py in this process, with a configuration of its own: every error must be one line, no traceback."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self._capsys = capsys

    @classmethod
    def configured(cls, node: ComputeConfig, config: Path, capsys: pytest.CaptureFixture[str]) -> ScheduleCommand:
        """For the cloud that a node is of."""
        text = {"etcd": node.etcd, "etcd_prefix": node.etcd_prefix, "placement": {"endpoint": node.placement.endpoint}}
        config.write_text(yaml.safe_dump(text))
        return cls(config, capsys)

    def __call__(self, *words: str) -> Told:
        self._capsys.readouterr()
        code = main(["--config", str(self.config), *words])
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err
        if code not in (0, FOUND, FIXED):
            assert told.err.count("\n") == 1, told.err
        return Told(code, told.out, told.err)

    def place(self, name: str, *words: str) -> str:
        """The UUID of a new instance that has its IP."""
        told = self("create", QUERY, "--name", name, "--wait", *words)
        assert told.code == 0, told.err
        return told.out.split("INSTANCE ")[1][:36]

    def doctor(self, *words: str) -> tuple[int, list[tuple[str, str, bool]]]:
        """doctor's exit code and its findings: kind, subject, whether it is repaired."""
        told = self("doctor", "-f", "json", *words)
        return told.code, [(row["kind"], row["subject"], row["repaired"]) for row in json.loads(told.out)]


def run_command(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, timeout_s: float = DEADLINE_S
) -> Told:
    """Its exit code and output. One that is not done in time prints every thread's stack and fails the test."""
    environment = {**os.environ, **(environment or {}), "PYTHONFAULTHANDLER": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, env=environment, cwd="/", text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            out, err = _last_words(process)
            raise AssertionError(f"{' '.join(argv)} was not done in {timeout_s:g} s:\n{out}\n{err}") from None
    return Told(process.returncode, out, err)


def _last_words(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        return "", "(nothing: killed)"
