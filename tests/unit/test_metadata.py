"""What a guest is told, in the shapes that cloud-init reads."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from placet import metadata, model
from placet.model import Address, ImageRef, Nic, Spec

UUID = "3f2c4d5e-8b1a-4c3d-9e0f-000000000001"
KEYS = ("ssh-ed25519 AAAAC3Nza me@laptop", "ssh-ed25519 AAAAC3Nzb you@desk\n")
FIRST, SECOND = Nic("52:54:00:00:00:01"), Nic("52:54:00:00:00:02", "bridge")
SPEC = Spec(
    instance=UUID,
    node="node-1",
    name="web",
    hostname="www",
    image=ImageRef("/images/mini.qcow2"),
    allocations={"provider": {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 3}},
    nics=(FIRST, SECOND),
    created_at=1_800_000_000.0,
    request_id="req-1",
    keys=KEYS,
    user_data="#!/bin/sh\necho ü\n",
)
RECORD = metadata.guest_record(SPEC, [Address("198.19.0.5", FIRST.mac), Address("10.0.0.9", SECOND.mac, "bridge")])
TREE = metadata.tree(RECORD)


def text(path: str) -> str:
    found = metadata.find(TREE, path)
    assert found is not None, path
    return found.decode()


def test_a_record_survives_its_json() -> None:
    assert model.decode(metadata.GuestRecord, model.encode(RECORD), "guest") == RECORD


def test_a_guest_is_known_by_its_own_networks_addresses_alone() -> None:
    assert RECORD.ips == ("198.19.0.5",)
    assert RECORD.macs == (FIRST.mac, SECOND.mac)


def test_openstack_meta_data_holds_identity_hostname_and_keys() -> None:
    found = json.loads(text("/openstack/latest/meta_data.json"))

    assert (found["uuid"], found["name"], found["hostname"]) == (UUID, "web", "www")
    assert found["public_keys"] == {"key-0": KEYS[0], "key-1": KEYS[1].strip()}
    assert found["keys"][0] == {"name": "key-0", "type": "ssh", "data": KEYS[0]}
    assert found["launch_index"] == 0


def test_without_a_hostname_the_name_is_the_hostname() -> None:
    record = metadata.guest_record(model.Spec(**{**vars(SPEC), "hostname": ""}))

    assert json.loads(metadata.openstack_documents(record)["meta_data.json"])["hostname"] == "web"


def test_network_data_has_dhcp_on_each_nic_by_its_mac() -> None:
    found = json.loads(text("/openstack/latest/network_data.json"))

    assert [link["ethernet_mac_address"] for link in found["links"]] == [FIRST.mac, SECOND.mac]
    assert [network["type"] for network in found["networks"]] == ["ipv4_dhcp", "ipv4_dhcp"]
    assert [network["link"] for network in found["networks"]] == [link["id"] for link in found["links"]]


def test_documents_appear_with_the_openstack_version_that_brought_them() -> None:
    assert text("/openstack/2012-08-10").splitlines() == ["meta_data.json", "user_data"]
    assert "network_data.json" in text("/openstack/2015-10-15").splitlines()
    assert text("/openstack").splitlines()[-1] == "latest"
    assert metadata.find(TREE, "/openstack/2012-08-10/network_data.json") is None


def test_user_data_is_handed_over_byte_for_byte() -> None:
    assert text("/openstack/latest/user_data") == text("/latest/user-data") == SPEC.user_data


def test_without_user_data_there_is_no_document_of_it() -> None:
    tree = metadata.tree(metadata.guest_record(model.Spec(**{**vars(SPEC), "user_data": ""})))

    assert metadata.find(tree, "/latest/user-data") is None
    assert metadata.find(tree, "/openstack/latest/user_data") is None
    assert metadata.find(tree, "/latest") == b"dynamic\nmeta-data"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/latest/meta-data/instance-id", "i-3f2c4d5e8b1a4c3d9"),
        ("/2009-04-04/meta-data/hostname", "www"),
        ("/latest/meta-data/local-ipv4", "198.19.0.5"),
        ("/latest/meta-data/instance-type", "placet.2cpu-512mb-3gb"),
        ("/latest/meta-data/placement/availability-zone", "placet"),
        ("/latest/meta-data/public-keys", "0=key-0\n1=key-1"),
        ("/latest/meta-data/public-keys/1", "openssh-key"),
        ("/latest/meta-data/public-keys/1/openssh-key", KEYS[1].strip()),
        ("/latest/meta-data/network/interfaces/macs/", f"{FIRST.mac}/\n{SECOND.mac}/"),
        ("//latest///meta-data/mac/", FIRST.mac),
    ],
)
def test_the_ec2_tree_answers(path: str, expected: str) -> None:
    assert text(path) == expected


def test_ec2_lists_directories_with_a_slash_and_documents_without() -> None:
    lines = text("/latest/meta-data/").splitlines()

    assert {"placement/", "public-keys/", "block-device-mapping/", "instance-id"} <= set(lines)


def test_the_root_lists_the_versions_that_clients_probe() -> None:
    assert {"1.0", "2009-04-04", "2021-03-23", "latest"} <= set(text("/").splitlines())


def test_the_identity_document_is_of_this_guest() -> None:
    found = json.loads(text("/latest/dynamic/instance-identity/document"))

    assert found["instanceId"] == text("/latest/meta-data/instance-id")
    assert found["privateIp"] == "198.19.0.5"
    assert found["pendingTime"] == "2027-01-15T08:00:00Z"


def test_nocloud_files_are_yaml_that_matches_nics_by_mac() -> None:
    files = metadata.nocloud_documents(RECORD)

    assert yaml.safe_load(files["meta-data"]) == {
        "instance-id": UUID,
        "local-hostname": "www",
        "public-keys": [key.strip() for key in KEYS],
    }
    network = yaml.safe_load(files["network-config"])
    assert network["version"] == 2
    assert network["ethernets"]["nic0"] == {"match": {"macaddress": FIRST.mac}, "dhcp4": True}
    assert network["ethernets"]["nic1"]["optional"], "a boot does not wait for the bridge's DHCP"
    assert files["user-data"].decode() == SPEC.user_data


def test_everything_listed_is_there() -> None:
    def walk(path: str) -> int:
        seen = 0
        for line in text(path).splitlines():
            if line.endswith("/"):
                seen += walk(path + line)
            else:
                number, named, _ = line.partition("=")
                text(f"{path}{number}/openssh-key" if named else path + line)
                seen += 1
        return seen

    assert walk("/latest/meta-data/") > 20


@given(st.text())
def test_any_path_is_a_document_a_listing_or_nothing(path: str) -> None:
    found = metadata.find(TREE, path)

    assert found is None or isinstance(found, bytes)
