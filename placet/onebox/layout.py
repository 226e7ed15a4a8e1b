"""Where everything of one cloud lies on this machine. Makes directories; never removes one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from placet.config import DEFAULT_STATE_DIR

PROJECT = Path(__file__).resolve().parents[2]
# 0711: a guest's QEMU, which is not root, must get through to its disk, and nobody may list what there is
DIRECTORY_MODE = 0o711
DIRECTORIES = ["etcd", "placement", "libvirt", "images", "instances", "log", "run", "keys"]


@dataclass(frozen=True)
class StateDirectory:
    """The state directory and the names of what is in it."""

    root: Path

    @property
    def settings(self) -> Path:
        """What was chosen for this cloud; also the mark that the directory is one of ours."""
        return self.root / "onebox.json"

    @property
    def compute_yaml(self) -> Path:
        return self.root / "compute.yaml"

    @property
    def schedule_yaml(self) -> Path:
        return self.root / "schedule.yaml"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def key(self) -> Path:
        return self.root / "keys" / "id_ed25519"

    @property
    def libvirt(self) -> Path:
        return self.root / "libvirt"

    @property
    def libvirt_socket(self) -> Path:
        return self.libvirt / "run" / "libvirt-sock"

    @property
    def node_uuid(self) -> str | None:
        """The identity that the node made itself; None before its first start."""
        try:
            return (self.root / "node-uuid").read_text().strip()
        except FileNotFoundError:
            return None

    def log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.root / "run" / f"{name}.json"

    @property
    def is_default(self) -> bool:
        """Whether this is the machine's first cloud, which gets the well-known ports and names."""
        return self.root == Path(DEFAULT_STATE_DIR)

    @property
    def tag(self) -> str:
        """Four hex digits that tell this cloud's bridge and units from another's; empty for the default one."""
        return "" if self.is_default else hashlib.sha256(str(self.root).encode()).hexdigest()[:4]

    def make(self) -> None:
        """Make what is missing."""
        self.root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self.root.chmod(DIRECTORY_MODE)
        for name in DIRECTORIES:
            (self.root / name).mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        (self.root / "etcd").chmod(0o700)
        (self.root / "placement").chmod(0o700)
