"""Services as plain detached daemons, for machines without systemd.

A pid file says which process a service is. A process is taken for ours only if its environment carries the
service's mark as well, so a PID that was given to somebody else meanwhile is never killed. Processes with the mark
but without a living main process (gunicorn's workers after a kill -9 of their parent) are leftovers, and are ended
before the service starts again.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from placet.onebox.layout import StateDirectory
from placet.onebox.services import Service
from placet.onebox.supervisor import Running

MARK = "PLACET_SERVICE"
LOOK_AGAIN_S = 0.02
LOG_LIMIT_BYTES = 10 * 2**20


class PlainProcesses:
    """The services of one state directory."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def find(self, name: str) -> Running | None:
        try:
            found = json.loads(self._state.pid_file(name).read_text())
            running = Running(int(found["pid"]), float(found["since"]), str(found["digest"]))
            process = psutil.Process(running.pid)
        except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
            return None
        return running if self._is_marked(process, name) else None

    def start(self, service: Service) -> None:
        self._end_leftovers(service.name, timeout_s=5)
        log = self._state.log(service.name)
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        environment = {**os.environ, **service.env, MARK: self._mark(service.name)}
        with log.open("ab") as output:
            child = subprocess.Popen(
                service.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment, cwd=self._state.root, start_new_session=True,
            )  # fmt: skip
        self._children[service.name] = child
        record = {"pid": child.pid, "since": psutil.Process(child.pid).create_time(), "digest": service.digest()}
        _write(self._state.pid_file(service.name), json.dumps(record))

    def has_failed(self, name: str) -> bool:
        child = self._children.get(name)
        return child is not None and child.poll() is not None

    def stop(self, name: str, timeout_s: float) -> bool:
        running = self.find(name)
        if running is not None:
            _end([psutil.Process(running.pid)], timeout_s)
        left = self._end_leftovers(name, timeout_s=5)
        self._state.pid_file(name).unlink(missing_ok=True)
        return running is not None or left

    def forget(self, name: str) -> None:
        """Nothing starts a plain process again by itself."""

    def _end_leftovers(self, name: str, timeout_s: float) -> bool:
        left = list(self._marked(name))
        _end(left, timeout_s)
        return bool(left)

    def _marked(self, name: str) -> Iterator[psutil.Process]:
        return (process for process in psutil.process_iter() if self._is_marked(process, name))

    def _is_marked(self, process: psutil.Process, name: str) -> bool:
        try:
            return process.environ().get(MARK) == self._mark(name)
        except (psutil.Error, OSError):
            return False  # it has just ended, or is a kernel's

    def _mark(self, name: str) -> str:
        return f"{self._state.root}:{name}"


def _end(processes: list[psutil.Process], timeout_s: float) -> None:
    """SIGTERM, then SIGKILL for those that are still there after the time."""
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            try:
                act(process)
            except psutil.NoSuchProcess:
                continue
        processes = _left_after(processes, timeout_s)


def _left_after(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that still run after the time. A zombie does not: some machines' PID 1 is slow to reap."""
    deadline = time.monotonic() + timeout_s
    while (processes := [each for each in processes if _runs(each)]) and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_S)
    return processes


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
