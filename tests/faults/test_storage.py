"""Disks that are full, downloads that break off or hang, images that vanish: an ERROR with stage and reason, and a way
out: the same UUID is destroyed and asked for again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.asking import domain_count, fault, place, shown, status, story
from tests.faults.conftest import restart, sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.lab.probe import reach
from tests.support.clouds import TestCloud
from tests.support.nodes import until

PORT = 8099
TIMEOUT_S = 15  # in which a download that does well is done, on a busy machine too
FAULT_S = 180.0


@contextlib.contextmanager
def small_file_system(node: LabNode, directory: str) -> Iterator[None]:
    """One of 64 KiB over a part of the node's state, where its agent, libvirtd and QEMU see it."""
    path = str(node.state_dir / directory)
    node.host.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0711", "tmpfs", path)
    try:
        yield
    finally:
        node.host.run("umount", path)


def fails(cloud: Lab, node: LabNode, instance: str, code: str, stage: str) -> None:
    """It goes to ERROR with this word at this stage, which status, `ip` and events tell."""
    until(lambda: fault(cloud, node, instance), "a fault", FAULT_S)
    found = status(cloud, node, instance)["fault"]
    assert (found["code"], found["stage"]) == (code, stage), found
    told = cloud.schedule("ip", instance)
    assert told.code == 1 and told.err.count("\n") == 1 and code in told.err, told
    assert shown(cloud, instance)["state"] == "ERROR"
    assert any(what == "fault" and reason.startswith(code) for what, reason in story(cloud, instance))
    assert domain_count(cloud, instance) == 0


def can_be_destroyed(cloud: Lab, instance: str) -> None:
    """What it holds until then is free afterwards."""
    authorities = TestCloud.make(cloud.store, cloud.placement_endpoint)
    assert authorities.held(instance), "an ERROR keeps its allocation"
    told = cloud.schedule("destroy", instance)
    assert told.code == 0 and not authorities.held(instance), told


@pytest.mark.parametrize(("directory", "stage"), [("instances", "image"), ("images/cache", "claimed")])
def test_a_full_disk_is_an_error_and_then_the_same_uuid_boots(
    cloud: Lab, first: LabNode, directory: str, stage: str, tmp_path: Path
) -> None:
    image = uncached(cloud, tmp_path)
    with small_file_system(first, directory):
        instance = place(cloud, first, "--image", image)
        fails(cloud, first, instance, "disk-full", stage)
        can_be_destroyed(cloud, instance)
        left = first.host.run("find", str(first.state_dir / directory), "-type", "f").split()
        assert [path for path in left if "/dhcp/" not in path] == []
    place(cloud, first, "--image", image, "--wait", uuid=instance)
    assert domain_count(cloud, instance) == 1


def uncached(cloud: Lab, tmp_path: Path) -> str:
    """An image that no node has in its cache: one that is new there."""
    path = cloud.image.with_name(f"{tmp_path.name}.qcow2")
    shutil.copyfile(cloud.image, path)
    return str(path)


@pytest.fixture
def server(cloud: Lab, first: LabNode) -> Iterator[str]:
    """An URL of a server within the node's host; its agent waits less long for downloads than usual."""
    restart(first, image_timeout_s=TIMEOUT_S)
    program = Path(__file__).with_name("half_server.py")
    daemon = first.host.start_daemon(sys.executable, str(program), str(PORT), str(cloud.image))
    until(lambda: reach(first.host, PORT) == "answers", "the server answers")
    yield f"http://127.0.0.1:{PORT}"
    daemon.kill()


def test_a_download_that_breaks_off_or_hangs_is_an_error(cloud: Lab, first: LabNode, server: str) -> None:
    truncated = place(cloud, first, "--image", f"{server}/truncated")
    hung = place(cloud, first, "--image", f"{server}/hung")
    fails(cloud, first, truncated, "image-unreachable", "claimed")
    fails(cloud, first, hung, "image-unreachable", "claimed")
    for instance in (truncated, hung):
        can_be_destroyed(cloud, instance)
    sound(cloud)
    place(cloud, first, "--image", f"{server}/whole", "--wait", uuid=hung)


def test_an_image_that_vanishes_under_a_build_is_an_error(cloud: Lab, first: LabNode, tmp_path: Path) -> None:
    image = uncached(cloud, tmp_path)
    first.stop_agent()
    first.start_agent(env={"PLACET_FAILPOINT": "build.image-half-fetched"})
    first.wait_ready()
    instance = place(cloud, first, "--image", image)
    assert first.wait_agent_exit() == 128 + signal.SIGKILL
    Path(image).unlink()
    first.start_agent()
    fails(cloud, first, instance, "image-not-found", "claimed")
    can_be_destroyed(cloud, instance)
