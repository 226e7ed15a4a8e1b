"""docker.sh, for real: images built from docker/Dockerfile, etcd and Placement in containers, a VM on top of them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from placet.config import PlacementConfig
from placet.onebox.layout import PROJECT
from placet.placement import Claim, Placement
from placet.query import parse_query
from placet.resources import Inventory
from placet.store import Put
from placet.store.etcd import EtcdStore
from tests.faults.checker import Place, wait_until_sound
from tests.live.docker_engine import DockerEngine, docker_engine
from tests.support.clouds import new_uuid
from tests.support.services import free_port

SCRIPT = PROJECT / "docker.sh"
QUERY = "resources=VCPU:1,MEMORY_MB:256,DISK_GB:1"
KINDS = ("container", "volume", "network", "image")
Result = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class DockerCloud:
    """etcd and Placement as docker.sh runs them; `name` is what it calls its things."""

    engine: DockerEngine
    name: str = "placet-test"
    etcd_port: int = field(default_factory=free_port)
    placement_port: int = field(default_factory=free_port)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.placement_port}"

    def run(self, *words: str, **settings: str) -> Result:
        own = {
            "PLACET_DOCKER_NAME": self.name,
            "PLACET_ETCD_PORT": str(self.etcd_port),
            "PLACET_PLACEMENT_PORT": str(self.placement_port),
        }
        return run_script(*words, **{**self.engine.environment, **own, **settings})

    def up(self) -> Result:
        done = self.run("up")
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def down(self, *words: str) -> None:
        done = self.run("down", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def containers(self) -> set[str]:
        """The IDs of its containers that run."""
        return set(self.engine.docker("ps", "--quiet", "--filter", f"label=placet={self.name}").split())

    def things(self) -> list[str]:
        """Whatever there is by its name, of any kind, running or not."""
        found = []
        for kind in KINDS:
            every = ("--all",) if kind == "container" else ()
            found += self.engine.docker(kind, "ls", *every, "--format", "{{json .}}").splitlines()
        return [line for line in found if f'"{self.name}' in line]

    @contextlib.contextmanager
    def store(self) -> Iterator[EtcdStore]:
        store = EtcdStore({"host": "127.0.0.1", "port": self.etcd_port})
        try:
            yield store
        finally:
            store.close()

    @property
    def placement(self) -> Placement:
        return Placement(PlacementConfig(self.endpoint))


def run_script(*words: str, **environment: str) -> Result:
    command = ["/bin/bash", str(SCRIPT), *words]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    if os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("mmdebstrap"):
        pytest.skip("needs root and the packages docker.io and mmdebstrap")
    with docker_engine(Path(os.environ.get("PLACET_CACHE_DIR") or "/var/cache/placet")) as engine:
        yield engine


@pytest.fixture(scope="module")
def docker_cloud(engine: DockerEngine) -> Iterator[DockerCloud]:
    """A cloud's control plane that is up; a test that stops it starts it again."""
    cloud = DockerCloud(engine)
    cloud.up()
    engine.keep_images(cloud.name)
    yield cloud
    cloud.down("--volumes")


@pytest.fixture
def another(engine: DockerEngine) -> Iterator[DockerCloud]:
    """A second one in the same engine, not yet up."""
    cloud = DockerCloud(engine, name="another-test")
    yield cloud
    cloud.down("--volumes")


def test_etcd_keeps_what_is_put(docker_cloud: DockerCloud) -> None:
    with docker_cloud.store() as store:
        assert store.transact([], [Put("docker-test", b"here")])
        entry = store.get("docker-test")

    assert entry is not None and entry.value == b"here"


def test_placement_places_a_claim(docker_cloud: DockerCloud) -> None:
    placement, node, instance = docker_cloud.placement, new_uuid(), new_uuid()
    assert placement.create_provider(node, f"node-{node}")
    _, generation = placement.inventories(node)
    assert placement.put_inventories(node, {"VCPU": Inventory(4)}, generation)

    query = parse_query(f"resources=VCPU:2&in_tree={node}", {})
    (candidate,) = placement.candidates(query.parameters)

    assert placement.claim(instance, candidate, "docker-test", None) is Claim.DONE
    held = placement.allocation(instance)
    assert held.allocations == {node: {"VCPU": 2}}
    assert placement.release(instance, held)


def test_etcd_has_an_8_gib_quota_and_compacts_every_10_minutes(docker_cloud: DockerCloud) -> None:
    metrics = requests.get(f"http://127.0.0.1:{docker_cloud.etcd_port}/metrics", timeout=60).text
    log = docker_cloud.run("logs", "etcd", "--tail=all").stdout

    assert re.search(r"^etcd_server_quota_backend_bytes 8\.589934592e\+09$", metrics, re.M)
    assert '"auto-compaction-mode":"periodic","auto-compaction-retention":"10m0s"' in log


def test_nothing_in_the_containers_runs_as_root(docker_cloud: DockerCloud) -> None:
    for service in ("etcd", "placement"):
        processes = docker_cloud.engine.docker("top", f"{docker_cloud.name}-{service}", "-eo", "pid,uid").splitlines()[
            1:
        ]
        assert processes and all(line.split()[1] != "0" for line in processes)


def test_ports_are_open_to_this_machine_alone(docker_cloud: DockerCloud) -> None:
    told = docker_cloud.run("status")

    assert told.returncode == 0
    assert told.stdout.split() == [
        *f"etcd healthy at 127.0.0.1:{docker_cloud.etcd_port}".split(),
        *f"placement healthy at 127.0.0.1:{docker_cloud.placement_port}".split(),
    ]


def test_up_again_changes_nothing(docker_cloud: DockerCloud) -> None:
    before = docker_cloud.containers()

    docker_cloud.up()

    assert len(before) == 2 and docker_cloud.containers() == before


def test_a_changed_setting_restarts_only_what_it_is_about(docker_cloud: DockerCloud) -> None:
    before = docker_cloud.containers()

    told = docker_cloud.run("up", PLACET_PLACEMENT_DB="sqlite:////data/other.db")

    assert told.returncode == 0
    assert len(docker_cloud.containers() & before) == 1
    docker_cloud.up()


def test_logs_show_both_or_one(docker_cloud: DockerCloud) -> None:
    both, one = docker_cloud.run("logs"), docker_cloud.run("logs", "placement")

    assert (both.returncode, one.returncode) == (0, 0)
    assert "==> etcd <==" in both.stdout and "==> placement <==" in both.stdout
    assert "Starting gunicorn" in one.stdout and one.stdout in both.stdout


def test_data_survive_down_and_up(docker_cloud: DockerCloud) -> None:
    node = new_uuid()
    docker_cloud.placement.create_provider(node, f"node-{node}")
    with docker_cloud.store() as store:
        store.transact([], [Put("survivor", b"still here")])

    docker_cloud.down()
    assert docker_cloud.containers() == set()
    assert docker_cloud.run("status").returncode == 1
    docker_cloud.up()

    assert docker_cloud.placement.provider(node) is not None
    with docker_cloud.store() as store:
        entry = store.get("survivor")
    assert entry is not None and entry.value == b"still here"


def test_down_with_volumes_leaves_nothing_of_its_own_and_all_of_others(
    docker_cloud: DockerCloud, another: DockerCloud
) -> None:
    others, running = docker_cloud.things(), docker_cloud.containers()
    another.up()
    assert len(another.things()) == 2 + 2 + 1 + 2

    another.down("--volumes")

    assert another.things() == []
    assert len(docker_cloud.things()) == len(others) and docker_cloud.containers() == running


def test_a_taken_port_is_named(another: DockerCloud) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", another.etcd_port))
        holder.listen()
        told = another.run("up")

    assert told.returncode == 1
    assert told.stderr == (
        f"docker.sh: port {another.etcd_port} of 127.0.0.1 is taken: "
        "end what has it, or set PLACET_ETCD_PORT to another\n"
    )
    assert another.containers() == set()


def test_a_service_that_fails_shows_the_end_of_its_log(another: DockerCloud) -> None:
    told = another.run("up", PLACET_PLACEMENT_DB="sqlite:////nowhere/placement.db")

    assert told.returncode == 1
    assert "another-test-placement does not get healthy" in told.stderr
    assert "unable to open database file" in told.stderr and "what to do:" in told.stderr


def test_a_vm_boots_on_it(docker_cloud: DockerCloud) -> None:
    with one_box(docker_cloud) as environment:
        placed = python(environment, "schedule.py", QUERY, "--wait")
        assert placed.returncode == 0, placed.stderr
        said = re.match(r"NOTIFIED TARGET, (\S+), OF INSTANCE (\S+)\n", placed.stdout)
        assert said, placed.stdout
        node, instance = said.groups()

        address = python(environment, "schedule.py", instance)
        ipaddress.IPv4Address(address.stdout.strip())
        held = docker_cloud.placement.allocation(instance).allocations
        assert held == {node: {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}}

        state = Path(environment["PLACET_STATE_DIR"])
        uri = str(yaml.safe_load((state / "compute.yaml").read_text())["libvirt_uri"])
        with docker_cloud.store() as store:
            registered = [Place(node, uri, state)]
            wait_until_sound(store, docker_cloud.endpoint, registered)


@contextlib.contextmanager
def one_box(cloud: DockerCloud) -> Iterator[dict[str, str]]:
    """A node of this machine in that cloud, as `./up.sh --etcd … --placement …` makes it; the environment for it."""
    # not pytest's directory: QEMU, which is not root, must get through
    state = tempfile.mkdtemp(prefix="placet-docker-", dir="/var/tmp")
    environment = {**os.environ, "PLACET_STATE_DIR": state, "PYTHONPATH": str(PROJECT)}
    where = ("--etcd", f"127.0.0.1:{cloud.etcd_port}", "--placement", cloud.endpoint)
    try:
        up = python(environment, "-m", "placet.onebox", "up", "--no-vm", "--own-libvirt", *where)
        assert up.returncode == 0, up.stdout + up.stderr
        yield environment
    finally:
        gone = python(environment, "-m", "placet.onebox", "destroy", "--yes")
        shutil.rmtree(state, ignore_errors=True)
    assert gone.returncode == 0, gone.stdout + gone.stderr


def python(environment: dict[str, str], *words: str) -> Result:
    arguments: dict[str, Any] = {"cwd": PROJECT, "env": environment, "stdin": subprocess.DEVNULL, "timeout": 300}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, **arguments)


@pytest.mark.parametrize(
    ("words", "settings", "complaint"),
    [
        (("upp",), {}, "unknown verb upp: expected up, down, status or logs"),
        (("up", "--listn", "::1"), {}, "up --listn: expected --listen ADDR"),
        (("down", "--volume"), {}, "down --volume: expected nothing or --volumes"),
        (("up",), {"PLACET_DOCKER_NAME": "Placet"}, "PLACET_DOCKER_NAME=Placet: expected lower-case"),
        (("up",), {"PLACET_ETCD_PORT": "70000"}, "70000 is no port (1 to 65535)"),
        (("up",), {"PLACET_PLACEMENT_WORKERS": "none"}, "PLACET_PLACEMENT_WORKERS=none: expected a number"),
        (("up",), {"PLACET_PLACEMENT_WORKERS": "2"}, "set PLACET_PLACEMENT_DB to a PostgreSQL"),
    ],
)
def test_misuse_is_one_line_and_exit_2(words: tuple[str, ...], settings: dict[str, str], complaint: str) -> None:
    told = run_script(*words, **{**os.environ, **settings})

    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert told.stderr.startswith("docker.sh: ") and complaint in told.stderr


def test_no_verb_prints_the_usage_and_exits_2() -> None:
    told = run_script(**os.environ)

    assert told.returncode == 2 and told.stderr.startswith("Usage: ./docker.sh up")


def test_a_missing_engine_is_said(tmp_path: Path) -> None:
    if not shutil.which("docker"):
        pytest.skip("needs docker's client")
    told = run_script("up", **{**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none"})

    assert told.returncode == 1
    assert told.stderr == (
        f"docker.sh: no Docker engine answers at unix://{tmp_path}/none: start it (systemctl start docker)\n"
    )


def test_a_missing_client_is_said(tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    told = run_script("up", PATH=str(tmp_path))

    assert told.returncode == 1
    assert told.stderr == "docker.sh: there is no docker here: install it (Debian: apt-get install docker.io)\n"
