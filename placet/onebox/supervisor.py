"""What both ways of running services offer: plain daemons (processes.py) and systemd units (units.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from placet.onebox.layout import StateDirectory
from placet.onebox.machine import has_systemd
from placet.onebox.services import Service


@dataclass(frozen=True)
class Running:
    """A service that runs. `since` is seconds since the epoch; `digest` is that of the table's entry it came from."""

    pid: int
    since: float
    digest: str


class Supervisor(Protocol):
    """Knows services by name, so that it can stop what a newer table has no more."""

    def find(self, name: str) -> Running | None:
        """The service as it runs now."""

    def start(self, service: Service) -> None:
        """Start it; it was not running. Whether it got ready is for the caller to see."""

    def has_failed(self, name: str) -> bool:
        """Whether it was started by this program and has ended since."""

    def stop(self, name: str, timeout_s: float) -> bool:
        """Stop it and what is left of it; whether there was anything."""

    def forget(self, name: str) -> None:
        """Remove what makes it start again by itself. Call it after `stop`."""


def supervisor_for(state: StateDirectory) -> Supervisor:
    """systemd's where systemd runs this machine, so that the cloud survives a reboot."""
    if has_systemd():
        from placet.onebox.units import SystemdUnits  # noqa: PLC0415 - one of two

        return SystemdUnits(state)
    from placet.onebox.processes import PlainProcesses  # noqa: PLC0415

    return PlainProcesses(state)
