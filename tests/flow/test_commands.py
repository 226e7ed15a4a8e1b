"""The command line against real services: exactly the promised outputs and exit codes, one line for each error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from placet import keys
from placet.cli.main import main
from placet.cloud import join_cloud
from placet.compute_config import FakeConfig
from placet.model import ImageRecord, encode
from placet.store import Put
from placet.store.etcd import EtcdStore
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import ScheduleCommand, Told
from tests.support.nodes import FakeMachine, until
from tests.support.services import Etcd

QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:256"
PLACED = re.compile(r"NOTIFIED TARGET, ([0-9a-f-]{36}), OF INSTANCE ([0-9a-f-]{36})\n")


@pytest.fixture
def node(cloud: TestCloud, machine: FakeMachine) -> Iterator[str]:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        yield node.id


def test_the_three_forms(command: ScheduleCommand, node: str) -> None:
    told = command(QUERY)
    placed = PLACED.fullmatch(told.out)
    assert placed and placed[1] == node and told.code == 0 and told.err == ""
    until(lambda: command(placed[2]).code == 0, "it has an IP")
    assert re.fullmatch(r"[0-9.]+\n", command(placed[2]).out)
    assert command("destroy", placed[2]) == Told(0, "", "")
    again = command("destroy", placed[2])
    assert (again.code, again.out, again.err) == (0, "", f"{placed[2]} was gone already\n")
    assert command(placed[2]).code == 1


def test_a_name_whose_instance_is_gone_can_be_destroyed_again(command: ScheduleCommand, node: str) -> None:
    assert command(QUERY, "--name", "web").code == 0
    assert command("destroy", "web") == Told(0, "", "")
    assert command("destroy", "web") == Told(0, "", "web was gone already\n")
    told = command("destroy", "wbe")
    assert (told.code, told.err.count("\n")) == (1, 1)


def test_what_fits_nowhere(command: ScheduleCommand, node: str) -> None:
    told = command("resources=VCPU:1000")
    assert (told.code, told.out) == (3, "NO ALLOCATIONS LEFT\n")
    assert told.err == "schedule.py: 1 node: 1 lack VCPU (largest free 8, asked 1000); fits with VCPU:8\n"


def test_an_ip_that_is_not_there_yet_says_the_stage_and_since_when(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    machine.fake = FakeConfig(boot_s=600)
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        told = command(QUERY)
        instance = told.out.split()[-1]
        until(lambda: "at stage started for" in command(instance).err, "it is started")
        assert command(instance).code == 4
        assert command(instance).out == ""
        assert command(QUERY, "--wait", "--wait-timeout", "0.2").code == 4


def test_wait_prints_the_ip(command: ScheduleCommand, node: str) -> None:
    told = command(QUERY, "--name", "web", "--wait")
    assert re.fullmatch(r"NOTIFIED TARGET, .*\n[0-9.]+\n", told.out)
    assert command("ip", "web").out == told.out.splitlines()[1] + "\n"


def test_count_places_so_many_with_numbered_names(command: ScheduleCommand, node: str) -> None:
    told = command(QUERY, "--count", "3", "--name", "web")
    assert len(told.out.splitlines()) == 3
    names = [row["name"] for row in json.loads(command("list", "-f", "json").out)]
    assert names == ["web-1", "web-2", "web-3"]


def test_list_in_json_has_what_programs_need(command: ScheduleCommand, node: str) -> None:
    command(QUERY, "--name", "web", "--wait")
    (row,) = json.loads(command("list", "-f", "json").out)
    assert {"uuid", "name", "state", "stage", "node", "ip", "created_at"} <= set(row)
    assert (row["name"], row["state"], row["node"]) == ("web", "ACTIVE", "n1")


def test_an_empty_list_in_json_is_an_empty_array(command: ScheduleCommand) -> None:
    assert json.loads(command("list", "-f", "json").out) == []


def test_show_tells_all_and_a_prefix_finds_it(command: ScheduleCommand, node: str) -> None:
    told = command(QUERY, "--name", "web", "--wait")
    instance = told.out.split("INSTANCE ")[1][:36]
    shown = json.loads(command("show", instance[:8], "-f", "json").out)
    assert shown["uuid"] == instance
    assert set(shown["stages"]) >= {"claimed", "image", "defined", "started", "ip"}
    assert command("show", "web", "-c", "uuid", "-f", "value").out == instance + "\n"


def test_nodes_shows_capacity_use_and_since_when_one_is_not_alive(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        (row,) = json.loads(command("nodes", "-f", "json").out)
        assert (row["name"], row["state"], row["vcpu"]) == ("n1", "up", "0/8")
    (row,) = json.loads(command("nodes", "-f", "json").out)
    assert (row["state"], row["vcpu"]) == ("stopped", None)
    assert row["since_at"]


def test_an_instance_on_a_silent_node_is_unknown(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        command(QUERY, "--name", "web", "--wait")
    (row,) = json.loads(command("list", "-f", "json").out)
    assert row["state"] == "UNKNOWN"


def test_the_same_uuid_again_is_the_same_instance(command: ScheduleCommand, node: str) -> None:
    instance = new_uuid()
    first = command(QUERY, "--uuid", instance)
    assert command(QUERY, "--uuid", instance).out == first.out
    assert command("resources=VCPU:2", "--uuid", instance).code == 5
    assert len(json.loads(command("list", "-f", "json").out)) == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("resources=VCPU",), 2, "'VCPU' is not CLASS:AMOUNT"),
        (("resources=VCPU:1,NO_SUCH_CLASS:1",), 2, "NO_SUCH_CLASS"),
        (("resources=VCPU:1", "nope"), 2, "image 'nope' is unknown"),
        (("resources=VCPU:1", "a", "--image", "b"), 2, "give one of them"),
        (("resources=VCPU:1,MEMORY_MB:32",), 2, "needs MEMORY_MB:64"),
        (("resources=VCPU:1", "--name", "Web"), 2, "'Web' is no name"),
        (("resources=VCPU:1", "--name", "deadbeef"), 2, "reads as a UUID"),
        (("resources=VCPU:1", "--uuid", "x"), 2, "is not a UUID"),
        (("resources=VCPU:1", "--count", "0"), 2, "--count 0"),
        (("resources=VCPU:1", "--key", "/nonexistent"), 2, "/nonexistent"),
        (("resources=VCPU:1", "--user-data", "/nonexistent"), 2, "user-data /nonexistent: No such file"),
        (("resources=VCPU:1", "--user-data", "/"), 2, "user-data /: Is a directory"),
        (("resources=VCPU:1", "--user-data", "/dev/zero"), 2, "user-data is over 64 KiB"),
        (("resources=VCPU:1", "--key", "nobody"), 2, "key 'nobody' is no file here and no key of project 'default'"),
        (("resources=VCPU:1", "--key", "/etc/hostname"), 2, "key /etc/hostname: no ssh public key"),
        (("resources=VCPU:1", "--hostname", "we_b"), 2, "'we_b' is no host name"),
        (("resources=VCPU:1", "--hostname", "web", "--count", "2"), 2, "--hostname is one instance's own"),
        (("resources=VCPU:1", "--property", "role"), 2, "property 'role' is not KEY=VALUE"),
        (("resources=VCPU:1", "--file", "etc/motd=/etc/motd"), 2, "absolute and without '..'"),
        (("resources=VCPU:1", "--file", "/etc/motd=/nonexistent"), 2, "file /nonexistent: No such file"),
        (("resources=VCPU:1", "--file", "/etc/motd=/dev/zero"), 2, "over 32 KiB"),
        (("resources=VCPU:1", "odd"), 2, "image 'odd' has property config_drive=usb: expected one of openstack, noc"),
        (("resources=VCPU:1", "odd", "--config-drive", "none"), 2, "image property kind=bsd: no kind of image"),
        (("show", "nobody"), 1, "no instance 'nobody'"),
        (("show", "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"), 1, "no instance 7b0c6a3e"),
        (("7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10",), 1, "no instance 7b0c6a3e"),
        (("destroy", "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"), 1, "nothing was destroyed"),
        (("nodes", "-c", "nam"), 2, "no column 'nam'"),
    ],
)
def test_bad_input_is_one_line_the_right_code_and_leaves_nothing(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, words: tuple[str, ...], code: int, text: str
) -> None:
    node = cloud.add_node("n2")
    odd = ImageRecord("odd", "/images/odd", properties={"config_drive": "usb", "kind": "bsd"})
    cloud.store.transact([], [Put(keys.image("odd"), encode(odd))])
    told = command(*words)
    assert (told.code, text in told.err) == (code, True), told
    assert told.out in ("", "NO ALLOCATIONS LEFT\n")
    assert cloud.placement.usages(node).get("VCPU", 0) == 0
    assert cloud.store.scan(keys.INTENTS).entries == ()
    assert cloud.store.scan(keys.INSTANCES).entries == ()


def test_a_failed_instance_says_why_and_a_destroy_clears_it(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: str
) -> None:
    told = command(QUERY, f"{machine.state_dir}/images/none.qcow2", "--wait")
    assert told.code == 1
    assert "image-not-found" in told.err and "none.qcow2" in told.err
    instance = told.out.split()[-1]
    assert command(instance).code == 1
    assert command("destroy", instance).code == 0
    assert machine.hypervisor.domains == {} and cloud.held(instance) == {}


def test_services_that_are_not_there_are_named_with_what_to_start(
    command: ScheduleCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str], etcd: Etcd
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("etcd: {host: 127.0.0.1, port: 1}\n")
    assert main(["--config", str(config), "list"]) == 1
    assert "etcd at 127.0.0.1:1 is not reachable; start it" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({"etcd": dict(etcd.client), "placement": {"endpoint": "http://127.0.0.1:1"}}))
    assert main(["--config", str(config), QUERY, "/images/x"]) == 3
    assert "etcd has no cloud under /placet: start a node" in capsys.readouterr().err
    join_cloud(EtcdStore(etcd.client), None, new_uuid, 1.0)
    assert main(["--config", str(config), QUERY, "/images/x"]) == 1
    assert "Placement at http://127.0.0.1:1 is not reachable; start it" in capsys.readouterr().err


def test_a_destroy_of_several_tells_each_failure_and_does_the_rest(
    cloud: TestCloud, machine: FakeMachine, node: str, tmp_path: Path, command: ScheduleCommand
) -> None:
    command(QUERY, "--name", "web", "--wait")
    told = command("destroy", "nobody", "web")
    assert told.code == 1 and "nobody" in told.err
    assert machine.hypervisor.domains == {}


def test_nodes_tell_what_is_used_as_soon_as_it_is_placed(command: ScheduleCommand, node: str) -> None:
    command(QUERY)
    (row,) = json.loads(command("nodes", "-f", "json").out)
    assert (row["instances"], row["vcpu"], row["memory_mb"], row["disk_gb"]) == (1, "1/8", "256/8192", "1/100")
