"""Debian 12 with cloud-init as it is, booted by each of the four ways that a guest has to its metadata.

Which way it is, cloud-init finds out by itself (its ds-identify), from the drives that are there and from what the
firmware tells. The four boot at the same time, and each has its user-data in another form.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.debian_guest.build import put_debian_image
from tests.faults.checker import Place, wait_until_sound
from tests.lab import Lab, lab
from tests.support.guest import Guest

pytestmark = pytest.mark.timeout(1500)  # the first one waits for the image, where it has to be built, and four boots

QUERY = "resources=VCPU:1,DISK_GB:3,MEMORY_MB:512"
BOOT_S = 900.0
IMAGE_MIB = 1500
SAID = "/root/said"
SCRIPT = f"#!/bin/sh\nhostname >>{SAID}\n"
CLOUD_CONFIG = f"#cloud-config\nruncmd:\n- hostname >>{SAID}\n"
FINISHED = re.compile(rb"Cloud-init v\. \S+ finished at ")
WITHOUT_TOKEN = "from urllib.request import urlopen; urlopen('http://169.254.169.254/latest/meta-data/')"


def mime(**parts: str) -> bytes:
    """User-data of several parts, by their types."""
    whole = MIMEMultipart()
    for subtype, text in parts.items():
        whole.attach(MIMEText(text, subtype.replace("_", "-"), "utf-8"))
    return whole.as_bytes()


@dataclass(frozen=True)
class Way:
    """`found` is what ds-identify leaves cloud-init to choose from, `source` what that then took. Each of the `parts`
    of its user-data writes the host name to SAID."""

    name: str
    flags: tuple[str, ...]
    found: str
    source: str
    user_data: bytes
    parts: int = 1
    has_files: bool = True


WAYS = (
    Way("drive", (), "ConfigDrive, None", "DataSourceConfigDrive", SCRIPT.encode()),
    # the firmware tells of OpenStack's service, too: it would be asked next
    Way(
        "nocloud",
        ("--config-drive", "nocloud"),
        "NoCloud, OpenStack, None",
        "DataSourceNoCloud",
        CLOUD_CONFIG.encode(),
    ),
    Way(
        "service",
        ("--config-drive", "none"),
        "OpenStack, None",
        "DataSourceOpenStackLocal",
        mime(x_shellscript=SCRIPT, cloud_config=CLOUD_CONFIG),
        parts=2,
    ),
    # EC2 knows no vendor data, by which files come
    Way(
        "ec2",
        ("--config-drive", "none", "--metadata-tokens", "required"),
        "Ec2, None",
        "DataSourceEc2Local",
        gzip.compress(CLOUD_CONFIG.encode()),
        has_files=False,
    ),
)


class Instance:
    """One that was asked for by one of the ways."""

    def __init__(self, cloud: Lab, way: Way, uuid: str) -> None:
        self.way = way
        self.uuid = uuid
        self._cloud = cloud

    def wait_for_boot(self) -> None:
        """By its console: whoever asks the guest itself slows it down."""
        log = self._cloud.nodes[0].state_dir / "instances" / self.uuid / "console.log"
        deadline = time.monotonic() + BOOT_S
        while not FINISHED.search(said := log.read_bytes() if log.exists() else b""):
            assert time.monotonic() < deadline, f"{self.way.name}: not in {BOOT_S:g} s: …{said[-2000:].decode()}"
            time.sleep(0.2)

    @cached_property
    def guest(self) -> Guest:
        return Guest(self._cloud.nodes[0].host.uri, self.uuid)

    @cached_property
    def shown(self) -> dict[str, Any]:
        """What `show` says of it."""
        return dict(json.loads(self._cloud.schedule("show", self.uuid, "-f", "json").out))

    @cached_property
    def known(self) -> dict[str, Any]:
        """What cloud-init knows of it."""
        return dict(json.loads(self.guest.shell("cloud-init query --all")))

    @property
    def metadata(self) -> dict[str, Any]:
        """What its data source has read; EC2's keeps it under a name of its own."""
        source = self.known["ds"]
        return dict(source.get("meta_data") or source["meta-data"])

    def ssh(self, key: Path, command: str) -> str:
        """A command's output, run by ssh from the node as the image's user."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
        words = ["ssh", "-i", str(key), *options, f"debian@{self.shown['ip']}", command]
        return self._cloud.nodes[0].host.run_in_network(*words)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Lab]:
    with lab(nodes=1, node_settings={"metadata_service": True}) as made:
        yield made
        places = [Place(each.uuid, each.host.uri, each.state_dir) for each in made.nodes]
        wait_until_sound(made.store, made.placement_endpoint, places)


@pytest.fixture(scope="module")
def image(cloud: Lab) -> Path:
    path = cloud.image.parent / "debian.qcow2"
    put_debian_image(path)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def instances(
    cloud: Lab, image: Path, key: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Instance]]:
    """All of them, by way: asked for as a user asks, one after the other."""
    inputs = tmp_path_factory.mktemp("inputs")
    (inputs / "note").write_text("from outside\n")
    found = {}
    for way in WAYS:
        (inputs / way.name).write_bytes(way.user_data)
        flags = ["--hostname", f"{way.name}.example.org", "--key", f"{key}.pub", "--property", "role=db"]
        flags += ["--user-data", str(inputs / way.name), "--file", f"/etc/note={inputs / 'note'}", *way.flags]
        told = cloud.schedule("create", QUERY, str(image), "--name", way.name, *flags)
        assert told.code == 0, told.err
        found[way.name] = Instance(cloud, way, told.out.split("INSTANCE ")[1].strip())
    yield found
    for instance in found.values():
        instance.guest.close()


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def instance(instances: dict[str, Instance], request: pytest.FixtureRequest) -> Instance:
    """One of them, when cloud-init has finished there."""
    found = instances[request.param.name]
    found.wait_for_boot()
    return found


def test_cloud_init_detects_the_way_and_is_done_without_an_error_or_a_warning(instance: Instance) -> None:
    assert instance.guest.shell("cat /run/cloud-init/cloud.cfg") == f"datasource_list: [ {instance.way.found} ]"
    told = instance.guest.shell("cloud-init status --wait --long")
    assert "status: done" in told and instance.way.source in told
    assert json.loads(instance.guest.shell("cat /run/cloud-init/result.json"))["v1"]["errors"] == []
    status, warnings = instance.guest.run("/bin/grep", "-E", r"\[(WARNING|ERROR|CRITICAL)\]", "/var/log/cloud-init.log")
    assert (status, warnings) == (1, "")


def test_it_has_its_hostname(instance: Instance) -> None:
    assert instance.guest.shell("hostname") == instance.way.name


def test_its_owner_gets_in_by_ssh(instance: Instance, key: Path) -> None:
    assert instance.ssh(key, "sudo -n id -un") == "root\n"


def test_its_user_data_ran_once_in_whatever_form_it_came(instance: Instance) -> None:
    assert instance.guest.shell(f"cat {SAID}").split() == [instance.way.name] * instance.way.parts


def test_its_root_was_grown_to_its_disk(instance: Instance) -> None:
    assert 2 * IMAGE_MIB - 100 < int(instance.guest.shell("df -m --output=size / | tail -1")) <= 3 * 1024


def test_it_has_the_addresses_that_the_cloud_shows_and_a_way_out(instance: Instance) -> None:
    addresses = [address.split()[0] for address in instance.shown["addresses"]]
    assert instance.shown["ip"] in addresses
    on_it = instance.guest.shell("ip -brief address show dev eth0")
    assert all(f" {address}/" in on_it for address in addresses), (addresses, on_it)
    assert instance.guest.shell("ip route show default").startswith("default via 198.19.")


def test_a_query_shows_its_name_and_its_properties(instance: Instance) -> None:
    assert instance.known["v1"]["local_hostname"] == instance.way.name
    assert instance.metadata["local-hostname"] == f"{instance.way.name}.example.org"
    tags = instance.metadata.get("tags", {}).get("instance")
    assert (tags if instance.way.name == "ec2" else instance.metadata["meta"]) == {"role": "db"}


def test_a_query_shows_the_instances_id(instance: Instance) -> None:
    """It is the cloud's; EC2 has a form of its own for it."""
    in_ec2 = "i-" + instance.uuid.replace("-", "")[:17]
    assert instance.known["v1"]["instance_id"] == (in_ec2 if instance.way.name == "ec2" else instance.uuid)


def test_a_small_file_is_put_there_where_vendor_data_is_read(instance: Instance) -> None:
    found = instance.guest.run("/bin/cat", "/etc/note")
    assert found == (0, "from outside\n") if instance.way.has_files else found[0] != 0


def test_who_must_show_a_token_gets_nothing_without(instances: dict[str, Instance]) -> None:
    instances["ec2"].wait_for_boot()
    status, said = instances["ec2"].guest.run("/usr/bin/python3", "-c", WITHOUT_TOKEN)
    assert status == 1 and "HTTP Error 401" in said


def test_the_image_is_built_once(image: Path, tmp_path: Path) -> None:
    assert not put_debian_image(tmp_path / "again.qcow2")
    assert (tmp_path / "again.qcow2").stat().st_size == image.stat().st_size
