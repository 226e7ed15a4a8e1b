"""Running commands in a guest through its agent: no network between the test and the guest."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import libvirt
import libvirt_qemu

ANSWER_S = 60


class Guest:
    """One guest of a libvirtd."""

    def __init__(self, uri: str, instance: str) -> None:
        self._libvirtd = libvirt.open(uri)
        self._domain = self._libvirtd.lookupByUUIDString(instance)

    def run(self, *argv: str, timeout_s: float = 120.0) -> tuple[int, str]:
        """Exit status and output of a command in the guest."""
        started = self._ask("guest-exec", path=argv[0], arg=list(argv[1:]), **{"capture-output": True})
        deadline = time.monotonic() + timeout_s
        while not (found := self._ask("guest-exec-status", pid=started["pid"]))["exited"]:
            assert time.monotonic() < deadline, f"{argv} has not ended in {timeout_s} s"
            time.sleep(0.05)
        output = base64.b64decode(found.get("out-data", "")) + base64.b64decode(found.get("err-data", ""))
        return found["exitcode"], output.decode(errors="replace")

    def shell(self, line: str) -> str:
        """The output of a shell line that must succeed."""
        status, output = self.run("/bin/sh", "-c", line)
        assert status == 0, f"{line}: exit {status}: {output}"
        return output.strip()

    def close(self) -> None:
        self._libvirtd.close()

    def _ask(self, command: str, **arguments: Any) -> Any:
        words = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(self._domain, words, ANSWER_S, 0))["return"]
