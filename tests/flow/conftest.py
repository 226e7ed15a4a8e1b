"""Real Placement and real etcd, once a session; each test has keys of its own and leaves Placement empty."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet import keys
from placet.model import ImageRecord, encode
from placet.node import Node
from placet.store import Put
from placet.store.etcd import EtcdStore
from placet.store.memory import MemoryStore
from tests.support.clouds import TestCloud
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine, until
from tests.support.services import Etcd, PlacementServer


@pytest.fixture(autouse=True)
def empty_placement(placement: PlacementServer) -> Iterator[None]:
    """What a test registers is gone when it ends, so that tests do not see each other's nodes."""
    yield
    found = TestCloud.make(MemoryStore(time.monotonic), placement.endpoint).placement
    for provider in sorted(found.providers(), key=lambda each: each.parent is None):  # those nested in another first
        answer = found._api.get(f"/resource_providers/{provider.uuid}/allocations")
        for consumer in answer.json()["allocations"]:
            found._api.delete(f"/allocations/{consumer}")
        found._api.delete(f"/resource_providers/{provider.uuid}")


@pytest.fixture
def cloud(etcd: Etcd, placement: PlacementServer) -> Iterator[TestCloud]:
    """A cloud of its own, on real services."""
    store = EtcdStore(etcd.client, f"/flow-{uuid.uuid4()}")
    yield TestCloud.make(store, placement.endpoint)
    store.close()


@pytest.fixture
def machine(cloud: TestCloud, etcd: Etcd, placement: PlacementServer, tmp_path: Path) -> FakeMachine:
    """A machine of that cloud, on which no agent runs yet."""
    prefix = str(cloud.store._prefix).rstrip("/")  # type: ignore[attr-defined]
    return FakeMachine(etcd, placement, prefix, tmp_path / "n1", "n1")


@pytest.fixture
def other_machine(cloud: TestCloud, machine: FakeMachine, etcd: Etcd, placement: PlacementServer) -> FakeMachine:
    """Another one of the same cloud."""
    return FakeMachine(etcd, placement, machine.etcd_prefix, machine.state_dir.parent / "n2", "n2")


@pytest.fixture
def command(cloud: TestCloud, machine: FakeMachine, capsys: pytest.CaptureFixture[str]) -> ScheduleCommand:
    """schedule.py, with a configuration of the test's own and an image called `mini`."""
    record = ImageRecord("mini", str(machine.image), virtual_size=64 * 2**20, min_memory_mb=64)
    cloud.store.transact([], [Put(keys.image("mini"), encode(record))])
    return ScheduleCommand.configured(machine.config, machine.state_dir.parent / "schedule.yaml", capsys)


@pytest.fixture
def node(cloud: TestCloud, machine: FakeMachine) -> Iterator[Node]:
    """A running node whose first audit, which is due at its start, is over: it mends no more unless it is asked to."""
    with machine.agent() as found:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        until(machine.is_audited, "its first audit")
        yield found
