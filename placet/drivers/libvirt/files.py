"""Where an instance's files lie on its node. Pure but for listing; the names are the same for ever."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from placet.errors import Fault
from placet.model import is_uuid


@dataclass(frozen=True)
class InstanceFiles:
    """One instance's directory, named by its UUID, and what is in it."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def config_drive(self) -> Path:
        return self.directory / "config.iso"

    @property
    def console_log(self) -> Path:
        return self.directory / "console.log"

    @property
    def old_lease(self) -> Path:
        """When the lease ends that was there before the last start: it proves nothing about this start."""
        return self.directory / "old-lease"


def files_of(instances_dir: Path, instance: str) -> InstanceFiles:
    """The files of one instance. Raises Fault `bad-spec` for what is no UUID: it might lead out of the directory."""
    if not is_uuid(instance):
        raise Fault("bad-spec", f"instance {instance!r} is not a UUID in lower case")
    return InstanceFiles(instances_dir / instance)


def directories(instances_dir: Path) -> frozenset[str]:
    """The UUIDs that have a directory (a link to one is none)."""
    if not instances_dir.is_dir():
        return frozenset()
    return frozenset(
        entry.name
        for entry in instances_dir.iterdir()
        if is_uuid(entry.name) and entry.is_dir() and not entry.is_symlink()
    )
