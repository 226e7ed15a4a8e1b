"""The nodes of a bench's cloud, and Placement's database that holds them: made once by Placement's own API, then kept.

CACHE/bench-placement/KEY.sqlite    a database by the key of its recipe, beside the caches of guest images
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from uuid import UUID

from bench.placement_service import served
from placet.config import PlacementConfig
from placet.guestimage.build import WORK_PREFIX, copy_atomically, locked
from placet.placement import Placement
from placet.registration import PROVIDER_PREFIX
from placet.resources import Inventory
from tests.support.services import fast_directory

CALLERS = 2
MEMORY_MB = (32768, 32768, 32768, 65536, 16384)
DISK_GB = (1000, 1000, 1000, 2000, 500)
TRAITS = ("HW_ARCH_X86_64", "HW_CPU_X86_SSE42", "HW_CPU_X86_AVX", "HW_CPU_X86_AVX2", "HW_CPU_X86_AVX512F")


@dataclass(frozen=True)
class Member:
    """One node of 16 processors: what it offers and can do."""

    node: str
    name: str
    hypervisor: str
    memory_mb: int
    disk_gb: int
    traits: tuple[str, ...]

    @property
    def inventory(self) -> dict[str, Inventory]:
        return {
            "VCPU": Inventory(16, 0, 16.0, max_unit=16),
            "MEMORY_MB": Inventory(self.memory_mb, 512, max_unit=self.memory_mb),
            "DISK_GB": Inventory(self.disk_gb, max_unit=self.disk_gb),
        }


def members(size: int) -> list[Member]:
    """The same nodes for the same size, each time."""
    random = Random(size)  # noqa: S311 - the same each time, it keeps no secret

    def one(number: int) -> Member:
        node, hypervisor = (str(UUID(int=random.getrandbits(128), version=4)) for _ in range(2))
        kind = random.randrange(len(MEMORY_MB))
        traits = TRAITS[: random.randrange(2, len(TRAITS) + 1)]
        return Member(node, f"bench-{number:05}", hypervisor, MEMORY_MB[kind], DISK_GB[kind], traits)

    return [one(number) for number in range(1, size + 1)]


def copy_database(size: int, target: Path) -> None:
    """Put a database with so many nodes at `target`; the first time it is made, which takes minutes for thousands."""
    wanted = members(size)
    cache = Path(os.environ.get("PLACET_CACHE_DIR", "/var/cache/placet")) / "bench-placement"
    kept = cache / f"{_key(wanted)}.sqlite"
    with locked(cache):
        if not kept.exists():
            _make(wanted, kept)
        copy_atomically(kept, target)


def _key(wanted: list[Member]) -> str:
    """Sixteen hex digits that change with the nodes and with the form of Placement's tables."""
    recipe = repr((version("openstack-placement"), [asdict(each) for each in wanted]))
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def _make(wanted: list[Member], target: Path) -> None:
    started = time.monotonic()
    with fast_directory("bench") as directory:
        database = directory / "made.sqlite"
        with served(directory, database) as endpoint:
            placement = Placement(PlacementConfig(endpoint))
            with ThreadPoolExecutor(CALLERS) as pool:
                list(pool.map(lambda each: _register(placement, each), wanted))
        _close(database)
        new = target.with_name(f"{WORK_PREFIX}new")
        new.mkdir()
        shutil.copyfile(database, new / "made.sqlite")
        (new / "made.sqlite").replace(target)
        new.rmdir()
    print(f"registered {len(wanted)} nodes in {time.monotonic() - started:.0f} s, kept for next time", file=sys.stderr)


def _register(placement: Placement, member: Member) -> None:
    """What a new node's agent does; a provider that was just made has nothing yet, at generation 0."""
    assert placement.create_provider(member.node, PROVIDER_PREFIX + member.hypervisor)
    assert placement.put_inventories(member.node, member.inventory, 0)
    assert placement.put_traits(member.node, member.traits, 1)


def _close(database: Path) -> None:
    """Everything into the one file, whatever journal the server used."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
