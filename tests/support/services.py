"""Real etcd and Placement for tests, in a directory of their own, on free ports of 127.0.0.1, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import requests

from placet.onebox.services import GUNICORN_CONFIG

READY_S = 120.0
# below those that the kernel itself gives to connections and to who asks for port 0 (ip_local_port_range): what is
# chosen here is still free when its server is started, and when it is started again
PORTS = range(15_000, 32_000)
ETCDCTL_PATIENCE = ("--dial-timeout=60s", "--command-timeout=60s")  # not its own 2 and 5 s: passwords cost etcd work


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    choose = SystemRandom()
    while True:
        port = choose.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):  # somebody has it: another one
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def fast_directory(name: str) -> Iterator[Path]:
    """A directory in memory where there is one: an fsync costs nothing there."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix=f"placet-{name}-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


class Process:
    """A child with its output in a file, so that a failed start can be told from its last lines."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_until_answers(self, url: str) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._child.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(url, timeout=10).status_code < 500:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{url} does not answer:\n{self.log.read_text()[-3000:]}")

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._child.terminate()
        self.resume()  # one that is paused would not hear of it
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()


@dataclass
class Etcd:
    """A real etcd. `start` after `stop` or `kill` continues with the same data and ports. `extra` goes to its argv."""

    directory: Path
    port: int
    peer_port: int
    process: Process | None = None
    extra: tuple[str, ...] = ()

    def start(self) -> None:
        url, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        argv = ["etcd", "--data-dir", str(self._data), "--name", "test", "--logger", "zap"]
        argv += ["--listen-client-urls", url, "--advertise-client-urls", url]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"test={peer}"]
        self.process = Process([*argv, *self.extra], self.directory / "etcd.log")
        self.process.wait_until_answers(f"{url}/health")

    @property
    def client(self) -> dict[str, object]:
        """The `etcd:` keys of a configuration."""
        return {"host": "127.0.0.1", "port": self.port}

    @property
    def running(self) -> Process:
        assert self.process, "etcd was not started"
        return self.process

    def pause(self) -> None:
        """It keeps its connections and answers nothing, until `resume`."""
        self.running.pause()

    def resume(self) -> None:
        self.running.resume()

    def kill(self) -> None:
        """As when it crashes or its machine does."""
        self.running.kill()

    def restart(self) -> None:
        """Killed and started again, with the same data."""
        self.kill()
        self.start()

    def ctl(self, *words: str, told: str = "") -> str:
        """What `etcdctl` prints; `told` is what it reads."""
        argv = ["etcdctl", "--endpoints", f"127.0.0.1:{self.port}", *ETCDCTL_PATIENCE, *words]
        env = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(argv, check=False, env=env, input=told, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"etcdctl {words}: {done.stderr}"
        return done.stdout

    def snapshot(self, path: Path) -> Path:
        """A backup of all it holds, as an operator makes it."""
        self.ctl("snapshot", "save", str(path))
        return path

    def restore(self, snapshot: Path, cluster: str = "etcd-cluster") -> None:
        """Kill it, and start it on what a snapshot holds. Another `cluster` name is another id."""
        self.kill()
        shutil.rmtree(self._data)
        peer = f"http://127.0.0.1:{self.peer_port}"
        words = ["--data-dir", str(self._data), "--name", "test", "--initial-cluster", f"test={peer}"]
        words += ["--initial-advertise-peer-urls", peer, "--initial-cluster-token", cluster]
        self.ctl("snapshot", "restore", str(snapshot), *words)
        self.start()

    @property
    def _data(self) -> Path:
        return self.directory / "etcd"


@dataclass
class PlacementServer:
    """A real Placement on SQLite under gunicorn, as up.sh runs it."""

    directory: Path
    port: int
    process: Process | None = None

    def start(self) -> None:
        env = {
            "OS_PLACEMENT_DATABASE__CONNECTION": f"sqlite:///{self.directory}/placement.sqlite",
            "OS_API__AUTH_STRATEGY": "noauth2",
            "OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP": "True",
        }
        argv = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG)]
        argv += ["--bind", f"127.0.0.1:{self.port}", "--workers", "1"]
        argv += ["--threads", "1", "placement.wsgi.api:application"]
        self.process = Process(argv, self.directory / "placement.log", env)
        self.process.wait_until_answers(self.endpoint)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def etcd_server(*extra: str) -> Iterator[Etcd]:
    """A running etcd; `extra` are further words of its command line."""
    with fast_directory("etcd") as directory:
        server = Etcd(directory, free_port(), free_port(), extra=extra)
        server.start()
        try:
            yield server
        finally:
            if server.process:
                server.process.stop()


@contextlib.contextmanager
def placement_server() -> Iterator[PlacementServer]:
    """A running Placement."""
    with fast_directory("placement") as directory:
        server = PlacementServer(directory, free_port())
        server.start()
        try:
            yield server
        finally:
            if server.process:
                server.process.stop()
