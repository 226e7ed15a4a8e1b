"""A node of the lab: a host, its link to the control plane, and the agent that runs there."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from placet import keys
from placet.config import BESIDE_SCRIPT
from placet.errors import PlacetError
from placet.model import decode
from placet.node_records import Alive
from placet.store import Store
from tests.lab.daemon import Daemon, wait_for
from tests.lab.hosts import Host
from tests.lab.link import Link
from tests.lab.switch import Switch

READY_S = 120.0
STOP_S = 120.0


class LabNode:
    """`config` is its compute.yaml, written at each start of the agent. `number` is its port at the switch."""

    def __init__(
        self, host: Host, number: int, switch: Switch, link: Link, store: Store, config: dict[str, Any]
    ) -> None:
        self.host = host
        self.link = link
        self.config = config
        self._number = number
        self._switch = switch
        self._store = store
        self._agent: Daemon | None = None
        self._started_at = 0.0

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def state_dir(self) -> Path:
        return Path(self.config["state_dir"])

    @property
    def uuid(self) -> str:
        """What its agent made at its first start. Raises FileNotFoundError before that."""
        return str(self.config.get("uuid") or (self.state_dir / "node-uuid").read_text().strip())

    def unplug(self) -> None:
        """Take its cable out at the switch: frames are lost, nothing is refused."""
        self._switch.unplug(self._number)

    def plug(self) -> None:
        """Undo `unplug`."""
        self._switch.plug(self._number)

    def start_agent(self, env: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None) -> None:
        """Start the agent, with more in its environment, and other settings from now on; `wait_ready` waits for it."""
        if self.agent_running:
            raise RuntimeError(f"{self.name}: its agent runs already")
        self.config.update(settings or {})
        path = self.host.directory / "compute.yaml"
        path.write_text(yaml.safe_dump(self.config))
        self._started_at = time.time()
        command = (sys.executable, str(BESIDE_SCRIPT / "compute.py"), "--config", str(path))
        self._agent = self.host.start_daemon(*command, env=env, log=self._log)

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until etcd has `alive` of the agent that was started last. Raises TimeoutError, or what it said if it
        has ended."""
        wait_for(lambda: self._is_alive() or not self.agent_running, f"{self.name}: its agent is ready", timeout_s)
        if not self.agent_running:
            raise RuntimeError(f"{self.name}: its agent ended: {self.agent.last_lines()}")

    def kill_agent(self) -> None:
        """kill -9, to the agent's process alone."""
        self.agent.kill()

    def stop_agent(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM; its exit code once it has ended."""
        self.agent.signal(signal.SIGTERM)
        return self.agent.wait(timeout_s)

    def wait_agent_exit(self, timeout_s: float = STOP_S) -> int:
        """Its exit code once it has ended by itself; 128 and the signal's number if by one."""
        return self.agent.wait(timeout_s)

    def pause_agent(self) -> None:
        """SIGSTOP, to the agent's process alone."""
        self.agent.pause()

    def resume_agent(self) -> None:
        """SIGCONT."""
        self.agent.resume()

    @property
    def agent_running(self) -> bool:
        """Whether its process is there, if only paused."""
        return self._agent is not None and self._agent.running

    @property
    def agent_log(self) -> str:
        """Everything that its agents have said."""
        return self._log.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Processor time of the running agent, in user and kernel mode."""
        times = self.agent.program.cpu_times()
        return float(times.user + times.system)

    @property
    def agent(self) -> Daemon:
        """Its process. Raises RuntimeError before the first start."""
        if self._agent is None:
            raise RuntimeError(f"{self.name}: its agent was not started")
        return self._agent

    @property
    def _log(self) -> Path:
        return self.host.directory / "agent.log"

    def _is_alive(self) -> bool:
        with contextlib.suppress(PlacetError, FileNotFoundError):
            found = self._store.get(keys.alive(self.uuid))
            return found is not None and decode(Alive, found.value, found.key).started_at >= self._started_at
        return False
