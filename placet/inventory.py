"""What this machine can offer, measured with psutil, and how the configuration bends it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from placet.compute_config import InventoryConfig
from placet.errors import BadConfig
from placet.resources import Inventory
from placet.schema import changed

GIB = 2**30
VCPU_RATIO = 16.0  # guests idle most of the time: OpenStack's classic default
RESERVED_MEMORY_MB = 512


def measure(disks: Path) -> dict[str, Inventory]:
    """CPU threads, memory, and the file system that `disks` is on; what others use of each is reserved.

    Reserved disk is what is in use beside the instances' own disks, so that a restart with guests on it gives the
    same figure.
    """
    memory_mb = psutil.virtual_memory().total // 2**20
    usage = psutil.disk_usage(str(disks))
    others = max(0, usage.used - _bytes_below(disks))
    disk_gb = usage.total // GIB
    return {
        "VCPU": Inventory(psutil.cpu_count() or 1, 0, VCPU_RATIO),
        "MEMORY_MB": Inventory(memory_mb, min(RESERVED_MEMORY_MB, memory_mb // 4)),
        "DISK_GB": Inventory(disk_gb, min(disk_gb, -(-others // GIB))),
    }


def offer(measured: Mapping[str, Inventory], wanted: Mapping[str, InventoryConfig]) -> dict[str, Inventory]:
    """The inventory to register: what was measured, changed and added to by compute.yaml's `inventory:`.

    A class with nothing to give is left out: Placement takes no total of 0; so is what `total: 0` withdraws, where a
    shared pool gives it. Raises BadConfig.
    """
    found = dict(measured)
    for name, entry in wanted.items():
        base = found.get(name)
        total = entry.total if entry.total is not None else (base.total if base else None)
        if total is None:
            raise BadConfig(f"inventory.{name}.total: missing; it is not one of {', '.join(measured)}")
        reserved = entry.reserved
        if reserved is None:
            reserved = base.reserved if base and entry.total is None else 0
        if reserved > total:
            raise BadConfig(f"inventory.{name}.reserved: {reserved} is more than the total, {total}")
        ratio = entry.allocation_ratio
        if ratio is None:
            ratio = base.allocation_ratio if base else 1.0
        found[name] = Inventory(total, reserved, ratio, entry.max_unit, entry.min_unit, entry.step_size)
    return {name: _with_max_unit(entry) for name, entry in found.items() if entry.total > 0}


def _with_max_unit(entry: Inventory) -> Inventory:
    return changed(entry, max_unit=entry.max_unit or entry.total)


def _bytes_below(directory: Path) -> int:
    total = 0
    for root, _, files in os.walk(directory):
        for name in files:
            try:
                total += (Path(root) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue  # an instance was removed meanwhile
    return total
