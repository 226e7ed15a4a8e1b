"""The config drive, read back as a guest would."""

from __future__ import annotations

import gzip
import io
import json

import pytest
from pycdlib import PyCdlib

from placet import configdrive
from placet.guest_inputs import encode_user_data, guest_file
from placet.model import ImageRef, Nic, Spec
from placet.schema import changed

SPEC = Spec(
    instance="3f2c4d5e-8b1a-4c3d-9e0f-000000000001",
    node="node-1",
    name="web",
    image=ImageRef("/images/mini.qcow2"),
    allocations={},
    nics=(Nic("52:54:00:00:00:01"),),
    created_at=0.0,
    request_id="req-1",
    keys=("ssh-ed25519 AAAAC3Nza me@laptop",),
    user_data="#!/bin/sh\n" + "true\n" * 10_000,
)
NAMES = ("rr_path", "joliet_path")


def read(drive: bytes, name_kind: str) -> tuple[str, dict[str, bytes]]:
    """The label and all files by path, through Rock Ridge or Joliet names."""
    iso = PyCdlib()
    iso.open_fp(io.BytesIO(drive))
    files = {}
    for directory, _, names in iso.walk(**{name_kind: "/"}):
        for name in names:
            path = f"{directory.rstrip('/')}/{name}"
            body = io.BytesIO()
            iso.get_file_from_iso_fp(body, **{name_kind: path})
            files[path] = body.getvalue()
    label = iso.pvd.volume_identifier.decode().strip()
    iso.close()
    return label, files


@pytest.mark.parametrize("name_kind", NAMES)
def test_the_openstack_drive_is_labelled_config_2_and_holds_the_latest_documents(name_kind: str) -> None:
    label, files = read(configdrive.build(SPEC), name_kind)

    assert label == "config-2"
    assert json.loads(files["/openstack/latest/meta_data.json"])["uuid"] == SPEC.instance
    assert json.loads(files["/openstack/latest/network_data.json"])["links"]
    assert files["/openstack/latest/user_data"].decode() == SPEC.user_data


@pytest.mark.parametrize("name_kind", NAMES)
def test_the_nocloud_drive_is_labelled_cidata_and_holds_its_files_at_the_top(name_kind: str) -> None:
    label, files = read(configdrive.build(changed(SPEC, config_drive="nocloud")), name_kind)

    assert label == "cidata"
    assert set(files) == {"/meta-data", "/network-config", "/user-data"}
    assert files["/user-data"].decode() == SPEC.user_data


def test_binary_user_data_is_on_the_drive_byte_for_byte() -> None:
    data = gzip.compress(b"#!/bin/sh\n")
    text, encoding = encode_user_data(data)
    spec = changed(SPEC, user_data=text, user_data_encoding=encoding)

    assert read(configdrive.build(spec), "rr_path")[1]["/openstack/latest/user_data"] == data
    nocloud = configdrive.build(changed(spec, config_drive="nocloud"))
    assert read(nocloud, "rr_path")[1]["/user-data"] == data


@pytest.mark.parametrize(
    ("layout", "listed_in", "below"),
    [("openstack", "/openstack/latest/meta_data.json", "/openstack"), ("nocloud", "/meta-data", "")],
)
def test_files_lie_where_the_metadata_says(layout: str, listed_in: str, below: str) -> None:
    spec = changed(SPEC, config_drive=layout, files=(guest_file("/etc/a", b"\0a", 0o600), guest_file("/b", b"", 0o644)))
    _, files = read(configdrive.build(spec), "rr_path")

    listed = json.loads(files[listed_in])["files"]
    assert [(each["path"], each["mode"]) for each in listed] == [("/etc/a", "0600"), ("/b", "0644")]
    assert [files[below + each["content_path"]] for each in listed] == [b"\0a", b""]


def test_the_openstack_drive_has_ec2s_facts_as_nova_has_them() -> None:
    _, files = read(configdrive.build(SPEC), "rr_path")

    facts = json.loads(files["/ec2/latest/meta-data.json"])
    assert facts["instance-id"] == "i-3f2c4d5e8b1a4c3d9"
    assert facts["public-keys"]["0"]["openssh-key"] == SPEC.keys[0]
    assert "local-ipv4" not in facts, "it is not known when the drive is made"


def test_a_guest_is_told_of_ipv6_and_of_more_nics_when_its_domain_has_them() -> None:
    nics = (*SPEC.nics, Nic("52:54:00:00:00:02", "bridge"))
    _, files = read(configdrive.build(SPEC, ipv6=True, nics=nics), "rr_path")

    networks = json.loads(files["/openstack/latest/network_data.json"])["networks"]
    assert [(each["link"], each["type"]) for each in networks] == [
        ("nic0", "ipv4_dhcp"),
        ("nic0", "ipv6_dhcp"),
        ("nic1", "ipv4_dhcp"),
    ]
    assert len({each["id"] for each in networks}) == 3


def test_the_same_spec_gives_the_same_files() -> None:
    assert read(configdrive.build(SPEC), "rr_path") == read(configdrive.build(SPEC), "rr_path")
