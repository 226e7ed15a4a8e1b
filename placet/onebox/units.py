"""Services as systemd units, so that the cloud survives a reboot (systemd.unit(5), systemd.service(5))."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from placet.onebox.layout import StateDirectory
from placet.onebox.services import Service
from placet.onebox.steps import StepFailed
from placet.onebox.supervisor import Running

UNIT_DIRECTORY = Path("/etc/systemd/system")
DIGEST_KEY = "Digest="
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SystemdUnits:
    """The units of one state directory: placet-NAME.service, with the directory's tag for a second cloud."""

    def __init__(self, state: StateDirectory, directory: Path = UNIT_DIRECTORY) -> None:
        self._state = state
        self._directory = directory

    def find(self, name: str) -> Running | None:
        unit = self._directory / unit_name(name, self._state)
        if not unit.exists():
            return None
        found = _properties(unit.name, "ActiveState", "MainPID", "ExecMainStartTimestampMonotonic")
        if found.get("ActiveState") != "active":
            return None
        started = int(found["ExecMainStartTimestampMonotonic"]) / 1e6
        since = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + started
        return Running(int(found["MainPID"]), since, _digest(unit.read_text()))

    def start(self, service: Service) -> None:
        unit = self._directory / unit_name(service.name, self._state)
        unit.write_text(unit_text(service, self._state))
        _systemctl("daemon-reload")
        _systemctl("reset-failed", unit.name, check=False)
        _systemctl("enable", "--quiet", unit.name)
        _systemctl("restart", unit.name)

    def has_failed(self, name: str) -> bool:
        found = _properties(unit_name(name, self._state), "NRestarts", "ActiveState")
        return found.get("ActiveState") == "failed" or int(found.get("NRestarts") or 0) > 0

    def stop(self, name: str, timeout_s: float) -> bool:
        unit = self._directory / unit_name(name, self._state)
        if not unit.exists():
            return False
        was_running = self.find(name) is not None
        _systemctl("disable", "--quiet", "--now", unit.name, timeout_s=timeout_s + 30)
        return was_running

    def forget(self, name: str) -> None:
        unit = self._directory / unit_name(name, self._state)
        if unit.exists():
            unit.unlink()
            _systemctl("daemon-reload")


def unit_name(service: str, state: StateDirectory) -> str:
    """placet-etcd.service, or placet-1a2b-etcd.service for a cloud elsewhere than in the default place."""
    return "-".join(["placet", *([state.tag] if state.tag else []), service]) + ".service"


def unit_text(service: Service, state: StateDirectory) -> str:
    """The unit of one service of the table."""
    after = [name if name.endswith(".service") else unit_name(name, state) for name in service.after]
    environment = {"PATH": SEARCH_PATH, **service.env}
    lines = [
        "[Unit]",
        f"Description=Placet {service.name} ({state.root})",
        f"After={' '.join(['network-online.target', *after])}",
        "Wants=network-online.target",
        "[Service]",
        "Type=exec",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items()),
        f"ExecStart={' '.join(_quoted(word) for word in service.argv)}",
        f"WorkingDirectory={state.root}",
        f"StandardOutput=append:{state.log(service.name)}",
        "StandardError=inherit",
        "Restart=always",
        "RestartSec=1",
        f"KillMode={'process' if service.keeps_children else 'mixed'}",
        f"TimeoutStopSec={service.stop_s}",
        "LimitNOFILE=65536",
        "[Install]",
        "WantedBy=multi-user.target",
        "[X-Placet]",  # systemd passes over sections whose names begin so
        f"{DIGEST_KEY}{service.digest()}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    """One word of ExecStart= or Environment=, as systemd.syntax(7) and the specifiers want it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _digest(text: str) -> str:
    return next((line[len(DIGEST_KEY) :] for line in text.splitlines() if line.startswith(DIGEST_KEY)), "")


def _properties(unit: str, *names: str) -> dict[str, str]:
    wanted = [f"--property={name}" for name in names]
    found = subprocess.run(["systemctl", "show", unit, *wanted], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in found.stdout.splitlines() if "=" in line)


def _systemctl(*words: str, check: bool = True, timeout_s: float = 120) -> None:
    found = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, timeout=timeout_s)
    if check and found.returncode != 0:
        raise StepFailed(f"systemctl {' '.join(words)}: {found.stderr.strip()}", f"systemctl status {words[-1]}")
