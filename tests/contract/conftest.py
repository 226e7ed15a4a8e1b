"""The hypervisors that the contract suites run on. The libvirt one starts once a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.config import PlacementConfig
from placet.drivers.libvirt import LibvirtDriver
from placet.hypervisor import CachedImage
from placet.images import inspection
from placet.model import Spec
from placet.placement import Placement
from tests.contract.rigs import FakeRig, LibvirtRig, Rig, new_spec
from tests.lab.hosts import Host, host
from tests.support.guest_images import put_mini_image
from tests.support.placement_model import ModelPlacement
from tests.support.services import PlacementServer


@pytest.fixture(scope="session")
def small_filesystem() -> Iterator[Path]:
    """A file system that takes a config drive but no disk. An isolated host sees what was mounted before it came up."""
    if os.geteuid() != 0 or not shutil.which("libvirtd"):
        pytest.skip("needs root and libvirtd, to make an isolated host with a libvirtd of its own")
    place = Path(tempfile.mkdtemp(prefix="placet-small-", dir="/var/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=711", "small", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


@pytest.fixture(scope="session")
def isolated_host(small_filesystem: Path) -> Iterator[Host]:
    with host("contract") as made:
        yield made


@pytest.fixture(scope="session")
def mini_image(isolated_host: Host) -> CachedImage:
    path = put_mini_image(isolated_host.directory / "mini.qcow2")
    return inspection.inspect(path, str(path))


@pytest.fixture(scope="session")
def libvirt_session(isolated_host: Host, mini_image: CachedImage) -> LibvirtRig:
    return LibvirtRig(isolated_host, mini_image)


@pytest.fixture
def libvirt_rig(libvirt_session: LibvirtRig) -> Iterator[LibvirtRig]:
    yield libvirt_session
    libvirt_session.clear()


@pytest.fixture(params=["fake", "libvirt"])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "fake":
        return FakeRig()
    found: LibvirtRig = request.getfixturevalue("libvirt_rig")
    return found


@pytest.fixture
def running(driver: LibvirtDriver, libvirt_rig: LibvirtRig) -> Spec:
    """An instance of the module's `driver` that runs, and boots nothing."""
    spec = new_spec()
    driver.create_disk(spec, libvirt_rig.blank)
    driver.define(spec)
    driver.start(spec.instance)
    return spec


@pytest.fixture(params=["real", "model"])
def subject(request: pytest.FixtureRequest) -> Iterator[Placement]:
    """An empty Placement; what is put into it goes with the test."""
    if request.param == "model":
        yield ModelPlacement()
        return
    server: PlacementServer = request.getfixturevalue("placement")
    real = Placement(PlacementConfig(server.endpoint))
    yield real
    for provider in real.providers():
        for consumer in real.provider_allocations(provider.uuid):
            assert real.release(consumer, real.allocation(consumer))
        assert real.delete_provider(provider.uuid)
