"""The two configuration files as frozen dataclasses; docs/configuration.md lists every key.

Looked for in this order: `--config FILE`, `$PLACET_STATE_DIR/<file>` (what up.sh writes; the state directory is
/var/lib/placet when the variable is not set), the file beside the script, /etc/placet/<file>, built-in defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from placet import schema
from placet.errors import BadConfig
from placet.policies import POLICIES

C = TypeVar("C")
DEFAULT_STATE_DIR = "/var/lib/placet"
CLASS_NAME = TRAIT_NAME = re.compile(r"[A-Z0-9_]{1,255}")
BASE_CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB")
MAX_AMOUNT = 2**31 - 1  # the largest that Placement takes
BESIDE_SCRIPT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class PlacementConfig:
    """How to reach Placement: `token` for its noauth2, or a keystoneauth1 plugin by `auth_type` and `auth`."""

    endpoint: str = "http://localhost:8080"
    token: str = "admin"  # noqa: S105 - what noauth2 documents, no secret
    auth_type: str | None = None
    auth: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0


@dataclass(frozen=True)
class DefaultsConfig:
    """What a request that leaves it out gets."""

    VCPU: int = 1
    MEMORY_MB: int = 256
    DISK_GB: int = 1
    image: str = "mini"

    @property
    def amounts(self) -> dict[str, int]:
        """By resource class."""
        return {"VCPU": self.VCPU, "MEMORY_MB": self.MEMORY_MB, "DISK_GB": self.DISK_GB}


@dataclass(frozen=True)
class ScheduleConfig:
    """schedule.yaml."""

    etcd: dict[str, Any] = field(default_factory=dict)
    etcd_prefix: str = "/placet"
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    project: str = "default"
    defaults: DefaultsConfig = field(default_factory=DefaultsConfig)
    keys: tuple[str, ...] = ()
    policy: str = "spread"


def state_dir() -> Path:
    """Where this cloud keeps everything on this machine."""
    return Path(os.environ.get("PLACET_STATE_DIR") or DEFAULT_STATE_DIR)


def load_schedule(explicit: str | None) -> ScheduleConfig:
    """schedule.yaml, checked. Raises BadConfig."""
    return load("schedule.yaml", explicit, ScheduleConfig, _check_schedule)


def find(name: str, explicit: str | None) -> Path | None:
    """The file that counts, or None for built-in defaults. Raises BadConfig when `explicit` is not there."""
    if explicit is not None:
        if not _is_file(Path(explicit)):
            raise BadConfig(f"{explicit}: no such file; --config takes a YAML file")
        return Path(explicit)
    places = (state_dir() / name, BESIDE_SCRIPT / name, Path("/etc/placet") / name)
    return next((place for place in places if _is_file(place)), None)


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except PermissionError as problem:
        raise BadConfig(
            f"{place}: may not be read by this user; use sudo, or name another file by --config"
        ) from problem


def parse(cls: type[C], text: str, where: str) -> C:
    """The configuration that a YAML text holds. Raises BadConfig naming file, key and the nearest known key."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        line = getattr(getattr(problem, "problem_mark", None), "line", None)
        spot = "" if line is None else f", line {line + 1}"
        raise BadConfig(f"{where}{spot}: not valid YAML; mend it or remove the file") from problem
    try:
        return schema.read(cls, {} if found is None else found)
    except schema.Mismatch as problem:
        raise BadConfig(f"{where}: {problem}") from problem


def load(name: str, explicit: str | None, cls: type[C], check: Callable[[C], str | None]) -> C:
    path = find(name, explicit)
    if path is None:
        return cls()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise BadConfig(f"{path}: cannot be read: {problem}") from problem
    config = parse(cls, text, str(path))
    wrong = check(config)
    if wrong:
        raise BadConfig(f"{path}: {wrong}")
    return config


ETCD_KEYS = frozenset(["host", "port", "ca_cert", "cert_key", "cert_cert", "user", "password", "timeout"])


def check_etcd(etcd: Mapping[str, object]) -> str | None:
    for key in etcd:
        if key not in ETCD_KEYS:
            return f"etcd.{key}: unknown key{schema.nearest(key, ETCD_KEYS)}"
    if not isinstance(etcd.get("port", 2379), int):
        return f"etcd.port: expected a whole number, found {etcd['port']!r}"
    timeout = etcd.get("timeout", 5)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        return f"etcd.timeout: expected seconds above 0, found {timeout!r}"
    for key in ETCD_KEYS - {"port", "timeout"}:
        if not isinstance(etcd.get(key, ""), str):
            return f"etcd.{key}: expected text, found {etcd[key]!r}"
    return None


def check_placement(placement: PlacementConfig) -> str | None:
    if not 0 < placement.timeout_s < float("inf"):
        return f"placement.timeout_s: expected seconds above 0, found {placement.timeout_s}"
    return None


def _check_schedule(config: ScheduleConfig) -> str | None:
    if config.policy not in POLICIES:
        return f"policy: {config.policy!r} is none of {', '.join(POLICIES)}"
    return check_etcd(config.etcd) or check_placement(config.placement)
