"""What a guest is told, in the shapes that cloud-init reads."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from placet import metadata, model
from placet.guest_inputs import encode_user_data, guest_file
from placet.metadata.files import BOOTHOOK
from placet.model import ImageRef, Nic, Spec
from placet.node_records import Address
from placet.schema import changed

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
    assert network["ethernets"]["nic0"] == {"match": {"macaddress": FIRST.mac}, "set-name": "eth0", "dhcp4": True}
    assert network["ethernets"]["nic1"]["optional"], "a boot does not wait for the bridge's DHCP"
    assert files["user-data"].decode() == SPEC.user_data


def test_gzipped_user_data_is_handed_over_byte_for_byte() -> None:
    data = gzip.compress(b"#!/bin/sh\n")
    user_data, encoding = encode_user_data(data)
    tree = metadata.tree(metadata.guest_record(changed(SPEC, user_data=user_data, user_data_encoding=encoding)))

    assert metadata.find(tree, "/latest/user-data") == metadata.find(tree, "/openstack/latest/user_data") == data


def test_properties_are_openstacks_meta_and_ec2s_tags() -> None:
    record = metadata.guest_record(changed(SPEC, properties={"role": "db", "a.b:c": ""}))
    tree = metadata.tree(record)

    meta_data = metadata.find(tree, "/openstack/latest/meta_data.json") or b""
    assert json.loads(meta_data)["meta"] == {"role": "db", "a.b:c": ""}
    assert yaml.safe_load(metadata.nocloud_documents(record)["meta-data"])["meta"] == {"role": "db", "a.b:c": ""}
    assert metadata.find(tree, "/latest/meta-data/tags/instance/") == b"role\na.b:c"
    assert metadata.find(tree, "/latest/meta-data/tags/instance/role") == b"db"
    assert "tags/" not in text("/latest/meta-data/"), "one without properties has no tags"


FILES = (guest_file("/etc/app/it's here", b"\0one\n", 0o640), guest_file("/empty", b"", 0o755))


def test_the_openstack_service_lists_files_and_has_their_content_beside_the_versions() -> None:
    tree = metadata.tree(metadata.guest_record(changed(SPEC, files=FILES)))

    listed = json.loads(metadata.find(tree, "/openstack/latest/meta_data.json") or b"")["files"]
    assert [each["path"] for each in listed] == ["/etc/app/it's here", "/empty"]
    assert [metadata.find(tree, "/openstack" + each["content_path"]) for each in listed] == [b"\0one\n", b""]
    assert b"content" not in (metadata.find(tree, "/openstack") or b"")
    assert metadata.find(TREE, "/openstack/content") is None


def boothooks(files: tuple[model.GuestFile, ...]) -> set[bytes]:
    """What cloud-init's sources find as vendor data: OpenStack's and NoCloud's."""
    record = metadata.guest_record(changed(SPEC, files=files))
    vendor_data = metadata.openstack_documents(record)["vendor_data.json"]
    return {json.loads(vendor_data)["cloud-init"].encode(), metadata.nocloud_documents(record)["vendor-data"]}


def run_boothook(files: tuple[model.GuestFile, ...], directory: Path) -> None:
    """Run what cloud-init runs at each boot; the script's own paths are taken below a directory."""
    (script,) = boothooks(files)
    marker = "/var/lib/cloud/"
    assert script.startswith(b"#cloud-boothook\n#!/bin/sh\n") and script.decode().count(marker) == 1
    program = script.decode().replace(marker, f"{directory}{marker}")
    subprocess.run(["/bin/sh"], input=program, text=True, check=True)


def test_the_vendor_data_puts_files_into_place_once_with_their_modes(tmp_path: Path) -> None:
    files = tuple(changed(file, path=f"{tmp_path}{file.path}") for file in FILES)
    first, second = (Path(file.path) for file in files)
    run_boothook(files, tmp_path)

    assert (first.read_bytes(), second.read_bytes()) == (b"\0one\n", b"")
    assert (first.stat().st_mode & 0o777, second.stat().st_mode & 0o777) == (0o640, 0o755)
    assert (first.parent.stat().st_mode & 0o755) == 0o755
    first.write_bytes(b"changed by its user\n")
    run_boothook(files, tmp_path)
    assert first.read_bytes() == b"changed by its user\n"


def test_the_vendor_data_gives_what_cloud_init_has_written_by_itself_only_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o660)
    written_at = path.stat().st_mtime_ns
    run_boothook((guest_file(str(path), b"content", 0o600),), tmp_path)

    assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (0o600, written_at)


def test_the_vendor_data_tells_when_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(subprocess.CalledProcessError):
        run_boothook((guest_file(f"{tmp_path}/file/below-a-file", b"", 0o644),), tmp_path)
    assert not (tmp_path / "var").exists(), "the next boot tries again"


def test_without_files_there_is_no_vendor_data() -> None:
    assert text("/openstack/latest/vendor_data.json") == "{}"
    assert "vendor-data" not in metadata.nocloud_documents(RECORD)
    assert BOOTHOOK.startswith("#cloud-boothook")


IPV6 = [Address("fd00:198:19::5", FIRST.mac), Address("198.19.0.5", FIRST.mac)]


def test_an_ipv6_address_is_asked_for_only_where_there_is_one() -> None:
    record = metadata.guest_record(SPEC, IPV6)
    ethernets = yaml.safe_load(metadata.nocloud_documents(record)["network-config"])["ethernets"]

    assert [ethernet.get("dhcp6") for ethernet in ethernets.values()] == [True, None]
    networks = json.loads(metadata.openstack_documents(record)["network_data.json"])["networks"]
    assert [network["type"] for network in networks] == ["ipv4_dhcp", "ipv6_dhcp", "ipv4_dhcp"]
    assert "ipv6" not in text("/openstack/latest/network_data.json")


def test_ec2_has_each_address_where_its_family_belongs() -> None:
    tree = metadata.tree(metadata.guest_record(SPEC, IPV6))
    interface = f"/latest/meta-data/network/interfaces/macs/{FIRST.mac}"

    assert metadata.find(tree, "/latest/meta-data/local-ipv4") == b"198.19.0.5"
    assert metadata.find(tree, "/latest/meta-data/ipv6") == b"fd00:198:19::5"
    assert metadata.find(tree, f"{interface}/local-ipv4s") == b"198.19.0.5"
    assert metadata.find(tree, f"{interface}/ipv6s") == b"fd00:198:19::5"
    assert metadata.find(TREE, f"{interface}/ipv6s") is None, "cloud-init would wait for one"


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
