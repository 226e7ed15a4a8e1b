"""A guest under QEMU alone, without libvirt: started from an image, spoken to by its monitor, agent and console.

QEMU's own network (slirp) is closed with `restrict=on`: the guest gets a lease and reaches nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pycdlib

NO_NETWORK = ("-nic", "none")
USER_NETWORK = ("-nic", "user,model=virtio-net-pci,restrict=on")
POLL_S = 0.02
PATIENCE_S = 240.0  # a boot without KVM takes a minute where others want the processors, too
ANSWER_S = 60.0


def wait_until(what: str, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> float:
    """Wait for a condition to be true; returns the seconds it took. Raises TimeoutError that says for what."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(POLL_S)
    return time.monotonic() - started


def create_overlay(image: Path, disk: Path, size_gib: int = 1) -> Path:
    """A qcow2 disk of that size on top of an image, which stays as it is."""
    create = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        str(image.resolve()),
        str(disk),
        f"{size_gib}G",
    ]
    subprocess.run(create, check=True)
    return disk


def write_iso(path: Path, label: str, files: Mapping[str, str]) -> Path:
    """A config drive: an ISO 9660 file with Rock Ridge names, as cloud-init wants it."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=4, rock_ridge="1.09", vol_ident=label)
    made: set[Path] = {Path()}
    for name, text in files.items():
        for parent in reversed(Path(name).parents):
            if parent not in made:
                iso.add_directory(f"/{parent}", rr_name=parent.name)
                made.add(parent)
        content = text.encode()
        iso.add_fp(io.BytesIO(content), len(content), f"/{name}", rr_name=Path(name).name)
    iso.write(str(path))
    iso.close()
    return path


@dataclass(frozen=True)
class Exited:
    """How a program in the guest ended."""

    status: int
    output: str


class JsonChannel:
    """One JSON object a line over a unix socket, as both QEMU's monitor and the guest agent speak."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def send(self, command: str, arguments: Mapping[str, object]) -> None:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        line = self._lines.readline().lstrip(b"\xff")
        if not line:
            raise ConnectionError("the other side has closed the channel")
        return cast("dict[str, Any]", json.loads(line))

    def call(self, command: str, **arguments: object) -> Any:
        self.send(command, arguments)
        while True:
            answer = self.receive()
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class BareGuest:
    """A running guest; `directory` holds its sockets and its console's output."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.started = time.monotonic()
        wait_until("QEMU's sockets", (directory / "agent").exists)
        self._monitor = JsonChannel(directory / "monitor", ANSWER_S)
        self._monitor.receive()
        self._monitor.call("qmp_capabilities")

    def console(self) -> str:
        return (self._directory / "console").read_text(errors="replace")

    def wait_for_console(self, text: str, times: int = 1, timeout_s: float = PATIENCE_S) -> float:
        """Wait until the console has shown a text so often; returns the seconds since the guest was started."""
        wait_until(f"{text!r} on the console", lambda: self.console().count(text) >= times, timeout_s)
        return time.monotonic() - self.started

    def wait_for_agent(self, timeout_s: float = PATIENCE_S) -> float:
        """Wait until the agent answers; returns the seconds since the guest was started."""
        wait_until("the guest agent", self._agent_answers, timeout_s)
        return time.monotonic() - self.started

    def _agent_answers(self) -> bool:
        token = time.monotonic_ns() % 2**31
        try:
            with contextlib.closing(JsonChannel(self._directory / "agent", timeout_s=5)) as channel:
                channel.send("guest-sync", {"id": token})
                while channel.receive() != {"return": token}:
                    pass  # the late answer to an earlier question
                return True
        except (OSError, ValueError):
            return False

    def agent(self, command: str, **arguments: object) -> Any:
        with contextlib.closing(JsonChannel(self._directory / "agent", ANSWER_S)) as channel:
            return channel.call(command, **arguments)

    def agent_tell(self, command: str, **arguments: object) -> None:
        """For the commands that have no answer, such as guest-shutdown."""
        with contextlib.closing(JsonChannel(self._directory / "agent", ANSWER_S)) as channel:
            channel.send(command, arguments)

    def run(self, shell_command: str) -> Exited:
        """Run a shell command in the guest by its agent; the output is stdout and stderr."""
        arguments = ["-c", f"{{ {shell_command}\n}} 2>&1"]
        pid = self.agent("guest-exec", path="/bin/sh", arg=arguments, **{"capture-output": True})["pid"]
        status: dict[str, Any] = {"exited": False}
        while not status["exited"]:
            time.sleep(POLL_S)
            status = self.agent("guest-exec-status", pid=pid)
        return Exited(status["exitcode"], base64.b64decode(status.get("out-data", "")).decode(errors="replace"))

    def press_power_button(self) -> None:
        self._monitor.call("system_powerdown")

    def reset(self) -> None:
        self._monitor.call("system_reset")

    def wait_for_exit(self, timeout_s: float = PATIENCE_S) -> float:
        """Wait until QEMU has ended, as it does when the guest powers off; returns how many seconds it took."""
        return wait_until("power off", lambda: self._process.poll() is not None, timeout_s)

    def close(self) -> None:
        self._monitor.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def bare_guest(
    disk: Path, *, drives: Sequence[Path] = (), memory_mb: int = 128, network: Sequence[str] = USER_NETWORK
) -> Iterator[BareGuest]:
    """Boot a disk, with further read-only drives, on one TCG processor; the guest is gone when the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="bare-guest-"))
    command = ["qemu-system-x86_64", "-accel", "tcg", "-smp", "1", "-m", str(memory_mb), *network]
    command += ["-nodefaults", "-display", "none", "-serial", f"file:{directory}/console"]
    command += ["-qmp", f"unix:{directory}/monitor,server=on,wait=off"]
    command += ["-drive", f"file={disk},format=qcow2,if=virtio,cache=unsafe"]
    for drive in drives:
        command += ["-drive", f"file={drive},format=raw,if=virtio,readonly=on"]
    command += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    command += ["-chardev", f"socket,id=agent,path={directory}/agent,server=on,wait=off"]
    process = subprocess.Popen(command)
    try:
        guest = BareGuest(process, directory)
        yield guest
        guest.close()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)
