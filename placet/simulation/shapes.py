"""What the n-th simulated node is called, has and can do: always the same for the same number. Pure."""

from __future__ import annotations

from uuid import UUID, uuid5

from placet.inventory import VCPU_RATIO
from placet.resources import Inventory

MAX_NODES = 50_000
# The range that simulated guests have their addresses in, and the number of the first /24 of it that is taken: real
# nodes number theirs from 0, and the numbers are the cloud's.
RANGE = "10.0.0.0/8"
FIRST_SUBNET = 1000
# VCPU (each offered 16 times), MEMORY_MB, DISK_GB: some variety, so that there is something to choose between
SIZES = ((16, 32768, 1000), (8, 16384, 500), (32, 131072, 2000), (16, 65536, 1000))


def name_of(number: int) -> str:
    """Nodes are numbered from 1."""
    return f"sim-{number:05d}"


def node_of(seed: str, number: int) -> str:
    """The node's UUID; `seed` is the simulation's."""
    return str(uuid5(UUID(seed), f"node {number}"))


def hypervisor_of(seed: str, number: int) -> str:
    """The UUID of its hypervisor."""
    return str(uuid5(UUID(seed), f"hypervisor {number}"))


def inventory_of(number: int) -> dict[str, Inventory]:
    """What it offers."""
    vcpus, memory_mb, disk_gb = SIZES[number % len(SIZES)]
    return {
        "VCPU": Inventory(vcpus, 0, VCPU_RATIO, vcpus),
        "MEMORY_MB": Inventory(memory_mb, 0, 1.0, memory_mb),
        "DISK_GB": Inventory(disk_gb, 0, 1.0, disk_gb),
    }
