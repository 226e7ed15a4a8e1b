"""The node's metadata service as a child of the agent: started when it isn't there, started again when it died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from placet.log import log, warn

STOP_TIMEOUT_S = 5.0
PROJECT = Path(__file__).resolve().parent.parent


class MetadataProcess:
    """Runs `python -m md_server` on the guests' bridge. The child ends when this process does: its stdin is our pipe.

    Not thread-safe: one thread of the agent calls `ensure` every few seconds.
    """

    def __init__(
        self, records: Path, published: Path, device: str, *options: str, log_file: Path | None = None
    ) -> None:
        """`records` and `published` are guest_records' directories, `options` others of md_server's; without `log_file`
        the child's lines go where ours do."""
        self._command = [
            *(sys.executable, "-m", "md_server", "--until-eof", "--records", str(records.absolute())),
            *("--published", str(published.absolute()), "--device", device, *options),
        ]
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's, None when there is none."""
        return None if self._process is None else self._process.pid

    def ensure(self) -> bool:
        """Whether the child was running; starts it if not. What ails one that keeps dying stands in its last lines."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return True
            warn("metadata-service-died", status=status)
            self._let_go()
        self._start()
        return False

    def stop(self) -> None:
        """End the child, by force when it does not go; without one this does nothing."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def _start(self) -> None:
        # -m finds md_server in the working directory, or where this package is installed beside it
        if self._log_file is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, cwd=PROJECT)
        else:
            with self._log_file.open("ab") as lines:
                self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stderr=lines, cwd=PROJECT)
        log("metadata-service-spawned", pid=self._process.pid)

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
