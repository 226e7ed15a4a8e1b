"""A link that tests disturb: the relay program (tests/lab/relay.py) inside a set of namespaces."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.daemon import Daemon, read_line
from tests.lab.namespaces import Namespaces

RELAY = Path(__file__).with_name("relay.py")


class Link:
    """`routes` says where each FROM (HOST:PORT, or fd:NUMBER for an inherited socket) leads. Each of the methods
    returns when it has taken effect; they may be combined."""

    def __init__(self, namespaces: Namespaces, routes: Mapping[str, str], sockets: Sequence[int] = ()) -> None:
        words = [f"{source}={target}" for source, target in routes.items()]
        self._relay: Daemon = namespaces.start_daemon(
            *(sys.executable, "-I", str(RELAY), *words),
            log=namespaces.directory / "log" / "relay.out",
            piped=True,
            pass_fds=sockets,
        )
        self._expect("ready")

    def cut(self) -> None:
        """Close all connections and refuse new ones."""
        self._tell("cut")

    def silence(self) -> None:
        """Accept and keep connections, pass nothing on, either way."""
        self._tell("drop")

    def delay(self, seconds: float) -> None:
        """Hold each chunk back for so long, either way."""
        self._tell(f"delay {seconds}")

    def heal(self) -> None:
        """As if nothing had been."""
        self._tell("heal")

    def _tell(self, command: str) -> None:
        assert self._relay.process.stdin is not None
        self._relay.process.stdin.write(f"{command}\n".encode())
        self._expect("ok")

    def _expect(self, word: str) -> None:
        assert self._relay.process.stdout is not None
        said = read_line(self._relay.process.stdout.fileno())
        if said != word:
            raise RuntimeError(f"relay: {said or self._relay.last_lines()}")
