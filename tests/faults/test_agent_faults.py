"""What an agent is started with that is wrong, and clocks that are."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from placet import keys
from placet.config import BESIDE_SCRIPT
from tests.faults.asking import domain_count, place, state, status
from tests.faults.conftest import sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud
from tests.support.commands import Told

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
LEASE_S = 10  # less than the test takes, and more than a busy machine keeps an agent from its heartbeat
HALF_AN_HOUR_S = 1800
ENDS_S = 90


def start(node: LabNode, config: Path, *before: str) -> Told:
    """Run an agent in a node's host to its end; `before` runs it in another way. One that serves is ended: code 124."""
    command = [*before, sys.executable, str(BESIDE_SCRIPT / "compute.py"), "--config", str(config)]
    try:
        return Told(0, node.host.run("timeout", str(ENDS_S), *command, timeout_s=2 * ENDS_S), "")
    except subprocess.CalledProcessError as ended:
        return Told(ended.returncode, ended.stdout, ended.stderr)


def registered(cloud: Lab) -> set[str]:
    """Every node that etcd or Placement knows."""
    entries = cloud.store.scan(keys.NODES).entries
    providers = TestCloud.make(cloud.store, cloud.placement_endpoint).placement.providers()
    return {keys.node_of(entry.key) for entry in entries} | {provider.uuid for provider in providers}


@pytest.fixture
def state_dir(first: LabNode) -> Iterator[Path]:
    """A directory of its own for an agent on the first node's host, a small file system that is whole at first."""
    path = first.host.directory / "other-state"
    path.mkdir(mode=0o711)
    first.host.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0711", "tmpfs", str(path))
    yield path
    first.host.run("umount", str(path))
    path.rmdir()


@pytest.fixture
def config(first: LabNode, state_dir: Path) -> Path:
    """Of an agent that would become a node of the cloud if nothing were wrong."""
    settings: dict[str, Any] = {**first.config, "name": "other", "state_dir": str(state_dir), "driver": "fake"}
    path = first.host.directory / "other.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def refused(told: Told, code: int, words: str) -> bool:
    return (told.code, told.out, told.err.count("\n")) == (code, "", 1) and words in told.err


def test_a_state_directory_of_somebody_else_is_refused(
    cloud: Lab, first: LabNode, config: Path, state_dir: Path
) -> None:
    before = registered(cloud)
    told = start(first, config, *AS_NOBODY)
    assert refused(told, 1, str(state_dir)), told
    first.host.run("chown", str(NOBODY), str(state_dir))
    first.host.run("install", "-m", "0600", "/dev/null", f"{state_dir}/node-uuid")
    told = start(first, config, *AS_NOBODY)
    assert refused(told, 1, str(state_dir)), told
    assert registered(cloud) == before


@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_state_directory_that_takes_no_writes_is_refused(
    cloud: Lab, first: LabNode, config: Path, state_dir: Path, options: str
) -> None:
    before = registered(cloud)
    if options != "ro":
        first.host.run("sh", "-c", f"cat /dev/zero > {state_dir}/filler || true")
    first.host.run("mount", "-o", f"remount,{options}", str(state_dir))
    told = start(first, config)
    assert refused(told, 1, str(state_dir)), told
    assert registered(cloud) == before


def test_an_unknown_failpoint_is_refused(cloud: Lab, first: LabNode, config: Path) -> None:
    before = registered(cloud)
    told = start(first, config, "env", "PLACET_FAILPOINT=build.disk-mad")
    assert refused(told, 2, "did you mean 'build.disk-made'?"), told
    assert registered(cloud) == before


def clock(shift: str, file: Path) -> dict[str, str]:
    """The environment of a program whose clock goes wrong by what `file` says; the monotonic one stays."""
    set_clock(shift, file)
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")  # Debian's package faketime
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(shift: str, file: Path) -> None:
    """At once: who reads the file meanwhile sees the old or the new."""
    part = file.with_suffix(".part")
    part.write_text(shift)
    part.replace(file)


@pytest.fixture
def tidy_memory() -> Iterator[None]:
    """What libfaketime leaves in shared memory of programs that were ended is taken away."""
    before = faketime_files()
    yield
    for path in faketime_files() - before:
        path.unlink(missing_ok=True)


def faketime_files() -> set[Path]:
    return set(Path("/dev/shm").glob("*faketime_*"))


@pytest.mark.usefixtures("tidy_memory")
def test_clocks_that_jump_end_no_lease_and_no_build(cloud: Lab, first: LabNode, tmp_path: Path) -> None:
    """The agent's jumps an hour ahead while it runs, schedule.py's is an hour behind."""
    shift = tmp_path / "agent"
    behind = clock("-1h", tmp_path / "scheduler")
    first.stop_agent()
    first.start_agent(env=clock("+0", shift), settings={"lease_ttl_s": LEASE_S})
    first.wait_ready()
    alive = cloud.store.get(keys.alive(first.uuid))
    assert alive is not None
    set_clock("+1h", shift)
    instance = place(cloud, first)
    sound(cloud)
    assert state(cloud, instance) == "ACTIVE"
    assert status(cloud, first, instance)["updated_at"] > time.time() + HALF_AN_HOUR_S, "its clock did jump"
    late = cloud.schedule(f"resources=VCPU:1&in_tree={first.uuid}", "--wait", env=behind)
    assert late.code == 0, late
    uuid = late.out.split()[5]
    assert domain_count(cloud, uuid) == 1
    index = cloud.store.get(keys.instance(uuid))
    assert index is not None and json.loads(index.value)["created_at"] < time.time() - HALF_AN_HOUR_S
    assert cloud.schedule("destroy", uuid, env=behind).code == 0
    assert domain_count(cloud, uuid) == 0
    after = cloud.store.get(keys.alive(first.uuid))
    assert after is not None and after.create_revision == alive.create_revision, "its lease has never ended"
    first.stop_agent()
