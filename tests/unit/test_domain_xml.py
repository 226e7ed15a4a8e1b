"""What a domain is made of, and what is read of one."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.drivers.libvirt.domain_facts import read_domain
from placet.drivers.libvirt.domain_xml import Host, build_domain
from placet.drivers.libvirt.files import files_of
from placet.drivers.libvirt.overlay import Backing
from placet.errors import Fault
from placet.hypervisor import Owner
from placet.model import ImageRef, Nic, Spec
from placet.networks import mac_of
from placet.schema import changed

INSTANCE = "11111111-2222-4333-8444-555555555555"
OWNER = Owner(cloud="the-cloud", node="the-node")
FILES = files_of(Path("/instances"), INSTANCE)
HOST = Host(virt_type="qemu", network="placet")
SPEC = Spec(
    instance=INSTANCE,
    node="the-node",
    name="web",
    image=ImageRef("/images/mini.qcow2"),
    allocations={"the-node": {"VCPU": 2, "MEMORY_MB": 256}, "the-pool": {"DISK_GB": 1}},
    nics=(Nic("52:54:00:00:00:01"),),
    created_at=0.0,
    request_id="request",
)


def domain(spec: Spec = SPEC, host: Host = HOST, backing: Backing | None = None) -> ET.Element:
    return ET.fromstring(build_domain(spec, OWNER, FILES, host, backing))  # noqa: S314 - made a line above


def test_name_and_uuid_are_the_instances() -> None:
    assert domain().findtext("name") == domain().findtext("uuid") == INSTANCE


def test_it_gets_what_was_claimed() -> None:
    memory = domain().find("memory")

    assert domain().findtext("vcpu") == "2"
    assert memory is not None
    assert (memory.text, memory.get("unit")) == ("256", "MiB")


def test_its_disk_and_config_drive_are_on_virtio_with_explicit_formats() -> None:
    disk, drive = domain().findall("devices/disk")

    assert [one.find("target").attrib for one in (disk, drive)] == [  # type: ignore[union-attr]
        {"dev": "vda", "bus": "virtio"},
        {"dev": "vdb", "bus": "virtio"},
    ]
    assert [one.find("driver").get("type") for one in (disk, drive)] == ["qcow2", "raw"]  # type: ignore[union-attr]
    assert [one.find("readonly") is not None for one in (disk, drive)] == [False, True]


@pytest.mark.parametrize(("config_drive", "disks"), [("openstack", 2), ("nocloud", 2), ("none", 1)])
def test_an_instance_that_wants_no_config_drive_has_none(config_drive: str, disks: int) -> None:
    assert len(domain(changed(SPEC, config_drive=config_drive)).findall("devices/disk")) == disks


def test_the_shared_image_is_not_given_to_qemu() -> None:
    found = domain(backing=Backing(Path("/images/mini.raw"), "raw"))

    (store,) = found.findall("devices/disk/backingStore")
    assert store.find("format[@type='raw']") is not None
    assert store.find("source[@file='/images/mini.raw']/seclabel[@relabel='no']") is not None
    assert store.find("backingStore") is not None


def test_emulated_guests_get_a_small_translation_cache() -> None:
    assert domain().find("features/tcg/tb-cache") is not None
    assert domain(host=changed(HOST, virt_type="kvm")).find("features/tcg") is None


def test_its_firmware_tells_of_its_cloud() -> None:
    found = domain()

    assert found.find("os/smbios[@mode='sysinfo']") is not None
    entries = {entry.get("name"): entry.text for entry in found.findall("sysinfo[@type='smbios']/system/entry")}
    assert entries == {"manufacturer": "Placet", "product": "OpenStack Compute"}


def test_under_kvm_guests_see_the_real_cpu() -> None:
    assert domain(host=changed(HOST, virt_type="kvm")).find("cpu[@mode='host-passthrough']") is not None


def test_there_is_no_graphics_and_no_usb() -> None:
    devices = domain().find("devices")

    assert devices is not None
    assert devices.find("graphics") is None
    assert devices.find("controller[@type='usb']/[@model='none']") is not None
    assert devices.find("video/model[@type='none']") is not None


def test_without_a_bridge_its_one_nic_is_on_the_nat_network() -> None:
    (nic,) = domain().findall("devices/interface")

    assert nic.find("source[@network='placet']") is not None
    assert nic.find("mac[@address='52:54:00:00:00:01']") is not None
    assert nic.find("model[@type='virtio']") is not None


def test_its_port_on_the_nat_network_is_known_by_its_mac_before_it_is_there() -> None:
    nat, bridged = domain(host=changed(HOST, bridge="br0")).findall("devices/interface")

    assert nat.find("target[@dev='pl-525400000001']") is not None
    assert bridged.find("target") is None


def test_a_nodes_bridge_gets_a_second_nic_with_a_mac_that_stays() -> None:
    nat, bridged = domain(host=changed(HOST, bridge="br0")).findall("devices/interface")

    assert (nat.get("type"), bridged.get("type")) == ("network", "bridge")
    assert bridged.find("source[@bridge='br0']") is not None
    assert bridged.find(f"mac[@address='{mac_of(INSTANCE, nic=1)}']") is not None


def test_a_spec_may_name_the_bridges_mac() -> None:
    spec = changed(SPEC, nics=(*SPEC.nics, Nic("52:54:00:00:00:02", network="bridge")))

    _nat, bridged = domain(spec, changed(HOST, bridge="br0")).findall("devices/interface")

    assert bridged.find("mac[@address='52:54:00:00:00:02']") is not None


def test_a_nic_on_a_bridge_that_the_node_lacks_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"compute\.yaml") as caught:
        domain(changed(SPEC, nics=(Nic("52:54:00:00:00:02", network="bridge"),)))

    assert caught.value.code == "no-bridge"


xml_text = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))


@given(cloud=xml_text, node=xml_text)
def test_the_owner_is_read_back_as_it_was_written(cloud: str, node: str) -> None:
    owner = Owner(cloud, node)

    assert read_domain(build_domain(SPEC, owner, FILES, HOST)).owner == owner


def test_nics_are_read_back_and_no_agent_is_seen_before_one_connects() -> None:
    found = read_domain(build_domain(SPEC, OWNER, FILES, changed(HOST, bridge="br0")))

    assert found.nics == (*SPEC.nics, Nic(mac_of(INSTANCE, nic=1), network="bridge"))
    assert not found.agent


def test_an_agent_that_holds_its_channel_open_is_seen() -> None:
    running = build_domain(SPEC, OWNER, FILES, HOST).replace("guest_agent.0", 'guest_agent.0" state="connected')

    assert read_domain(running).agent


def test_a_domain_without_our_mark_has_no_owner() -> None:
    theirs = "<domain><metadata><other xmlns='urn:other' cloud='the-cloud' node='the-node'/></metadata></domain>"

    assert read_domain(theirs).owner is None


def test_what_is_no_uuid_has_no_files() -> None:
    for name in ("..", "/etc", "", INSTANCE.upper().replace("1", "A"), f"{INSTANCE}/"):
        with pytest.raises(Fault, match="UUID"):
            files_of(Path("/instances"), name)
