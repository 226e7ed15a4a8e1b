"""compute.py as a process: what it says when something it needs is not there, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from placet import keys
from placet.config import BESIDE_SCRIPT
from placet.model import ImageRef
from placet.query import DISABLED_TRAIT
from placet.store.etcd import EtcdStore
from tests.support.clouds import TestCloud, request
from tests.support.gated_http import gated_http
from tests.support.nodes import make_image, until
from tests.support.services import Etcd, PlacementServer

COMMAND = [sys.executable, str(BESIDE_SCRIPT / "compute.py")]


@pytest.fixture
def config(etcd: Etcd, placement: PlacementServer, tmp_path: Path) -> dict[str, Any]:
    """A compute.yaml's content that works, on the fake driver."""
    return {
        "state_dir": str(tmp_path / "state"),
        "etcd": dict(etcd.client),
        "etcd_prefix": f"/compute-{uuid.uuid4()}",
        "placement": {"endpoint": placement.endpoint},
        "driver": "fake",
    }


def start(config: dict[str, Any], directory: Path) -> subprocess.Popen[str]:
    path = directory / "compute.yaml"
    path.write_text(yaml.safe_dump(config))
    return subprocess.Popen([*COMMAND, "--config", str(path)], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"rezise": False}, 2, "rezise: unknown key (did you mean 'resize'?)"),
        ({"etcd": {"port": 1}}, 1, "etcd at localhost:1 is not reachable; start it"),
        ({"placement": {"endpoint": "http://127.0.0.1:1"}}, 1, "Placement at http://127.0.0.1:1 is not reachable"),
        ({"driver": "libvirt", "libvirt_uri": "qemu+unix:///system?socket=/nonexistent"}, 1, "start libvirtd"),
        ({"state_dir": "/proc/nonexistent"}, 1, "/proc/nonexistent"),
        ({"etcd": {"ca_cert": "/nonexistent"}}, 2, "/nonexistent"),
        ({"inventory": {"CUSTOM_GPU": {"reserved": 1}}}, 2, "inventory.CUSTOM_GPU.total"),
    ],
)
def test_what_is_wrong_or_not_there_is_one_line_with_the_remedy(
    config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], code: int, words: str
) -> None:
    process = start({**config, **changes}, tmp_path)
    _, told = process.communicate(timeout=120)
    assert process.returncode == code, told
    assert words in told and told.count("\n") == 1, told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_disables_the_provider_and_ends_it_with_0(
    config: dict[str, Any], tmp_path: Path, etcd: Etcd, placement: PlacementServer, number: signal.Signals
) -> None:
    store = EtcdStore(etcd.client, config["etcd_prefix"])
    process = start(config, tmp_path)
    until(lambda: store.scan(keys.ALIVE).entries, "alive")
    (entry,) = store.scan(keys.ALIVE).entries
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert store.scan(keys.ALIVE).entries == ()
    traits, _ = TestCloud.make(store, placement.endpoint).placement.traits(keys.last(entry.key))
    assert DISABLED_TRAIT in traits
    store.close()


def test_a_second_agent_on_the_same_state_directory_is_refused(
    config: dict[str, Any], tmp_path: Path, etcd: Etcd
) -> None:
    store = EtcdStore(etcd.client, config["etcd_prefix"])
    first = start(config, tmp_path)
    until(lambda: store.scan(keys.ALIVE).entries, "alive")
    second = start(config, tmp_path)
    _, told = second.communicate(timeout=120)
    assert (second.returncode, "another agent runs on" in told) == (5, True), told
    first.terminate()
    first.communicate(timeout=120)
    store.close()


def test_a_download_that_goes_on_does_not_keep_it_from_ending(
    config: dict[str, Any], tmp_path: Path, etcd: Etcd, placement: PlacementServer
) -> None:
    store = EtcdStore(etcd.client, config["etcd_prefix"])
    process = start(config, tmp_path)
    until(lambda: store.scan(keys.ALIVE).entries, "alive")
    with gated_http(make_image(tmp_path / "images")) as server:
        asked = replace(request(), image=ImageRef(server.url))
        TestCloud.make(store, placement.endpoint).scheduler().create(asked)
        until(lambda: server.asked, "the download has begun")
        process.terminate()
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    store.close()
