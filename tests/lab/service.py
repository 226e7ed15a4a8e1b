"""One program of the control plane: started, killed, paused and started again with the same data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import requests

from tests.lab.daemon import Daemon
from tests.lab.namespaces import Namespaces

READY_S = 120.0


class Service:
    """`command` is asked at each start. `url`, on loopback, answers when the service does."""

    def __init__(
        self,
        namespaces: Namespaces,
        name: str,
        command: Callable[[], Sequence[str]],
        url: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log: Path = namespaces.directory / "log" / f"{name}.out"
        self._namespaces = namespaces
        self._command = command
        self._url = url
        self._env = env
        self._daemon: Daemon | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there, if only paused."""
        return self._daemon is not None and self._daemon.running

    def start(self, wait: bool = True) -> None:
        """Start it, with the data of before; returns when it answers, or at once."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self._daemon = self._namespaces.start_daemon(*self._command(), env=self._env, log=self.log)
        if wait:
            self.wait_until_it_answers()

    def kill(self) -> None:
        """kill -9."""
        self.daemon.kill(tree=True)

    def restart(self) -> None:
        """kill -9 unless that was done already, then start."""
        if self.running:
            self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, and nobody answers."""
        self.daemon.pause(tree=True)

    def resume(self) -> None:
        """SIGCONT."""
        self.daemon.resume(tree=True)

    @property
    def daemon(self) -> Daemon:
        """Its process. Raises RuntimeError before the first start."""
        if self._daemon is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._daemon

    def wait_until_it_answers(self, timeout_s: float = READY_S) -> None:
        """Raises TimeoutError with its last lines. The lab's own link has to be whole for that."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.running:
            with contextlib.suppress(requests.RequestException):
                if requests.get(self._url, timeout=10).status_code < 500:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{self.name} does not answer: {self.daemon.last_lines()}")
