"""`destroy`: remove this cloud from this machine: guests, networks, services, data. Nothing of anybody else's."""

from __future__ import annotations

import shutil

import libvirt

from placet.onebox import checks, libvirt_files
from placet.onebox.guests import Guests
from placet.onebox.layout import StateDirectory
from placet.onebox.machine import Machine
from placet.onebox.services import services
from placet.onebox.settings import Settings
from placet.onebox.starting import Starter
from placet.onebox.steps import StepFailed, Steps
from placet.onebox.supervisor import Supervisor


class Destroy:
    """One run of `destroy`; the caller holds the state directory's lock and has asked."""

    def __init__(self, settings: Settings, state: StateDirectory, supervisor: Supervisor) -> None:
        self._settings = settings
        self._state = state
        self._supervisor = supervisor
        self._guests = Guests(settings, state)
        self._table = {service.name: service for service in services(settings, state)}

    def run(self, steps: Steps) -> int:
        """All steps; can be repeated when one failed."""
        steps.run("node", lambda: self._stop("compute"))
        steps.run("guests", self._remove_guests)
        steps.run("services", self._stop_all)
        steps.run("data", self._remove_data)
        return 0

    def _remove_guests(self) -> str:
        if self._settings.libvirt.host_uuid is not None:
            self._start_libvirt(self._settings.libvirt.host_uuid)
        try:
            foreign = self._guests.look().foreign if self._settings.libvirt.ours else ()
            if foreign:
                raise StepFailed(
                    f"this cloud's libvirtd has domains that are not Placet's: {', '.join(foreign)}",
                    f"move or remove them: virsh -c {self._settings.libvirt.uri}",
                )
            return f"{self._guests.remove()} removed"
        except libvirt.libvirtError as problem:
            raise StepFailed(
                f"guests could not be removed: {problem}", "start libvirtd, then run ./up.sh destroy again"
            ) from problem

    def _start_libvirt(self, host_uuid: str) -> None:
        """A libvirtd of our own has to run for its guests to be found."""
        libvirt_files.write(self._state, host_uuid)
        starter = Starter(self._supervisor, self._state, Machine())
        log_socket = self._state.libvirt / "run" / "virtlogd-sock"
        starter.ensure(self._table["virtlogd"], lambda _: checks.listens(log_socket))
        starter.ensure(self._table["libvirtd"], lambda _: checks.libvirtd(self._settings.libvirt.uri))

    def _stop_all(self) -> str:
        stopped = [name for name in reversed(self._table) if self._stop(name) == "stopped"]
        for name in self._table:
            self._supervisor.forget(name)
        return f"stopped: {', '.join(stopped) or 'none was running'}"

    def _stop(self, name: str) -> str:
        stopped = self._supervisor.stop(name, self._table[name].stop_s)
        return "stopped" if stopped else "was not running"

    def _remove_data(self) -> str:
        shutil.rmtree(self._state.root.resolve())  # links inside it are removed, never followed
        return f"{self._state.root} removed"
