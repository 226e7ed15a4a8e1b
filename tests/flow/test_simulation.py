"""Simulated nodes: what they do in etcd and Placement is what real nodes do, and nothing of it is lost or left over."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from bench.simulated import simulated_nodes
from bench.soak import Soak
from placet import keys, wiring
from placet.cli.compute import main
from placet.cli.main import main as schedule
from placet.config import BESIDE_SCRIPT, PlacementConfig
from placet.errors import Conflict
from placet.model import decode, encode
from placet.node_records import Alive, Identity
from placet.placement import Placement
from placet.registration import PROVIDER_PREFIX
from placet.simulation.boots import BOOTS
from placet.simulation.enlisting import Stopped
from placet.simulation.fleet import Fleet
from placet.simulation.nodes import SimulatedNode
from placet.simulation.shapes import hypervisor_of, inventory_of, node_of
from placet.store import Entry, Put
from placet.store.etcd import EtcdStore
from tests.support.nodes import until
from tests.support.services import Etcd, PlacementServer, etcd_server


@pytest.fixture
def prefix() -> str:
    return f"/simulated-{uuid.uuid4()}"


def test_a_soak_loses_doubles_and_leaves_nothing(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    with simulated_nodes(20, etcd, placement, prefix, tmp_path) as cloud:
        soak = Soak(cloud, per_s=8.0)
        soak.go_on(lambda: soak.tally.created < 40 and not soak.tally.wrong)
        soak.end()
        assert soak.tally.wrong == []
        assert soak.findings == []
        assert soak.tally.created == soak.tally.destroyed >= 40
        assert min(soak.tally.late_s) >= min(ip_s for ip_s, _ in BOOTS), "boots take as long as the recorded ones"


def test_a_second_start_finds_the_nodes_and_a_larger_one_adds_to_them(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    reached = Placement(PlacementConfig(placement.endpoint))
    with simulated_nodes(5, etcd, placement, prefix, tmp_path) as cloud:
        first = [node.id for node in cloud.fleet.nodes]
        records = {entry.key: entry for entry in _of_nodes(cloud.store)}
        generations = {found.uuid: found.generation for found in reached.providers()}
        assert {provider: reached.inventories(provider)[0] for provider in first} == {
            node: inventory_of(number) for number, node in enumerate(first, 1)
        }
    with simulated_nodes(7, etcd, placement, prefix, tmp_path) as cloud:
        assert [node.id for node in cloud.fleet.nodes][:5] == first
        again = {entry.key: entry for entry in _of_nodes(cloud.store)}
        assert {key: again[key] for key in records} == records
        assert {found.uuid: found.generation for found in reached.providers()}.items() > generations.items()
        assert len(cloud.store.scan(keys.ALIVE).entries) == 7
    with simulated_nodes(2, etcd, placement, prefix, tmp_path) as cloud:
        alive = [decode(Alive, entry.value, entry.key) for entry in cloud.store.scan(keys.ALIVE).entries]
        assert sorted((each.name, each.virt_type) for each in alive) == [
            ("sim-00001", "simulated"),
            ("sim-00002", "simulated"),
        ]


def _of_nodes(store: EtcdStore) -> list[Entry]:
    """Identities and subnets."""
    entries = [*store.scan(keys.NODES).entries, *store.scan(keys.SUBNETS).entries]
    return [entry for entry in entries if not entry.key.endswith("/seen")]


def test_a_provider_that_was_only_half_made_is_finished(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    reached = Placement(PlacementConfig(placement.endpoint))
    (tmp_path / "node-uuid").write_text(seed := str(uuid.uuid4()))
    node, hypervisor = node_of(seed, 1), hypervisor_of(seed, 1)
    assert reached.create_provider(node, PROVIDER_PREFIX + hypervisor)
    with simulated_nodes(1, etcd, placement, prefix, tmp_path) as cloud:
        assert [each.id for each in cloud.fleet.nodes] == [node]
        assert reached.inventories(node)[0] == inventory_of(1)
        assert "COMPUTE_NODE" in reached.traits(node)[0]


def test_a_name_that_another_node_has_is_refused(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    store, other = EtcdStore(etcd.client, prefix), str(uuid.uuid4())
    identity = Identity(other, "sim-00002", str(uuid.uuid4()), 1.0)
    store.transact([], [Put(keys.identity(other), encode(identity))])
    with pytest.raises(Conflict, match=f"a node sim-00002 already \\({other}\\)"):
        with simulated_nodes(3, etcd, placement, prefix, tmp_path):
            raise AssertionError("it must not serve")
    assert Placement(PlacementConfig(placement.endpoint)).providers() == []
    with simulated_nodes(1, etcd, placement, prefix, tmp_path):
        assert len(store.scan(keys.ALIVE).entries) == 1
    store.close()


def test_after_etcd_was_away_all_go_on_as_if_nothing_had_been(
    placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    with etcd_server() as etcd, simulated_nodes(10, etcd, placement, prefix, tmp_path) as cloud:
        soak = Soak(cloud, per_s=4.0)
        soak.go_on(lambda: soak.tally.created < 4)
        lists = {node.number: node.watcher._watch for node in cloud.fleet.nodes}
        etcd.restart()
        until(
            lambda: all(node.watcher._watch not in (None, lists[node.number]) for node in cloud.fleet.nodes),
            "each has listed anew",
            90,
        )
        until(lambda: len(cloud.store.scan(keys.ALIVE).entries) == 10, "all are alive", 60)
        soak.go_on(lambda: soak.tally.created < 8)
        soak.end()
        assert soak.tally.wrong == []
        assert soak.findings == []


def test_what_operators_ask_a_node_for_is_answered(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with simulated_nodes(2, etcd, placement, prefix, tmp_path) as cloud:

        def ask(*words: str) -> str:
            capsys.readouterr()
            assert schedule(["--config", str(cloud.config_file), *words]) == 0
            return capsys.readouterr().out

        ask("create", "resources=VCPU:1", "--image", "/images/any.qcow2", "--name", "web", "--wait")
        assert "booting" in ask("console", "web")
        assert "clean" in ask("doctor")
        ask("destroy", "web")
        assert "simulated" in ask("nodes", "-f", "json") or "sim-00001" in ask("nodes")


def test_destroys_that_wait_are_carried_out_before_a_node_is_alive(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    with simulated_nodes(1, etcd, placement, prefix, tmp_path) as cloud:
        soak = Soak(cloud, per_s=10.0)
        soak.go_on(lambda: soak.tally.created < 1)
        placed = wiring.instances(cloud.store).all()[0]
        destroy = keys.destroy(placed.index.node, placed.index.instance)
    store = EtcdStore(etcd.client, prefix)
    store.transact([], [Put(destroy, b'{"version":1,"by":"test","at":1.0}')])
    with simulated_nodes(1, etcd, placement, prefix, tmp_path) as cloud:
        until(lambda: store.get(destroy) is None, "it is done")
        alive, gone = store.scan(keys.ALIVE).entries[0], store.scan(keys.events(placed.index.instance)).entries[-1]
        assert gone.mod_revision < alive.create_revision
        assert cloud.findings() == []
    store.close()


def test_one_that_is_stopped_while_it_begins_leaves_no_node_alive(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = Fleet._begin, threading.Event()

    def begin_once(fleet: Fleet, batch: Sequence[SimulatedNode], stop: threading.Event) -> None:
        if begun.is_set():
            raise Stopped
        begin(fleet, batch, stop)
        begun.set()

    monkeypatch.setattr(Fleet, "_begin", begin_once)
    monkeypatch.setattr("placet.simulation.fleet.PER_BATCH", 2)
    monkeypatch.setattr("placet.simulation.fleet.AT_ONCE", 1)
    store = EtcdStore(etcd.client, prefix)
    with pytest.raises(Stopped):
        with simulated_nodes(4, etcd, placement, prefix, tmp_path):
            raise AssertionError("it must not serve")
    assert begun.is_set()
    assert store.scan(keys.ALIVE).entries == ()
    store.close()


@pytest.mark.parametrize("count", ["0", "-1", "10000000", "many", "1.5", "٣", ""])
def test_no_number_of_nodes_is_a_usage_error(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--simulate={count}"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "from 1 to 50000" in told


def test_the_program_says_what_they_are_and_ends_cleanly(
    etcd: Etcd, placement: PlacementServer, prefix: str, tmp_path: Path
) -> None:
    config = {"state_dir": str(tmp_path), "etcd": dict(etcd.client), "etcd_prefix": prefix}
    config["placement"] = {"endpoint": placement.endpoint}
    path = tmp_path / "compute.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, str(BESIDE_SCRIPT / "compute.py"), "--config", str(path), "--simulate", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        store = EtcdStore(etcd.client, prefix)
        until(lambda: len(lines) == 2, "it serves", 60)
        assert len(store.scan(keys.ALIVE).entries) == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        reader.join(10)
    assert [line.split(" simulated nodes")[0] for line in lines] == ["registered 3", "serving 3", "stopped 3"]
    assert store.scan(keys.ALIVE).entries == ()
    providers = Placement(PlacementConfig(placement.endpoint)).providers()
    assert len(providers) == 3
    store.close()
