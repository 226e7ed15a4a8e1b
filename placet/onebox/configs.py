"""compute.yaml and schedule.yaml of the state directory. A file that a person has edited is never written again.

The first line carries a checksum of the rest: that is how an edit is seen.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from placet.onebox.layout import StateDirectory
from placet.onebox.settings import Settings

HEADER = "# Written by up.sh, which leaves it alone once you edit it; docs/configuration.md lists every key. "


def compute_keys(settings: Settings, state: StateDirectory) -> dict[str, Any]:
    """compute.yaml, as far as it differs from the defaults."""
    network = settings.network
    return {
        "state_dir": str(state.root),
        "address": settings.address,
        "etcd": settings.etcd.client_keys(),
        "placement": {"endpoint": settings.placement.url},
        "libvirt_uri": settings.libvirt.uri,
        "network": {"range": network.range, "name": network.name, "bridge": network.bridge},
    }


def schedule_keys(settings: Settings, state: StateDirectory) -> dict[str, Any]:
    """schedule.yaml, as far as it differs from the defaults."""
    return {
        "etcd": settings.etcd.client_keys(),
        "placement": {"endpoint": settings.placement.url},
        "keys": [f"{state.key}.pub"],
    }


def write(path: Path, keys: dict[str, Any]) -> bool:
    """Write a file that is missing or still as we wrote it; False when it was edited and so is kept."""
    text = yaml.safe_dump(keys, sort_keys=False)
    if path.exists() and not _is_as_written(path.read_text()):
        return False
    new = path.with_suffix(".new")
    new.write_text(f"{HEADER}{_checksum(text)}\n{text}")
    new.chmod(0o644)
    new.replace(path)
    return True


def _is_as_written(text: str) -> bool:
    header, _, rest = text.partition("\n")
    return header == f"{HEADER}{_checksum(rest)}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
