"""The lab of several hosts (tests/lab): it runs real VMs, its links break as they should, and nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from placet.config import BESIDE_SCRIPT
from placet.errors import PlacetError
from tests.faults.checker import Place, wait_until_sound
from tests.lab import Lab, LabNode, lab
from tests.lab.control import PLACEMENT_PORT, etcd_port
from tests.lab.daemon import read_line
from tests.lab.probe import processes_of, reach, traces
from tests.lab.switch import ADDRESS
from tests.support.commands import Told, run_command
from tests.support.nodes import until

QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:128"
HOLDER = """\
from tests.lab import lab
with lab(nodes=1) as held:
    told = held.schedule("resources=VCPU:1", "--wait")
    held.nodes[0].pause_agent()
    print(told.code, held.directory, held.control.directory, flush=True)
    held.nodes[0].wait_agent_exit(600)
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Lab]:
    with lab(nodes=2) as made:
        yield made
        places = [Place(each.uuid, each.host.uri, each.state_dir) for each in made.nodes]
        wait_until_sound(made.store, made.placement_endpoint, places)


@pytest.fixture
def node(cloud: Lab) -> LabNode:
    return cloud.nodes[0]


def command(*words: str) -> Told:
    return run_command(["env", f"PYTHONPATH={BESIDE_SCRIPT}", sys.executable, "-m", "tests.lab", *words])


def test_a_vm_boots_on_a_node_and_is_reached_from_inside_that_node_alone(cloud: Lab) -> None:
    told = cloud.schedule(QUERY, "--name", "web", "--wait")
    assert told.code == 0, told.err
    found = json.loads(cloud.schedule("show", "web", "-f", "json").out)
    (home,) = (each for each in cloud.nodes if each.uuid == found["node_uuid"])
    (elsewhere,) = (each for each in cloud.nodes if each is not home)

    until(lambda: reach(home.host, 22, found["ip"]) == "answers", "its ssh answers")
    assert reach(elsewhere.host, 22, found["ip"]) == "Network is unreachable"
    assert cloud.schedule("destroy", "web") == Told(0, "", "")


def test_each_node_reaches_the_control_plane_and_the_others(cloud: Lab) -> None:
    for each in cloud.nodes:
        assert reach(each.host, etcd_port(1)) == reach(each.host, PLACEMENT_PORT) == "answers"
    assert reach(cloud.nodes[0].host, 1, cloud.nodes[1].config["address"]) == "refused"


def test_a_link_that_is_cut_refuses_until_it_is_healed(node: LabNode) -> None:
    node.link.cut()
    assert reach(node.host, etcd_port(1)) == reach(node.host, PLACEMENT_PORT) == "refused"
    node.link.heal()
    assert reach(node.host, etcd_port(1)) == "answers"


def test_a_silent_link_accepts_and_says_nothing(node: LabNode, cloud: Lab) -> None:
    node.link.silence()
    assert reach(node.host, etcd_port(1), within_s=0.5) == "silent"
    assert reach(cloud.nodes[1].host, etcd_port(1)) == "answers"
    node.link.heal()
    assert reach(node.host, etcd_port(1)) == "answers"


def test_a_slow_link_answers_late(node: LabNode) -> None:
    node.link.delay(0.5)
    assert reach(node.host, etcd_port(1), within_s=0.2) == "silent"
    assert reach(node.host, etcd_port(1)) == "answers"
    node.link.heal()


def test_an_unplugged_node_hears_nothing_of_the_network(node: LabNode, cloud: Lab) -> None:
    other = cloud.nodes[1]
    node.unplug()
    assert reach(node.host, etcd_port(1), ADDRESS, within_s=0.5) == "silent"
    assert reach(other.host, 1, node.config["address"], within_s=0.5) == "silent"
    assert reach(other.host, etcd_port(1), ADDRESS) == "answers"
    node.plug()
    until(lambda: reach(node.host, etcd_port(1), ADDRESS) == "answers", "plugged in again")


def test_services_are_paused_killed_and_started_again_with_their_data(cloud: Lab) -> None:
    health = f"http://127.0.0.1:{cloud.etcd_client['port']}/health"
    for service, url in ((cloud.control.etcd, health), (cloud.control.placement, cloud.placement_endpoint)):
        service.pause()
        with pytest.raises(requests.ReadTimeout):
            requests.get(url, timeout=0.5)
        service.resume()
        assert requests.get(url, timeout=60).ok
        service.kill()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=60)
        service.start()
    assert cloud.schedule("nodes").out.count("node-") == 2


def test_an_agent_is_killed_stopped_paused_and_started_again(node: LabNode) -> None:
    uuid = node.uuid
    node.kill_agent()
    assert not node.agent_running and node.wait_agent_exit() == 128 + signal.SIGKILL
    node.start_agent(env={"PYTHONFAULTHANDLER": "1"}, settings={"metadata_service": True})
    node.wait_ready()
    assert node.uuid == uuid and node.cpu_seconds() > 0
    until(lambda: reach(node.host, 80, "169.254.169.254") == "answers", "the metadata service answers")
    node.pause_agent()
    node.resume_agent()
    assert node.stop_agent() == 0 and "event=stopped" in node.agent_log
    node.start_agent(settings={"metadata_service": False})
    node.wait_ready()


def test_etcd_goes_back_to_a_snapshot_or_to_nothing_as_another_cluster(cloud: Lab) -> None:
    for each in cloud.nodes:
        each.stop_agent()
    taken = cloud.store.scan("")
    snapshot = cloud.control.snapshot_etcd()
    cloud.nodes[0].start_agent()
    cloud.nodes[0].wait_ready()
    assert cloud.control.compact_etcd() > taken.revision

    cloud.control.restore_etcd(snapshot)
    until(lambda: reachable(cloud), "etcd answers")
    restored = cloud.store.scan("")
    assert restored.cluster_id != taken.cluster_id

    cloud.nodes[0].stop_agent()
    cloud.control.empty_etcd()
    until(lambda: reachable(cloud), "etcd answers")
    assert cloud.store.scan("").revision == 1

    cloud.control.restore_etcd(snapshot)
    for each in cloud.nodes:
        each.start_agent()
        each.wait_ready()


def reachable(cloud: Lab) -> bool:
    try:
        cloud.store.scan("")
    except PlacetError:
        return False
    return True


def test_a_lab_that_ends_leaves_nothing() -> None:
    before = traces(Path("/nonexistent"))
    with lab(nodes=1, etcds=3, start_agents=False) as made:
        made.control.etcds[2].kill()
        until(lambda: made.schedule("nodes").code == 0, "the others have a leader")  # it may have been the third
        made.control.etcds[1].pause()
        directory, data = made.directory, made.control.directory
        assert len(processes_of(directory)) > 3 and data.is_dir()

    assert not directory.exists() and not data.exists()
    until(lambda: traces(directory) <= before, "nothing is left")


def test_a_lab_whose_holder_is_killed_leaves_no_process_mount_or_interface() -> None:
    before = traces(Path("/nonexistent"))
    with child("-c", HOLDER) as holder:
        code, *places = line_of(holder).split()
        directory, data = map(Path, places)
        assert code == "0" and len(processes_of(directory)) > 3

    until(lambda: traces(directory) <= before, "nothing is left")
    shutil.rmtree(directory)
    shutil.rmtree(data)


def test_people_run_it_in_the_foreground_and_get_a_shell_inside() -> None:
    with child("-m", "tests.lab", "up", "--nodes", "1") as running:
        said = ""
        while "agent.log" not in said:
            said += line_of(running)
        directory = said.split("agents' logs: ")[1].split("/node-*")[0]
        hostname = command("sh", "--lab", directory, "node-1", "hostname")
        absent = command("sh", "--lab", directory, "node-9")
        running.send_signal(signal.SIGTERM)
        assert running.wait(120) == 0

    assert hostname == Told(0, "node-1\n", "")
    assert absent.code == 2 and "there are node-1, switch" in absent.err
    assert not Path(directory).exists()


@contextlib.contextmanager
def child(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program of this project that is killed in the end."""
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=BESIDE_SCRIPT, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[bytes]) -> str:
    """A line that it says; fails the test if it ends instead."""
    assert process.stdout is not None
    line = read_line(process.stdout.fileno(), 300)
    assert line, "it ended without a word"
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "VERB"),
        (["down"], "'down'"),
        (["up", "--nodes", "0"], "'0' is no number from 1 to"),
        (["up", "--etcds", "2"], "choose from 1, 3"),
        (["sh", "--lab", "/nonexistent", "node-1"], "no such lab runs"),
    ],
)
def test_wrong_input_is_one_line_and_2(words: list[str], said: str) -> None:
    told = command(*words)
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1), told
    assert said in told.err


def test_without_root_it_says_so() -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"PYTHONPATH={BESIDE_SCRIPT}"]
    told = run_command([*nobody, sys.executable, "-m", "tests.lab", "up"])
    assert (told.code, told.err) == (2, "tests.lab: root is needed, to make namespaces: sudo\n"), told


def test_help_says_how_it_is_used() -> None:
    told = command("--help")
    assert told.code == 0 and "sh NODE" in told.out and "--nodes" in told.out
