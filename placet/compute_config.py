"""compute.yaml as frozen dataclasses; docs/configuration.md lists every key, placet/config.py says where it is looked
for."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placet import schema
from placet.config import (
    BASE_CLASSES,
    CLASS_NAME,
    MAX_AMOUNT,
    TRAIT_NAME,
    PlacementConfig,
    check_etcd,
    check_placement,
    load,
    state_dir,
)
from placet.model import is_uuid

HOST = re.compile(r"\.?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:]*:[0-9a-f:.]+")


BRIDGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


OWN_TRAITS = ("COMPUTE_STATUS_DISABLED", "MISC_SHARES_VIA_AGGREGATE")  # they have a meaning that is not a node's to set


@dataclass(frozen=True)
class NetworkConfig:
    """The NAT network. `range` and `range6` are the cloud's; each node owns one /24 and one /64 of them. `name` and
    `bridge` are the node's; `filter` says whether its guests are kept from sending what is not theirs."""

    range: str = "198.19.0.0/16"
    range6: str = "auto"
    name: str = "placet"
    bridge: str = "placet0"
    lease_minutes: int = 10
    filter: bool = True


@dataclass(frozen=True)
class InventoryConfig:
    """One resource class a node offers; a total of 0 is none of it. None keeps what was measured (`total`) or the
    default (the others). An instance may have from `min_unit` to `max_unit` of it, in steps of `step_size`."""

    total: int | None = None
    reserved: int | None = None
    allocation_ratio: float | None = None
    min_unit: int = 1
    max_unit: int | None = None
    step_size: int = 1


@dataclass(frozen=True)
class FakeConfig:
    """The fake driver: seconds each step takes, and which step fails, with what chance (0 to 1)."""

    boot_s: float = 0.05
    step_s: float = 0.0
    fail: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ComputeConfig:
    """compute.yaml."""

    uuid: str | None = None
    name: str | None = None
    address: str = "127.0.0.1"
    state_dir: str = ""
    etcd: dict[str, Any] = field(default_factory=dict)
    etcd_prefix: str = "/placet"
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    driver: str = "libvirt"
    libvirt_uri: str = "qemu:///system"
    virt_type: str | None = None
    resize: bool = True
    bridge: str | None = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    inventory: dict[str, InventoryConfig] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    image_dirs: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    max_image_gb: int = 20
    max_virtual_gb: int = 1024
    image_cache_gb: int = 50
    image_timeout_s: float = 1800.0
    workers: int = 4
    lease_ttl_s: int = 15
    metadata_service: bool = True
    fake: FakeConfig = field(default_factory=FakeConfig)
    log_level: str = "info"


def load_compute(explicit: str | None) -> ComputeConfig:
    """compute.yaml, checked, with its directories filled in. Raises BadConfig."""
    found = load("compute.yaml", explicit, ComputeConfig, _check_compute)
    directory = found.state_dir or str(state_dir())
    image_dirs = found.image_dirs or (str(Path(directory) / "images"),)
    return schema.changed(found, state_dir=directory, image_dirs=image_dirs)


def _check_compute(config: ComputeConfig) -> str | None:
    if config.uuid is not None and not is_uuid(config.uuid.lower()):
        return f"uuid: {config.uuid!r} is not a UUID; leave it out to have one made"
    if config.driver not in ("libvirt", "fake"):
        return f"driver: {config.driver!r} is neither 'libvirt' nor 'fake'"
    if config.virt_type not in (None, "kvm", "qemu"):
        return f"virt_type: {config.virt_type!r} is neither 'kvm' nor 'qemu'"
    if config.workers < 1 or config.lease_ttl_s < 3:
        return "workers must be at least 1 and lease_ttl_s at least 3"
    if config.log_level not in ("debug", "info", "warning", "error"):
        return f"log_level: {config.log_level!r} is not debug, info, warning or error"
    checks = (
        _check_network(config.network),
        check_etcd(config.etcd),
        check_placement(config.placement),
        _check_images(config),
    )
    return next(filter(None, checks), None) or _check_inventory(config.inventory) or _check_traits(config.traits)


def _check_images(config: ComputeConfig) -> str | None:
    for key in ("max_image_gb", "max_virtual_gb", "image_cache_gb", "image_timeout_s"):
        if not 0 < getattr(config, key) < float("inf"):
            return f"{key}: {getattr(config, key)} is not above 0"
    for host in config.image_hosts:
        if not HOST.fullmatch(host):
            return f"image_hosts: {host!r} is no name, address or .suffix in lower case, without scheme and port"
    return None


def _check_network(network: NetworkConfig) -> str | None:
    found, wrong = _network_at("range", network.range)
    if wrong:
        return wrong
    if found is None or found.version != 4 or found.prefixlen > 24:
        return f"network.range: {found} is no IPv4 network of /24 or wider"
    if network.range6 != "none" and found.prefixlen < 8:
        return f"network.range: {found} has more /24s than a /48 has /64s; narrow it to a /8, or set range6: none"
    if not BRIDGE_NAME.fullmatch(network.bridge):
        return f"network.bridge: {network.bridge!r} is no name of a bridge: letters, digits, '.', '_' and '-'"
    if network.range6 in ("auto", "none"):
        return None
    found, wrong = _network_at("range6", network.range6)
    if found is not None and (found.version != 6 or found.prefixlen != 48):
        return f"network.range6: {found} is no IPv6 network of /48; 'auto' makes one, 'none' does without"
    return wrong


def _network_at(key: str, text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network | None, str | None]:
    """The network that `network.<key>` holds, or what is wrong with it."""
    try:
        return ipaddress.ip_network(text), None
    except ValueError as problem:
        return None, f"network.{key}: {problem}"


def _check_inventory(inventory: Mapping[str, InventoryConfig]) -> str | None:
    for name, entry in inventory.items():
        if not CLASS_NAME.fullmatch(name):
            return f"inventory.{name}: no resource class{schema.similar(name.upper(), BASE_CLASSES)}"
        wrong = _flaw_of(entry)
        if wrong:
            return f"inventory.{name}.{wrong}"
    return None


def _flaw_of(entry: InventoryConfig) -> str | None:
    for key, least in (("total", 0), ("reserved", 0), ("min_unit", 1), ("max_unit", 1), ("step_size", 1)):
        amount = getattr(entry, key)
        if amount is not None and not least <= amount <= MAX_AMOUNT:
            return f"{key}: {amount} is not from {least} to {MAX_AMOUNT}"
    if entry.max_unit is not None and entry.max_unit < entry.min_unit:
        return f"max_unit: {entry.max_unit} is below min_unit, {entry.min_unit}"
    if entry.allocation_ratio is not None and not 0 < entry.allocation_ratio < float("inf"):
        return f"allocation_ratio: {entry.allocation_ratio} is not above 0 and finite"
    return None


def _check_traits(traits: Iterable[str]) -> str | None:
    for name in traits:
        if not TRAIT_NAME.fullmatch(name):
            return f"traits: {name!r} is no trait: capital letters, digits and '_', as in CUSTOM_SSD"
        if name in OWN_TRAITS:
            return f"traits: {name} is not a node's to have; see `schedule.py drain`, docs/zones.md"
    return None
