"""An etcd that was emptied, restored from a backup, or is the wrong one: guests go on, and one --fix is enough."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from placet import keys
from placet.cli.doctor import FIXED, FOUND
from placet.cloud import found_cloud, read_cloud
from placet.config import BESIDE_SCRIPT
from placet.lifecycle import Power, State
from placet.model import decode
from placet.node import Node
from placet.node_records import Subnet
from placet.store.etcd import EtcdStore
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import QUERY, ScheduleCommand, run_command
from tests.support.nodes import FakeMachine, until
from tests.support.services import PlacementServer, etcd_server


def assert_untouched(cloud: TestCloud, machine: FakeMachine, *instances: str) -> None:
    for instance in instances:
        assert machine.hypervisor.domains[instance].power is Power.RUNNING
        assert instance in machine.hypervisor.disks and cloud.held(instance)


def assert_one_fix_is_enough(command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, *names: str) -> None:
    """A look after it is clean, and the instances are ordinary ones again."""
    instances = set(machine.hypervisor.domains)
    assert command.doctor("--fix")[0] == FIXED
    assert command.doctor() == (0, [])
    assert {row.index.instance for row in cloud.instances.all()} == instances
    until(lambda: {row.state for row in cloud.instances.all()} == {State.ACTIVE}, "all are ACTIVE again")
    for name in names:
        assert command("ip", name).code == 0
        assert command("destroy", name).code == 0
    assert machine.hypervisor.domains == {}
    assert command.place("another", "--image", str(machine.image)), "instances can be placed as ever"
    assert [held for held in map(cloud.held, instances) if held] == []


def story(cloud: TestCloud, subject: str) -> bytes:
    return b"".join(entry.value for entry in cloud.store.scan(keys.events(subject)).entries)


def test_an_emptied_etcd_releases_nothing_and_one_fix_brings_all_back(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    web, db = command.place("web"), command.place("db")
    cloud.empty_etcd()
    node.agent._auditor.hurry()
    until(lambda: b"stray" in story(cloud, db), "its node has compared what is left")
    assert_untouched(cloud, machine, web, db)
    code, found = command.doctor()
    assert code == FOUND and not any(repaired for _, _, repaired in found)
    assert {(kind, subject) for kind, subject, _ in found} >= {
        ("lost-cloud", keys.CLOUD),
        ("other-etcd", node.id),
        ("stray", web),
        ("stray", db),
    }
    assert read_cloud(cloud.store) is None
    assert_untouched(cloud, machine, web, db)
    assert_one_fix_is_enough(command, cloud, machine, "web", "db")
    assert read_cloud(cloud.store) == cloud.id


def test_an_allocation_that_is_leaked_while_etcd_is_in_doubt_is_kept_until_it_is_accepted(
    command: ScheduleCommand, cloud: TestCloud, node: Node
) -> None:
    web = command.place("web")
    node.driver.remove_domain(web)
    node.driver.remove_disk(web)
    cloud.empty_etcd()
    node.agent._auditor.hurry()
    until(lambda: b"leaked-allocation" in story(cloud, web), "it is told")
    assert cloud.held(web)
    assert ("leaked-allocation", web, True) in command.doctor("--fix")[1]
    assert cloud.held(web) == {}


def test_an_agent_that_restarts_while_etcd_is_empty_founds_no_other_cloud(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        web = command.place("web")
    cloud.empty_etcd()
    with machine.agent() as again:
        until(lambda: b"stray" in story(cloud, web), "it has compared what is left")
        assert again.id == node.id and read_cloud(cloud.store) is None
        assert_untouched(cloud, machine, web)
        told = command("create", QUERY, str(machine.image))
        assert told.code == 3 and "etcd has no cloud under" in told.err and "schedule.py doctor" in told.err
        assert_one_fix_is_enough(command, cloud, machine, "web")


def test_nodes_that_restart_while_etcd_is_empty_keep_their_subnets(
    cloud: TestCloud, machine: FakeMachine, other_machine: FakeMachine
) -> None:
    def subnets() -> dict[str, int]:
        records = [decode(Subnet, entry.value, entry.key) for entry in cloud.store.scan(keys.SUBNETS).entries]
        return {record.node: record.number for record in records}

    with machine.agent(), other_machine.agent():
        before = subnets()
    cloud.empty_etcd()
    with other_machine.agent(), machine.agent():
        assert subnets() == before and len(before) == 2


def test_a_wrong_etcd_prefix_touches_nothing_and_who_asks_is_told(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        web = command.place("web")
    right, machine.etcd_prefix = machine.etcd_prefix, f"/wrong-{new_uuid()}"
    wrong = ScheduleCommand.configured(machine.config, machine.state_dir.parent / "wrong.yaml", capsys)
    with machine.agent() as lost:
        until(lambda: lost.store.scan(keys.ALIVE).entries, "it comes up")
        told = wrong("create", QUERY, str(machine.image))
        assert told.code == 3 and f"no cloud under {machine.etcd_prefix}" in told.err and "etcd_prefix:" in told.err
        code, found = wrong.doctor()
        assert code == FOUND and ("other-etcd", node.id, False) in found
        assert lost.store.get(keys.CLOUD) is None
        assert_untouched(cloud, machine, web)
    machine.etcd_prefix = right
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        assert command.doctor() == (0, [])
        assert command("destroy", "web").code == 0
        assert machine.hypervisor.domains == {}


def test_a_node_of_another_cloud_is_refused_at_its_start(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        web = command.place("web")
    cloud.empty_etcd()
    other = new_uuid()
    assert found_cloud(cloud.store, other, 1.0)
    config = machine.state_dir.parent / "compute.yaml"
    found = machine.config
    text = {"state_dir": found.state_dir, "etcd": found.etcd, "etcd_prefix": found.etcd_prefix, "driver": "fake"}
    config.write_text(yaml.safe_dump({**text, "placement": {"endpoint": found.placement.endpoint}}))
    told = run_command([sys.executable, str(BESIDE_SCRIPT / "compute.py"), "--config", str(config)], timeout_s=120)
    assert (told.code, told.out, told.err.count("\n")) == (5, "", 1), told
    assert f"this node belongs to cloud {cloud.id}, and etcd holds cloud {other}" in told.err
    assert [entry.key for entry in cloud.store.scan("").entries] == [keys.CLOUD]
    assert_untouched(cloud, machine, web)


def test_an_etcd_of_another_cloud_is_never_accepted(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    web = command.place("web")
    cloud.empty_etcd()
    assert found_cloud(cloud.store, new_uuid(), 1.0)
    node.agent._auditor.hurry()
    until(lambda: b"belongs to cloud" in story(cloud, node.id), "its node tells of it")
    node.agent._heartbeat._seen_at = float("-inf")  # it looks for its key twice a minute: now
    until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive again")
    code, found = command.doctor("--fix")
    assert code == FOUND and ("other-etcd", node.id, False) in found
    assert_untouched(cloud, machine, web)


@pytest.mark.parametrize("backup", [True, False], ids=["an old backup", "an empty disk"])
def test_an_etcd_that_comes_back_with_an_older_past_is_in_doubt_until_it_is_accepted(
    placement: PlacementServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], backup: bool
) -> None:
    with etcd_server() as etcd:
        assert etcd.process
        cloud = TestCloud.make(EtcdStore(etcd.client, "/restored"), placement.endpoint)
        machine = FakeMachine(etcd, placement, "/restored", tmp_path / "n1", "n1")
        command = ScheduleCommand.configured(machine.config, tmp_path / "schedule.yaml", capsys)
        image = ("--image", str(machine.image))
        with machine.agent() as node:
            until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
            web = command.place("web", *image)
            etcd.process.stop()
            shutil.copytree(etcd.directory / "etcd", etcd.directory / "backup")
            etcd.start()
            until(lambda: command("nodes", "-f", "value", "-c", "state").out == "up\n", "alive")
            db = command.place("db", *image)
            assert command.doctor() == (0, [])
            etcd.process.kill()
            shutil.rmtree(etcd.directory / "etcd")
            if backup:
                shutil.move(etcd.directory / "backup", etcd.directory / "etcd")
            etcd.start()
            until(lambda: b"other-etcd" in story(cloud, node.id), "its node has noticed")
            until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive there too")
            assert ("other-etcd", node.id, False) in command.doctor()[1]
            assert_untouched(cloud, machine, web, db)
            assert_one_fix_is_enough(command, cloud, machine, "web", "db")
        cloud.store.close()
