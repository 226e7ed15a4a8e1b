"""The config drive, read back as a guest would."""

from __future__ import annotations

import io
import json

import pytest
from pycdlib import PyCdlib

from placet import configdrive
from placet.model import ImageRef, Nic, Spec

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
    label, files = read(configdrive.build(SPEC, configdrive.NOCLOUD), name_kind)

    assert label == "cidata"
    assert set(files) == {"/meta-data", "/network-config", "/user-data"}
    assert files["/user-data"].decode() == SPEC.user_data


def test_the_same_spec_gives_the_same_files() -> None:
    assert read(configdrive.build(SPEC), "rr_path") == read(configdrive.build(SPEC), "rr_path")
