"""Where the time of one `schedule.py 'resources=…'` goes, with one node. Only reported: the bench `claims` has goals.

The parts are more than the whole: services are asked while the program still loads, and etcd while Placement answers.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.claims_sides import environment
from bench.rows import Row
from placet.cli.main import main
from placet.config import BESIDE_SCRIPT
from placet.placement import Placement
from placet.store.etcd import EtcdStore
from tests.support.clouds import TestCloud
from tests.support.services import etcd_server, placement_server

ROUNDS = 11
QUERY = "resources=VCPU:1,MEMORY_MB:64,DISK_GB:1"
IMAGE = "/images/none.qcow2"  # the node is registered but nothing serves it: only the claim is timed

LOADING = """
import gc, os
gc.set_threshold(20_000)
import placet.cli.main, placet.cli.create, placet.scheduler, placet.store.etcd
os._exit(0)
"""


def run() -> list[Row]:
    """All rows of this bench."""
    with etcd_server() as etcd, placement_server() as placement, tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "schedule.yaml"
        config.write_text(yaml.safe_dump({"etcd": dict(etcd.client), "placement": {"endpoint": placement.endpoint}}))
        store = EtcdStore(etcd.client)
        TestCloud.make(store, placement.endpoint).add_node("n1", vcpus=1000, memory_mb=10**6, disk_gb=10**5)
        argv = ["--config", str(config), QUERY, IMAGE]
        programs = Programs(environment(Path(directory)))
        whole = programs.median_of(["schedule.py", *argv])
        nothing = programs.median_of(["-c", "pass"])
        loaded = programs.median_of(["-c", LOADING])
        in_placement, in_etcd = _inside(argv)
        looking = programs.median_of(["schedule.py", "--config", str(config), _some_instance(store)], expect=4)
        store.close()
    return [
        Row("schedule.py, one claim, whole process", whole, "ms"),
        Row("  interpreter", nothing, "ms"),
        Row("  loading", loaded - nothing, "ms"),
        Row("  Placement", in_placement, "ms"),
        Row("  etcd", in_etcd, "ms"),
        Row("schedule.py UUID, whole process", looking, "ms"),
    ]


def _some_instance(store: Any) -> str:
    return str(store.scan("instances/").entries[0].key.split("/")[1])


@dataclass(frozen=True)
class Programs:
    """Runs Python with this environment."""

    env: dict[str, str]

    def median_of(self, words: list[str], expect: int = 0) -> float:
        """Milliseconds of a process, from its start to its end; the first run, which compiles, does not count."""
        times = []
        for _ in range(1 + ROUNDS):
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, *words], cwd=BESIDE_SCRIPT, capture_output=True, env=self.env, check=False
            )
            times.append((time.monotonic() - started) * 1000)
            if done.returncode != expect:
                raise AssertionError(f"{words}: exit {done.returncode}: {done.stderr.decode()}")
        return median(times[1:])


def _inside(argv: list[str]) -> tuple[float, float]:
    """Milliseconds that one claim spends in calls to Placement and to etcd, each run with fresh connections."""

    found = []
    for _ in range(ROUNDS):
        with _timing(Placement, "_send") as placement, _timing(EtcdStore, "_call") as etcd:
            with contextlib.redirect_stdout(io.StringIO()):
                if main(argv) != 0:
                    raise AssertionError("the claim failed")
        found.append((placement[0], etcd[0]))
    return median(one for one, _ in found), median(other for _, other in found)


@contextlib.contextmanager
def _timing(cls: type, method: str) -> Iterator[list[float]]:
    """Sum up the milliseconds spent in a method."""
    total = [0.0]
    original = getattr(cls, method)

    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.monotonic()
        try:
            return original(*arguments, **named)
        finally:
            total[0] += (time.monotonic() - started) * 1000

    setattr(cls, method, timed)
    try:
        yield total
    finally:
        setattr(cls, method, original)
