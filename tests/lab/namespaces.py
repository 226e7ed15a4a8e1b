"""A set of namespaces with an init of its own: what a host of the lab is made of, and its switch.

Network, mount, PID, UTS and IPC namespace; the file system is the machine's but for what the init mounts. They live as
long as the pipe to their init (tests/lab/init.py) is held: closing it, or the death of this process, ends every process
in them, and with them namespaces, mounts and interfaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.lab.daemon import Daemon, children_of, read_line

INIT = Path(__file__).with_name("init.py")
KINDS = ("--net", "--mount", "--pid", "--uts", "--ipc")
RUN_S = 120.0
# unlike nsenter's own fork it is not stopped when its child is, so that nothing has to wake it if this process dies
AS_CHILD = ("sh", "-c", '"$@"; exit $?', "sh")


class Namespaces:
    """`directory` is theirs alone, seen at the same path inside and outside. `mounts` are its parts by name, and where
    each is seen inside."""

    mounts: Mapping[str, str] = {}

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._init: subprocess.Popen[bytes] | None = None
        self._daemons: list[Daemon] = []

    @property
    def init_pid(self) -> int:
        """Their PID 1, as the machine counts. Raises RuntimeError when they are not up."""
        found = children_of(self._init.pid) if self._init else []
        if not found:
            raise RuntimeError(f"{self.name} is not up")
        return found[0]

    def up(self) -> None:
        """Make them; returns when their init has mounted everything."""
        for name in ("log", *self.mounts):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        mounts = [f"{name}={place}" for name, place in self.mounts.items()]
        unshare = ["unshare", *KINDS, "--mount-proc", "--fork", "--kill-child"]
        self._init = subprocess.Popen(
            [*unshare, sys.executable, str(INIT), str(self.directory), *mounts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._init.stdout is not None
        if read_line(self._init.stdout.fileno()) != "ready":
            raise RuntimeError(f"{self.name}: its init ended with {self._init.wait()}; are you root?")
        self.run("hostname", self.name)
        self.run("ip", "link", "set", "lo", "up")

    def down(self) -> None:
        """End everything in them and remove their directory."""
        if self._init is not None:
            assert self._init.stdin is not None and self._init.stdout is not None
            self._init.stdin.close()
            self._init.wait()
            self._init.stdout.close()
        for daemon in self._daemons:
            daemon.wait()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def start_daemon(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        piped: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> Daemon:
        """Start a program that goes on running inside. Its output goes to `log`; if `piped`, its stdout doesn't, and
        both stdin and stdout are ours."""
        log = log or self.directory / "log" / f"{Path(command[0]).name}.out"
        with log.open("ab") as lines:
            process = subprocess.Popen(
                [*self._enter(), "--no-fork", "--", *AS_CHILD, *command],
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else lines,
                stderr=lines,
                bufsize=0,
                env={**os.environ, **(env or {})},
                pass_fds=pass_fds,
                start_new_session=True,
            )
        daemon = Daemon(process, log)
        self._daemons.append(daemon)
        return daemon

    def run(self, *command: str, timeout_s: float = RUN_S) -> str:
        """Run a program inside; its stdout. Raises CalledProcessError."""
        return _run([*self._enter(), "--", *command], timeout_s)

    def run_in_network(self, *command: str) -> str:
        """Run a program in the network namespace alone: it knows PIDs as the machine counts. Its stdout."""
        return _run(["nsenter", f"--net=/proc/{self.init_pid}/ns/net", "--", *command], RUN_S)

    def _enter(self) -> list[str]:
        return enter_command(self.init_pid)


def enter_command(init_pid: int) -> list[str]:
    """What enters the namespaces of a PID 1; options and a program follow."""
    return ["nsenter", f"--target={init_pid}", *KINDS]


def running() -> dict[Path, int]:
    """The PID 1 of each set of namespaces on this machine, whoever made it, by its directory."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[1:2] == [str(INIT)]:
            found[Path(words[2])] = process.pid
    return found


def _run(command: Sequence[str], timeout_s: float) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_s).stdout
