"""A program that runs on inside a set of namespaces: signals to it, its end, and what it says line by line."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

DEADLINE_S = 90.0


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {timeout_s:g} s: {what}")
        time.sleep(0.01)


def read_line(pipe: int, timeout_s: float = DEADLINE_S) -> str:
    """One line from a pipe that nobody else reads; what there is of it at the end of file. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"no line in {timeout_s:g} s")
            byte = os.read(pipe, 1)
            if not byte:
                break
            line += byte
    return line.decode().rstrip("\n")


class Daemon:
    """One program. `process` is the shell outside the PID namespace whose only child it is, and which ends with it:
    its exit code is the program's, or 128 and the number of the signal that ended it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        wait_for(lambda: children_of(process.pid) or process.poll() is not None, f"{log.name}: its program starts")
        found = children_of(process.pid)
        self._program: psutil.Process | None = None
        if found:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._program = psutil.Process(found[0])

    @property
    def program(self) -> psutil.Process:
        """The program's own process, by its PID outside. Raises ProcessLookupError when it had ended at once."""
        if self._program is None:
            raise ProcessLookupError(self.last_lines())
        return self._program

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """To the program alone; nothing happens when it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            self.program.send_signal(number)

    def pause(self, tree: bool = False) -> None:
        """SIGSTOP, to the program alone or also to those it started; returns when they stand still."""
        found = self._tree() if tree else [self.program]
        for process in found:
            process.suspend()
        wait_for(
            lambda: all(process.status() == psutil.STATUS_STOPPED for process in found),
            f"{self.log.name}: its program stops",
        )

    def resume(self, tree: bool = False) -> None:
        """SIGCONT, to the program alone or also to those it started."""
        for process in self._tree() if tree else [self.program]:
            process.resume()

    def kill(self, tree: bool = False) -> None:
        """SIGKILL, to the program alone or, after it, also to those it started; returns when the program has ended."""
        for process in self._tree() if tree else [self.program]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait()

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Its exit code. Raises TimeoutError with its last lines."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"has not ended in {timeout_s:g} s: {self.last_lines()}") from None
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    def last_lines(self) -> str:
        return f"{self.log}:\n{self.log.read_text(errors='replace')[-2000:]}"

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self.program, *self.program.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
