"""`up`: every step from an empty directory to the first VM. Each can be repeated, and does only what is missing."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable
from dataclasses import replace

from placet.onebox import checks, configs, first_vm, image, libvirt_files, placement_database, settings
from placet.onebox.choose import Chooser, check_range, join_command, remarks
from placet.onebox.layout import StateDirectory
from placet.onebox.machine import Machine
from placet.onebox.options import UpOptions
from placet.onebox.records import Records
from placet.onebox.services import Service, services
from placet.onebox.settings import Settings
from placet.onebox.sshkey import make_key
from placet.onebox.starting import Check, Starter
from placet.onebox.steps import StepFailed, Steps
from placet.onebox.supervisor import Supervisor

LEAST_FREE_BYTES = 2**30


class Up:
    """One run of `up`; the caller holds the state directory's lock."""

    def __init__(
        self, options: UpOptions, state: StateDirectory, steps: Steps, machine: Machine, supervisor: Supervisor
    ) -> None:
        self._options = options
        self._state = state
        self._steps = steps
        self._starter = Starter(supervisor, state, machine)
        self._chooser = Chooser(options, state, machine)

    def run(self) -> int:
        """All steps. Raises PlacetError from the one that failed."""
        settings_now = self._settings()
        step = self._steps.run
        step("etcd", lambda: self._etcd(settings_now))
        step("placement", lambda: self._placement(settings_now))
        step("libvirt", lambda: self._libvirt(settings_now))
        step("key", self._key)
        step("files", lambda: self._files(settings_now))
        step("node", lambda: self._node(settings_now))
        self._remember_cloud(settings_now)
        step("image", lambda: self._image(settings_now))
        if not self._options.no_vm and not settings_now.joined:
            self._first_vm()
        if settings_now.listen and not settings_now.joined:
            self._steps.say(f"\nOn another machine:\n  {join_command(settings_now)}")
        return 0

    def _first_vm(self) -> None:
        vm = first_vm.FirstVm(self._state)
        self._steps.run("first VM", vm.make)
        for line in vm.summary():
            self._steps.say(line)

    def _settings(self) -> Settings:
        known = settings.load(self._state.settings)
        if self._options.network:
            check_range(self._options.network)
        chosen = self._chooser.again(known) if known else self._chooser.fresh(_new_uuid)
        self._steps.run("state", lambda: self._state_directory(chosen))
        for remark in remarks(chosen, self._state):
            self._steps.note(remark)
        return chosen

    def _state_directory(self, chosen: Settings) -> str:
        new = not self._state.settings.exists()
        self._state.make()
        closed = [path for path in self._state.root.resolve().parents if not path.stat().st_mode & stat.S_IXOTH]
        if closed:
            raise StepFailed(
                f"{closed[0]} lets nobody but its owner through, so guests (which don't run as root) can't reach disks",
                f"chmod o+x {closed[0]}, or choose another place: PLACET_STATE_DIR=/elsewhere ./up.sh",
            )
        if shutil.disk_usage(self._state.root).free < LEAST_FREE_BYTES:
            raise StepFailed(
                f"{self._state.root}: less than 1 GiB of its file system is free",
                "make room there, or choose another place: PLACET_STATE_DIR=/elsewhere ./up.sh",
            )
        settings.save(chosen, self._state.settings)
        return f"{self._state.root}{' (new)' if new else ''}"

    def _etcd(self, chosen: Settings) -> str:
        def check(_started: float) -> str | None:
            return checks.etcd(chosen.etcd)

        place = f"{chosen.etcd.host}:{chosen.etcd.port}"
        if not chosen.etcd.ours:
            return _answers(f"etcd at {place}", check, "start it, or see to the way there; --etcd names it")
        return f"{place} {self._ensure('etcd', chosen, check)}"

    def _placement(self, chosen: Settings) -> str:
        def check(_started: float) -> str | None:
            return checks.placement(chosen.placement)

        url = chosen.placement.url
        if chosen.placement.database is None:
            return _answers(f"Placement at {url}", check, "start it, or see to the way there; --placement names it")
        placement_database.prepare(chosen.placement.database, self._state)
        return f"{url} {self._ensure('placement', chosen, check)}"

    def _libvirt(self, chosen: Settings) -> str:
        def check(_started: float) -> str | None:
            return checks.libvirtd(chosen.libvirt.uri)

        if chosen.libvirt.host_uuid is None:
            return _answers("the machine's libvirtd", check, "systemctl start libvirtd, then run ./up.sh again")
        libvirt_files.write(self._state, chosen.libvirt.host_uuid)
        self._ensure("virtlogd", chosen, self._virtlogd_listens)
        return f"own libvirtd {self._ensure('libvirtd', chosen, check)}"

    def _virtlogd_listens(self, _started: float) -> str | None:
        return checks.listens(self._state.libvirt / "run" / "virtlogd-sock")

    def _key(self) -> str:
        made = make_key(self._state.key, os.environ)
        return f"{self._state.key}{' made' if made else ''}"

    def _files(self, chosen: Settings) -> str:
        wanted = {
            self._state.compute_yaml: configs.compute_keys(chosen, self._state),
            self._state.schedule_yaml: configs.schedule_keys(chosen, self._state),
        }
        edited = [path.name for path, keys in wanted.items() if not configs.write(path, keys)]
        return "compute.yaml, schedule.yaml" + (f" (edited, so kept: {', '.join(edited)})" if edited else "")

    def _node(self, chosen: Settings) -> str:
        def check(started: float) -> str | None:
            return checks.node(chosen, self._state.node_uuid, started)

        done = self._ensure("compute", chosen, check)
        return f"{self._state.node_uuid} {done}"

    def _remember_cloud(self, chosen: Settings) -> None:
        """So that `destroy` knows the cloud's networks even when etcd is down."""
        if not chosen.cloud:
            cloud = Records(chosen).cloud(_new_uuid)
            settings.save(replace(chosen, cloud=cloud), self._state.settings)

    def _image(self, chosen: Settings) -> str:
        path, built = image.build(self._state)
        Records(chosen).add_image(image.NAME, path)
        return f"{path}{' built' if built else ''}"

    def _ensure(self, name: str, chosen: Settings, check: Check) -> str:
        return self._starter.ensure(_named(name, services(chosen, self._state)), check)


def _answers(what: str, check: Callable[[float], str | None], remedy: str) -> str:
    wrong = check(0.0)
    if wrong is not None:
        raise StepFailed(f"{what} {wrong}", remedy)
    return f"{what} answers; not started by this"


def _named(name: str, table: list[Service]) -> Service:
    return next(service for service in table if service.name == name)


def _new_uuid() -> str:
    return str(uuid.uuid4())
