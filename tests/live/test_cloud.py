"""The main job, for real: `./up.sh` on this machine, then VMs by schedule.py, looked at from inside and outside."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from placet.config import BESIDE_SCRIPT
from placet.lifecycle import Stage
from placet.store.etcd import EtcdStore
from tests.faults.checker import Place, wait_until_sound
from tests.support.commands import Told, run_command
from tests.support.guest import Guest
from tests.support.nodes import until

QUERY = "resources=VCPU:1,DISK_GB:2,MEMORY_MB:128"
BOOT_S = 240.0
USER_DATA = "#!/bin/sh\necho hello from $(hostname) > /root/said\n"


@dataclass(frozen=True)
class Cloud:
    """A cloud that up.sh started, in a state directory of the test's own."""

    state_dir: Path
    up_output: str

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PLACET_STATE_DIR": str(self.state_dir)}

    def up(self, *words: str) -> Told:
        return self._run(str(BESIDE_SCRIPT / "up.sh"), *words)

    def schedule(self, *words: str) -> Told:
        return self._run(str(BESIDE_SCRIPT / ".venv/bin/python"), str(BESIDE_SCRIPT / "schedule.py"), *words)

    def show(self, instance: str) -> dict[str, Any]:
        told = self.schedule("show", instance, "-f", "json")
        assert told.code == 0, told.err
        return dict(json.loads(told.out))

    @property
    def uri(self) -> str:
        return str(yaml.safe_load((self.state_dir / "compute.yaml").read_text())["libvirt_uri"])

    def _run(self, *argv: str) -> Told:
        return run_command(argv, self.environment)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    state_dir = Path(tempfile.mkdtemp(prefix="placet-live-", dir="/var/tmp"))
    state_dir.rmdir()
    cloud = Cloud(state_dir, "")
    try:
        told = cloud.up("up", "--own-libvirt")
        assert told.code == 0, told.out + told.err
        yield Cloud(state_dir, told.out)
    finally:
        gone = cloud.up("destroy", "--yes")
        left = state_dir.exists()
        shutil.rmtree(state_dir, ignore_errors=True)
        assert gone.code == 0 and not left, gone.out + gone.err


@pytest.fixture(scope="module")
def web(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A VM with everything a user can give it; shared by the tests that only look."""
    script = tmp_path_factory.mktemp("user-data") / "script"
    script.write_text(USER_DATA)
    told = cloud.schedule(QUERY, "--name", "web", "--user-data", str(script), "--wait-for", "agent")
    assert told.code == 0, told.err
    return cloud.show("web")


@pytest.fixture(scope="module")
def guest(cloud: Cloud, web: dict[str, Any]) -> Iterator[Guest]:
    guest = Guest(cloud.uri, web["uuid"])
    until(lambda: guest.run("/bin/sh", "-c", "test -e /run/placet/ready")[0] == 0, "the guest is ready", BOOT_S)
    yield guest
    guest.close()


def qemu_of(instance: str) -> psutil.Process:
    return next(
        each for each in psutil.process_iter(["cmdline"]) if f"guest={instance}" in " ".join(each.info["cmdline"] or ())
    )


def agent_of(cloud: Cloud) -> psutil.Process:
    config = str(cloud.state_dir / "compute.yaml")
    return next(each for each in psutil.process_iter(["cmdline"]) if config in (each.info["cmdline"] or ()))


def test_up_prints_a_line_for_each_step_and_what_to_do_next(cloud: Cloud) -> None:
    told = cloud.up_output
    for step in ("etcd", "placement", "libvirt", "node", "image", "first VM"):
        assert re.search(rf"^{step} +\d+\.\d s", told, re.MULTILINE), told
    assert re.search(r"^ +ssh -i .*/keys/id_ed25519 root@198\.1[89]\.", told, re.MULTILINE), told
    assert ". .venv/bin/activate" in told
    assert all(stage in told for stage in ("claimed", "image", "defined", "started", "ip"))
    paths = [line for line in told.splitlines() if str(cloud.state_dir) in line]
    assert max(len(line) for line in told.splitlines() if line not in paths) <= 80


def test_up_again_starts_nothing_and_makes_no_second_vm(cloud: Cloud) -> None:
    told = cloud.up("up")
    steps = told.out.split("\n\n")[0]  # behind the blank line is the summary
    assert told.code == 0 and "started" not in steps and "built" not in steps, told
    assert [row["name"] for row in json.loads(cloud.schedule("list", "-f", "json").out)].count("first") == 1


def test_a_vm_gets_every_stage_and_its_ip(cloud: Cloud, web: dict[str, Any]) -> None:
    until_agent = {stage.value for stage in Stage} - {Stage.READY.value}
    assert until_agent <= web["stages"].keys(), "and perhaps ready by the time that it was looked at"
    assert cloud.schedule(web["uuid"]) == Told(0, f"{web['ip']}\n", "")


def test_the_guest_has_its_hostname_key_user_data_disk_and_network(
    cloud: Cloud, web: dict[str, Any], guest: Guest
) -> None:
    assert guest.shell("hostname") == "web"
    assert guest.shell("cat /root/said") == "hello from web"
    key = (cloud.state_dir / "keys" / "id_ed25519.pub").read_text().split()[1]
    assert key in guest.shell("cat /root/.ssh/authorized_keys")
    assert int(guest.shell("df -m / | tail -1 | awk '{print $2}'")) > 1700
    assert web["ip"] in guest.shell("ip -4 addr show dev eth0")
    assert "default via" in guest.shell("ip route")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("latest/meta-data/hostname", "web"),
        ("latest/meta-data/local-ipv4", "{ip}"),
        ("latest/user-data", USER_DATA.strip()),
        ("2009-04-04/meta-data/public-keys/0/openssh-key", "ssh-ed25519 "),
        ("openstack/latest/meta_data.json", '"uuid": "{uuid}"'),
        ("openstack/latest/user_data", USER_DATA.strip()),
        ("openstack/latest/network_data.json", '"ipv4_dhcp"'),
    ],
)
def test_the_metadata_service_tells_a_guest_about_itself(
    web: dict[str, Any], guest: Guest, path: str, expected: str
) -> None:
    answer = guest.shell(f"timeout 60 wget -q -O - http://169.254.169.254/{path}")
    assert expected.replace("{ip}", web["ip"]).replace("{uuid}", web["uuid"]).replace(" ", "") in answer.replace(
        " ", ""
    )


def test_qemu_runs_as_an_unprivileged_user(web: dict[str, Any]) -> None:
    assert qemu_of(web["uuid"]).username() == "libvirt-qemu"


def test_secrets_are_private_and_the_state_directory_lists_nothing(cloud: Cloud, web: dict[str, Any]) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(cloud.state_dir) == 0o711
    assert mode(cloud.state_dir / "keys" / "id_ed25519") == 0o600
    assert mode(cloud.state_dir / "metadata") == 0o700
    assert mode(cloud.state_dir / "metadata" / f"{web['uuid']}.json") == 0o600
    private = [path for path in (cloud.state_dir / "instances" / web["uuid"]).iterdir() if path.name != "console.log"]
    assert private and all(mode(path) & 0o077 == 0 for path in private)


def test_an_image_is_fetched_once_and_shared_as_a_backing_file(cloud: Cloud, web: dict[str, Any]) -> None:
    disks = sorted((cloud.state_dir / "instances").glob("*/disk.qcow2"))
    assert len(disks) >= 2
    backing = {
        json.loads(
            subprocess.run(
                ["qemu-img", "info", "-U", "--output=json", str(disk)], capture_output=True, check=True
            ).stdout
        )["full-backing-filename"]
        for disk in disks
    }
    assert len(backing) == 1
    assert all(disk.stat().st_blocks * 512 < 40 * 2**20 for disk in disks)


def test_everything_listens_on_loopback_or_the_guests_bridge_alone(cloud: Cloud) -> None:
    for name in ("compute.py", "gunicorn", "etcd", "md_server"):
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if name not in words or str(cloud.state_dir) not in words:
                continue
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr[0] in ("127.0.0.1", "169.254.169.254", "fe80::a9fe:a9fe"), words


def test_a_guest_that_powers_itself_off_is_shutoff_and_can_be_destroyed(cloud: Cloud) -> None:
    told = cloud.schedule(QUERY, "--name", "brief", "--wait-for", "agent")
    assert told.code == 0, told.err
    uuid = cloud.show("brief")["uuid"]
    brief = Guest(cloud.uri, uuid)
    with contextlib.suppress(Exception):  # the answer may be cut off by what was asked
        brief.run("/bin/sh", "-c", "poweroff")
    until(lambda: cloud.show("brief")["state"] == "SHUTOFF", "SHUTOFF", BOOT_S)
    brief.close()
    assert cloud.schedule("destroy", "brief") == Told(0, "", "")
    assert not (cloud.state_dir / "instances" / uuid).exists()
    assert not (cloud.state_dir / "metadata" / f"{uuid}.json").exists()


def test_the_agent_killed_while_a_vm_boots_finds_it_again(cloud: Cloud) -> None:
    told = cloud.schedule(QUERY, "--name", "orphan")
    assert told.code == 0, told.err
    agent_of(cloud).kill()
    assert cloud.up("up").code == 0
    until(lambda: cloud.schedule("ip", "orphan").code == 0, "it has its IP", BOOT_S)
    assert cloud.schedule("destroy", "orphan").code == 0


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("{images}/none.qcow2", "image-not-found"),
        ("{images}/page.qcow2", "image-invalid"),
        ("/etc/passwd", "image-refused"),
    ],
)
def test_a_bad_image_is_an_error_and_leaves_nothing_after_a_destroy(cloud: Cloud, image: str, code: str) -> None:
    images = cloud.state_dir / "images"
    (images / "page.qcow2").write_text("<html>404</html>")
    told = cloud.schedule(QUERY, image.format(images=images), "--name", "bad", "--wait")
    assert told.code == 1 and code in told.err and told.err.count("\n") == 1, told
    uuid = cloud.show("bad")["uuid"]
    assert cloud.schedule("destroy", "bad").code == 0
    assert not (cloud.state_dir / "instances" / uuid).exists()


def test_an_images_url_is_fetched_by_the_node_and_booted(cloud: Cloud) -> None:
    """The small image from a server on loopback, as a cloud image would come from afar."""
    serve = functools.partial(SimpleHTTPRequestHandler, directory=str(cloud.state_dir / "images"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/mini.qcow2"
        told = cloud.schedule(QUERY, url, "--name", "afar", "--wait")
        server.shutdown()
    assert told.code == 0, told.err
    assert cloud.show("afar")["image"] == url
    assert cloud.schedule("destroy", "afar") == Told(0, "", "")


def test_a_full_disk_is_an_error_that_names_the_remedy_and_leaves_nothing(cloud: Cloud, web: dict[str, Any]) -> None:
    """The instances' directory gets a small file system of its own for the time of one build."""
    target = cloud.state_dir / "instances"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0711", "tmpfs", str(target)], check=True)
    try:
        told = cloud.schedule(QUERY, "--name", "full", "--wait")
        assert told.code == 1 and "disk-full" in told.err and told.err.count("\n") == 1, told
        assert cloud.schedule("destroy", "full").code == 0
        assert [path.name for path in target.iterdir() if path.name != "dhcp"] == []
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_destroyed_vm_leaves_nothing_on_the_node(cloud: Cloud) -> None:
    told = cloud.schedule(QUERY, "--name", "gone", "--wait")
    assert told.code == 0, told.err
    uuid = cloud.show("gone")["uuid"]
    pid = qemu_of(uuid).pid
    assert cloud.schedule("destroy", "gone") == Told(0, "", "")
    assert not psutil.pid_exists(pid)
    traces = [path for path in cloud.state_dir.rglob(f"*{uuid}*") if "log" not in path.parts and path.is_file()]
    assert traces == []


def test_a_second_node_joins_and_the_emptier_one_is_chosen(cloud: Cloud, web: dict[str, Any]) -> None:
    """A second state directory stands for a second machine: it has a libvirtd, a network and a subnet of its own."""
    known = yaml.safe_load((cloud.state_dir / "schedule.yaml").read_text())
    join = f"127.0.0.1:{known['etcd']['port']}:{known['placement']['endpoint'].rsplit(':', 1)[1]}"
    other = Cloud(Path(tempfile.mkdtemp(prefix="placet-join-", dir="/var/tmp")), "")
    other.state_dir.rmdir()
    try:
        told = other.up("up", "--join", join)
        assert told.code == 0, told.out + told.err
        nodes = json.loads(cloud.schedule("nodes", "-f", "json").out)
        assert [node["state"] for node in nodes] == ["up", "up"]
        told = cloud.schedule(QUERY, "--name", "far", "--wait")
        assert told.code == 0, told.err
        far = cloud.show("far")
        assert far["node_uuid"] != web["node_uuid"], "the emptier node is chosen"
        assert far["ip"].rsplit(".", 1)[0] != web["ip"].rsplit(".", 1)[0], "each node has a /24 of its own"
        assert cloud.schedule("destroy", "far") == Told(0, "", "")
    finally:
        gone = other.up("destroy", "--yes")
        assert gone.code == 0, gone.out + gone.err
    node = next(each for each in json.loads(cloud.schedule("nodes", "-f", "json").out) if each["state"] != "up")
    assert node["state"] == "stopped"


def test_down_keeps_guests_and_says_how_many_and_up_goes_on(cloud: Cloud, web: dict[str, Any]) -> None:
    told = cloud.up("down")
    assert told.code == 0 and re.search(r"\b\d+ guests?\b", told.out), told
    assert qemu_of(web["uuid"]).is_running()
    told = cloud.schedule("list")
    assert told.code == 1 and "is not reachable; start it" in told.err
    assert cloud.up("up").code == 0
    until(lambda: cloud.show("web")["state"] == "ACTIVE", "ACTIVE", BOOT_S)
    assert cloud.schedule("ip", "web").out == f"{web['ip']}\n"


def test_in_the_end_placement_etcd_the_hypervisor_and_the_files_agree(cloud: Cloud) -> None:
    config = yaml.safe_load((cloud.state_dir / "schedule.yaml").read_text())
    here = Place((cloud.state_dir / "node-uuid").read_text().strip(), cloud.uri, cloud.state_dir)
    with contextlib.closing(EtcdStore(config["etcd"])) as store:
        wait_until_sound(store, config["placement"]["endpoint"], [here])
