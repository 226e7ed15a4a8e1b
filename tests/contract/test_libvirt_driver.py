"""What the libvirt driver promises beyond the contract: about files, networks, and a libvirtd that dies."""

from __future__ import annotations

import stat
import struct
import sys
from pathlib import Path

import pytest

from placet.drivers.libvirt import LibvirtDriver
from placet.errors import Fault, Refused, Unreachable
from placet.hypervisor import Network, Owner
from placet.lifecycle import Power
from placet.model import Spec
from placet.schema import changed
from tests.contract.rigs import OWNER, SUBNET, Changes, LibvirtRig, eventually, new_spec

PROJECT = Path(__file__).parents[2]
OTHER_OWNER = Owner(cloud="another-cloud", node="another-node")
GIB = 2**30


@pytest.fixture
def driver(libvirt_rig: LibvirtRig) -> LibvirtDriver:
    made = libvirt_rig.driver()
    made.prepare()
    return made


def directory_of(rig: LibvirtRig, spec: Spec) -> Path:
    return rig.instances_dir / f"net{SUBNET.prefixlen}" / spec.instance


def virtual_size(disk: Path) -> int:
    (size,) = struct.unpack_from(">Q", disk.read_bytes(), 24)
    return int(size)


def test_a_disk_grows_to_disk_gb(driver: LibvirtDriver, libvirt_rig: LibvirtRig) -> None:
    spec = new_spec(disk_gb=3)

    driver.create_disk(spec, libvirt_rig.blank)

    assert virtual_size(directory_of(libvirt_rig, spec) / "disk.qcow2") == 3 * GIB


def test_without_resize_a_disk_keeps_the_images_size(libvirt_rig: LibvirtRig) -> None:
    network = Network(f"net{SUBNET.prefixlen}", f"br{SUBNET.prefixlen}", SUBNET)
    driver, spec = libvirt_rig.make(network, resize=False), new_spec()

    driver.create_disk(spec, libvirt_rig.blank)

    assert virtual_size(directory_of(libvirt_rig, spec) / "disk.qcow2") == libvirt_rig.blank.virtual_size


def test_nobody_but_root_and_qemu_reads_an_instances_files(running: Spec, libvirt_rig: LibvirtRig) -> None:
    directory = directory_of(libvirt_rig, running)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}

    assert modes.pop(running.instance) == 0o711
    assert set(modes) == {"disk.qcow2", "config.iso", "console.log"}
    assert set(modes.values()) == {0o600}


def test_an_instance_that_wants_no_config_drive_has_none_and_starts(
    driver: LibvirtDriver, libvirt_rig: LibvirtRig
) -> None:
    spec = changed(new_spec(), config_drive="none")
    driver.create_disk(spec, libvirt_rig.blank)
    driver.define(spec)
    driver.start(spec.instance)

    assert {path.name for path in directory_of(libvirt_rig, spec).iterdir()} == {"disk.qcow2", "console.log"}
    assert driver.observe(spec.instance).power is Power.RUNNING


def test_user_data_that_cannot_be_read_is_a_fault_and_leaves_nothing(
    driver: LibvirtDriver, libvirt_rig: LibvirtRig
) -> None:
    spec = changed(new_spec(), user_data="no base64", user_data_encoding="base64")

    with pytest.raises(Fault, match=spec.instance) as caught:
        driver.create_disk(spec, libvirt_rig.blank)
    assert caught.value.code == "bad-spec"
    assert driver.instances() == frozenset()


def test_qemu_runs_as_an_unprivileged_user_who_cannot_write_to_the_image(
    running: Spec, libvirt_rig: LibvirtRig
) -> None:
    (user,) = libvirt_rig.host.run("ps", "-C", "qemu-system-x86_64", "-o", "user=").split()
    image = libvirt_rig.blank.path.stat()

    assert user.startswith("libvirt")
    assert image.st_uid == 0
    assert stat.S_IMODE(image.st_mode) == 0o644


def test_a_full_disk_is_a_fault_that_names_the_file_system_and_leaves_nothing(
    libvirt_rig: LibvirtRig, small_filesystem: Path
) -> None:
    network = Network(f"net{SUBNET.prefixlen}", f"br{SUBNET.prefixlen}", SUBNET)
    driver, spec = libvirt_rig.make(network, instances_dir=small_filesystem), new_spec()

    with pytest.raises(Fault, match=str(small_filesystem)) as caught:
        driver.create_disk(spec, libvirt_rig.blank)

    assert caught.value.code == "disk-full"
    assert list(small_filesystem.iterdir()) == []
    with libvirt_rig.connected() as libvirtd:
        assert libvirtd.listAllStoragePools() == []


def test_removing_a_disk_follows_no_link(driver: LibvirtDriver, libvirt_rig: LibvirtRig, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    within, instead = new_spec(), new_spec()
    driver.create_disk(within, libvirt_rig.blank)
    (directory_of(libvirt_rig, within) / "link").symlink_to(tmp_path)
    directory_of(libvirt_rig, instead).symlink_to(tmp_path)

    driver.remove_disk(within.instance)
    driver.remove_disk(instead.instance)

    assert precious.read_text() == "data"
    assert driver.instances() == frozenset()


def test_what_is_no_uuid_never_becomes_a_path(driver: LibvirtDriver) -> None:
    for name in ("..", "../../etc", "dhcp", ""):
        with pytest.raises(Fault, match="UUID"):
            driver.remove_disk(name)


def test_one_whose_reservation_was_lost_has_one_again_when_it_starts(
    driver: LibvirtDriver, running: Spec, libvirt_rig: LibvirtRig
) -> None:
    driver.stop(running.instance)
    (libvirt_rig.instances_dir / f"net{SUBNET.prefixlen}" / "dhcp" / running.instance).unlink()

    driver.start(running.instance)
    assert [address.mac for address in driver.observe(running.instance).addresses] == [running.nics[0].mac]


def test_a_guest_that_is_stopped_by_hand_is_called_out(
    driver: LibvirtDriver, running: Spec, libvirt_rig: LibvirtRig
) -> None:
    changes = Changes()
    driver.subscribe(changes.add)

    with libvirt_rig.connected() as libvirtd:
        changes.expect(running.instance, doing=libvirtd.lookupByUUIDString(running.instance).destroy)

    assert driver.observe(running.instance).power is Power.SHUTOFF


def test_a_guest_whose_qemu_dies_has_crashed(driver: LibvirtDriver, running: Spec, libvirt_rig: LibvirtRig) -> None:
    changes = Changes()
    driver.subscribe(changes.add)

    libvirt_rig.host.run("pkill", "-KILL", "-f", running.instance)

    changes.lead_to(lambda: driver.observe(running.instance).power is Power.CRASHED)


def test_two_clouds_have_their_networks_side_by_side(libvirt_rig: LibvirtRig) -> None:
    host = libvirt_rig.host
    put = "from placet.drivers.libvirt.bridge_address import *; put_address({!r}, IPv4Address('169.254.169.254'))"
    for number, owner in ((1, OWNER), (2, OTHER_OWNER)):
        subnet = type(SUBNET)(f"198.19.10{number}.0/24")
        driver = libvirt_rig.make(Network(f"cloud{number}", f"cloud{number}", subnet), owner)
        driver.prepare()
        for _again in range(2):
            host.run("env", f"PYTHONPATH={PROJECT}", sys.executable, "-c", put.format(f"cloud{number}"))
        driver.prepare()

    for number in (1, 2):
        addresses = host.run("ip", "-brief", "-4", "address", "show", "dev", f"cloud{number}").split()[2:]
        assert addresses == [f"198.19.10{number}.1/24", "169.254.169.254/32"]


def test_a_network_of_somebody_else_is_refused_and_left_alone(libvirt_rig: LibvirtRig) -> None:
    with libvirt_rig.connected() as libvirtd:
        theirs = libvirtd.networkDefineXML("<network><name>default</name></network>")
        before = theirs.XMLDesc()

        with pytest.raises(Refused, match=r"default .* network\.name in compute\.yaml"):
            libvirt_rig.make(Network("default", "virbr0", SUBNET)).prepare()

        assert theirs.XMLDesc() == before
        theirs.undefine()


def test_a_network_whose_subnet_changed_is_made_anew_unless_it_is_in_use(libvirt_rig: LibvirtRig) -> None:
    subnets = [type(SUBNET)(f"198.19.{number}.0/24") for number in (111, 112, 113)]
    drivers = [libvirt_rig.make(Network("moving", "moving", subnet)) for subnet in subnets]

    def address() -> str:
        return libvirt_rig.host.run("ip", "-brief", "-4", "address", "show", "dev", "moving").split()[2]

    drivers[0].prepare()
    drivers[1].prepare()
    assert address() == "198.19.112.1/24"

    spec = new_spec()
    drivers[1].define(spec)
    drivers[2].prepare()
    assert address() == "198.19.112.1/24"

    drivers[1].remove_domain(spec.instance)
    drivers[2].prepare()
    assert address() == "198.19.113.1/24"


def test_a_node_with_a_bridge_gives_guests_a_second_nic_there(libvirt_rig: LibvirtRig) -> None:
    libvirt_rig.host.run("ip", "link", "add", "br-lan", "type", "bridge")
    network = Network(f"net{SUBNET.prefixlen}", f"br{SUBNET.prefixlen}", SUBNET)
    driver, spec = libvirt_rig.make(network, second_bridge="br-lan"), new_spec()
    driver.prepare()

    driver.create_disk(spec, libvirt_rig.blank)
    driver.define(spec)
    driver.start(spec.instance)

    assert len(libvirt_rig.host.run("ip", "-brief", "link", "show", "master", "br-lan").splitlines()) == 1
    assert [address.network for address in driver.observe(spec.instance).addresses] == ["default"]


def test_while_libvirtd_is_dead_calls_say_where_it_was_and_guests_live_on(
    driver: LibvirtDriver, running: Spec, libvirt_rig: LibvirtRig
) -> None:
    changes = Changes()
    driver.subscribe(changes.add)

    libvirt_rig.host.kill_libvirtd()
    try:
        with pytest.raises(Unreachable, match=f"{libvirt_rig.host.directory}.*start libvirtd"):
            driver.observe(running.instance)
        assert libvirt_rig.host.run("pgrep", "-f", running.instance)
    finally:
        changes.expect(running.instance, doing=libvirt_rig.host.start_libvirtd)

    eventually(lambda: driver.observe(running.instance).power is Power.RUNNING)
    with libvirt_rig.connected() as libvirtd:
        libvirtd.lookupByUUIDString(running.instance).memoryStats()  # returns once libvirtd has found its guest again
    changes.expect(running.instance, doing=lambda: driver.stop(running.instance))
