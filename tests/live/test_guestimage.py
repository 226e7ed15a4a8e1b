"""The guest image, built from packages and booted by QEMU alone: what an instance gets to see of it."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet import configdrive
from placet.guest_inputs import encode_user_data, guest_file
from placet.metadata import guest_record, openstack_drive
from placet.model import ImageRef, Nic, Spec
from placet.schema import changed
from tests.live.bare_guest import NO_NETWORK, BareGuest, bare_guest, create_overlay, wait_until, write_iso

UUID = "83679162-1378-4288-a2d4-70e13ec132aa"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3m me@example"
OTHER_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 other {key}"
META_DATA = {
    "uuid": UUID,
    "hostname": "web.example.org",
    "public_keys": {"my key": f"{KEY}\n", 'odd, "name" {': OTHER_KEY},
    "meta": {"uuid": "not this one", "hostname": "nor this"},
}
USER_DATA = "#!/bin/sh\necho ran >>/root/runs\necho said; exit 3\n"
USER_DATA_STATUS = "/var/lib/placet/user-data.status"
READY = "placet-mini ready:"


def build(out: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "placet.guestimage", str(out), "--cache", str(cache)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's own cache if it has one, as packages needn't be downloaded twice."""
    return Path(os.environ.get("PLACET_CACHE_DIR") or tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def image(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("image") / "mini.qcow2"
    done = build(out, cache)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def config_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {
        "openstack/latest/meta_data.json": json.dumps(META_DATA, indent=1),
        "openstack/latest/user_data": USER_DATA,
    }
    return write_iso(tmp_path_factory.mktemp("drive") / "config.iso", "config-2", files)


@pytest.fixture(scope="module")
def guest(image: Path, config_drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareGuest]:
    """An instance that is ready: config drive, one network card, a disk of 1 GiB. Tests that end it come last."""
    disk = create_overlay(image, tmp_path_factory.mktemp("disk") / "disk.qcow2", size_gib=1)
    with bare_guest(disk, drives=[config_drive]) as running:
        running.wait_for_console(READY)
        running.wait_for_agent()
        yield running


def test_a_second_build_of_the_same_recipe_is_a_copy(image: Path, cache: Path, tmp_path: Path) -> None:
    done = build(tmp_path / "second.qcow2", cache)
    assert "copied from the cache" in done.stdout
    assert (tmp_path / "second.qcow2").read_bytes() == image.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["second.qcow2"]
    assert not list((cache / "guestimage").glob("build-*"))


def test_the_console_tells_the_name_the_address_and_the_seed(guest: BareGuest) -> None:
    assert f"{READY} hostname=web ip=10.0.2.15 seed=config-drive" in guest.console()


def test_the_agent_runs_programs_and_tells_how_they_ended(guest: BareGuest) -> None:
    done = guest.run("echo out; echo err >&2; exit 7")
    assert (done.status, done.output) == (7, "out\nerr\n")


def test_the_agent_writes_and_reads_files(guest: BareGuest) -> None:
    handle = guest.agent("guest-file-open", path="/root/note", mode="w+")
    guest.agent("guest-file-write", handle=handle, **{"buf-b64": base64.b64encode(b"hello").decode()})
    guest.agent("guest-file-seek", handle=handle, offset=0, whence="set")
    assert base64.b64decode(guest.agent("guest-file-read", handle=handle)["buf-b64"]) == b"hello"
    guest.agent("guest-file-close", handle=handle)


def test_the_agent_tells_the_addresses(guest: BareGuest) -> None:
    interfaces = {interface["name"]: interface for interface in guest.agent("guest-network-get-interfaces")}
    addresses = [address["ip-address"] for address in interfaces["eth0"]["ip-addresses"]]
    assert "10.0.2.15" in addresses


def test_the_host_name_is_the_first_label_and_hosts_knows_the_whole(guest: BareGuest) -> None:
    assert guest.agent("guest-get-host-name") == {"host-name": "web"}
    assert "127.0.1.1 web.example.org web\n" in guest.run("cat /etc/hosts").output


def test_root_has_the_instances_keys(guest: BareGuest) -> None:
    assert guest.run("cat /root/.ssh/authorized_keys").output == f"{KEY}\n{OTHER_KEY}\n"


def test_ssh_answers_and_makes_its_host_key_only_when_asked(guest: BareGuest) -> None:
    assert guest.run("ls /etc/dropbear").output == ""
    wait_until("ssh", lambda: "SSH-2.0-dropbear" in guest.run("nc -w 1 127.0.0.1 22 </dev/null").output)


def test_user_data_leaves_its_output_and_exit_status(guest: BareGuest) -> None:
    assert guest.run("cat /var/log/user-data.log").output == "said\n"
    assert guest.run(f"cat {USER_DATA_STATUS}").output == "3\n"


def test_the_root_file_system_fills_the_disk(guest: BareGuest) -> None:
    mebibytes = int(guest.run("df -m / | awk 'NR == 2 { print $2 }'").output)
    assert mebibytes > 900


def test_the_image_names_itself(guest: BareGuest) -> None:
    assert guest.agent("guest-get-osinfo")["pretty-name"] == "Placet mini (Debian 12 packages)"
    assert "recipe=1\n" in guest.run("cat /etc/placet-image").output


def test_a_reboot_keeps_the_instance_and_runs_no_user_data_again(guest: BareGuest) -> None:
    guest.agent_tell("guest-shutdown", mode="reboot")
    guest.wait_for_console(READY, times=2)
    guest.wait_for_agent()
    assert guest.run("cat /root/runs").output == "ran\n"
    assert guest.run("cat /root/note").output == "hello"
    assert guest.agent("guest-get-host-name") == {"host-name": "web"}


def test_the_power_button_powers_off(guest: BareGuest) -> None:
    wait_until("acpid", lambda: guest.run("test -s /run/acpid.pid").status == 0)
    guest.press_power_button()
    guest.wait_for_exit()


def test_nocloud_in_96_mib_without_a_network(image: Path, tmp_path: Path) -> None:
    meta_data = f"# seed\ninstance-id: 'i-1' # quoted\nlocal-hostname: db\npublic-keys:\n  - {KEY}\n"
    drive = write_iso(tmp_path / "seed.iso", "cidata", {"meta-data": meta_data, "user-data": USER_DATA})
    disk = create_overlay(image, tmp_path / "disk.qcow2")
    with bare_guest(disk, drives=[drive], memory_mb=96, network=NO_NETWORK) as guest:
        guest.wait_for_console(f"{READY} hostname=db ip=none seed=nocloud")
        guest.wait_for_agent()
        assert guest.run("cat /var/lib/placet/instance-id").output == "i-1\n"
        assert guest.run("cat /root/.ssh/authorized_keys").output == f"{KEY}\n"
        assert guest.run(f"cat {USER_DATA_STATUS}").output == "3\n"
        guest.agent_tell("guest-shutdown")
        guest.wait_for_exit()


COMPRESSED, ENCODING = encode_user_data(gzip.compress(USER_DATA.encode()))
SPEC = Spec(
    instance=UUID,
    node="node-1",
    name="web",
    hostname="web.example.org",
    image=ImageRef("mini.qcow2"),
    allocations={},
    nics=(Nic("52:54:00:12:34:56"),),
    created_at=0.0,
    request_id="req-1",
    keys=(KEY,),
    user_data=COMPRESSED,
    user_data_encoding=ENCODING,
    files=(
        guest_file("/opt/a b/tool", b"#!/bin/sh\necho tool\n", 0o750),
        guest_file("/etc/empty", b"", 0o600),
        guest_file("/etc/binary", bytes(range(256)), 0o644),
    ),
)


def assert_is_what_its_spec_says(guest: BareGuest) -> None:
    assert guest.agent("guest-get-host-name") == {"host-name": "web"}
    assert guest.run("cat /root/.ssh/authorized_keys").output == f"{KEY}\n"
    assert guest.run(f"cat {USER_DATA_STATUS} /root/runs").output == "3\nran\n"
    assert guest.run("'/opt/a b/tool'").output == "tool\n"
    shown = guest.run("stat -c '%a %U %s' '/opt/a b/tool' /etc/empty /etc/binary").output
    assert shown == "750 root 20\n600 root 0\n644 root 256\n"
    assert guest.run("base64 -w 0 /etc/binary").output == base64.b64encode(bytes(range(256))).decode()


@pytest.mark.parametrize(("layout", "seed"), [("openstack", "config-drive"), ("nocloud", "nocloud")])
def test_a_drive_of_either_layout_brings_all_inputs(image: Path, tmp_path: Path, layout: str, seed: str) -> None:
    drive = tmp_path / "config.iso"
    drive.write_bytes(configdrive.build(changed(SPEC, config_drive=layout)))
    disk = create_overlay(image, tmp_path / "disk.qcow2")
    with bare_guest(disk, drives=[drive]) as guest:
        guest.wait_for_console(f"{READY} hostname=web ip=10.0.2.15 seed={seed}")
        guest.wait_for_agent()
        assert_is_what_its_spec_says(guest)


METADATA_SERVICE = """\
import pathlib, sys
method, path, _ = sys.stdin.readline().split()
headers = {}
for line in iter(lambda: sys.stdin.readline().strip(), ""):
    name, _, value = line.partition(": ")
    headers[name.lower()] = value
directory, token = pathlib.Path(sys.argv[1]), sys.argv[2]
file = directory / path.lstrip("/")
status, body = "404 Not Found", b"no\\n"
if token and (method, path) == ("PUT", "/latest/api/token"):
    status, body = ("200 OK", token.encode()) if headers["x-aws-ec2-metadata-token-ttl-seconds"] else ("400 Bad", b"")
elif headers.get("x-aws-ec2-metadata-token", "") != token:
    status = "401 Unauthorized"
elif method == "PUT":
    with (directory / "told").open("a") as told:
        told.write(f"{path} {headers['content-length']}\\n")
    status, body = "200 OK", b""
elif file.is_file():
    status, body = "200 OK", file.read_bytes()
head = f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
sys.stdout.buffer.write(head.encode() + body)
"""


def metadata_network(directory: Path, token: str = "") -> tuple[str, str]:
    """A network on which QEMU itself answers for the address, by running the service for each connection."""
    service = directory / "service.py"
    service.write_text(METADATA_SERVICE)
    network = "user,model=virtio-net-pci,restrict=on,net=169.254.169.0/24,"
    network += f"guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {service} {directory} {shlex.quote(token)}"
    return ("-nic", network)


def test_without_a_drive_the_metadata_service_is_asked(image: Path, tmp_path: Path) -> None:
    latest = tmp_path / "openstack/latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text(json.dumps({**META_DATA, "hostname": "cache"}))
    disk = create_overlay(image, tmp_path / "disk.qcow2")
    with bare_guest(disk, network=metadata_network(tmp_path)) as guest:
        guest.wait_for_console(f"{READY} hostname=cache ip=169.254.169.15 seed=metadata-service")
        guest.wait_for_agent()
        assert guest.run("cat /root/.ssh/authorized_keys").output == f"{KEY}\n{OTHER_KEY}\n"
        assert guest.run(f"cat {USER_DATA_STATUS}").status != 0


def test_where_the_metadata_service_wants_a_token_all_inputs_come_by_it_and_it_is_told_ready(
    image: Path, tmp_path: Path
) -> None:
    for path, body in openstack_drive(guest_record(SPEC)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(body)
    disk = create_overlay(image, tmp_path / "disk.qcow2")
    with bare_guest(disk, network=metadata_network(tmp_path, token="AQ-secret==")) as guest:
        guest.wait_for_console(f"{READY} hostname=web ip=169.254.169.15 seed=metadata-service")
        guest.wait_for_agent()
        assert_is_what_its_spec_says(guest)
        told = tmp_path / "told"
        wait_until("the word that it is ready", lambda: told.exists() and told.read_text() == "/placet/v1/ready 0\n")
