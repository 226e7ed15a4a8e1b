"""What a guest's firmware tells it of its cloud, by what it is to be served."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.model import ImageRef, Spec, is_uuid
from placet.schema import changed
from placet.smbios import ec2_uuid, is_ec2, system_information

SPEC = Spec(
    instance="11111111-2222-4333-8444-555555555555",
    node="the-node",
    name="web",
    image=ImageRef("/images/debian.qcow2"),
    allocations={},
    nics=(),
    created_at=0.0,
    request_id="request",
)
EC2 = changed(SPEC, instance="ec211111-2222-4333-8444-555555555555", config_drive="none", metadata_tokens="required")


@pytest.mark.parametrize("config_drive", ["openstack", "nocloud", "none"])
def test_an_instance_is_openstacks(config_drive: str) -> None:
    assert system_information(changed(SPEC, config_drive=config_drive))["product"] == "OpenStack Compute"


def test_one_with_nothing_but_a_service_with_tokens_is_ec2s_which_cloud_init_knows_by_uuid_and_serial_number() -> None:
    assert system_information(EC2) == {"manufacturer": "Placet", "product": "Placet instance", "serial": EC2.instance}


@pytest.mark.parametrize("setting", [{"config_drive": "openstack"}, {"metadata_tokens": "optional"}])
def test_a_uuid_that_only_happens_to_tell_ec2_has_no_serial_number(setting: dict[str, str]) -> None:
    assert "serial" not in system_information(changed(EC2, **setting))


def test_one_that_was_given_another_uuid_stays_openstacks() -> None:
    found = system_information(changed(EC2, instance=SPEC.instance))

    assert found == {"manufacturer": "Placet", "product": "OpenStack Compute"}


@pytest.mark.parametrize(
    ("config_drive", "metadata_tokens", "expected"),
    [("none", "required", True), ("none", "optional", False), ("openstack", "required", False)],
)
def test_only_an_instance_without_a_drive_that_must_show_tokens_needs_ec2(
    config_drive: str, metadata_tokens: str, expected: bool
) -> None:
    assert is_ec2(config_drive, metadata_tokens) is expected


@given(st.uuids(version=4))
def test_a_uuid_for_ec2_is_a_random_one_still(uuid: UUID) -> None:
    made = ec2_uuid(str(uuid))

    assert made.startswith("ec2")
    assert made[3:] == str(uuid)[3:]
    assert is_uuid(made) and UUID(made).version == 4
