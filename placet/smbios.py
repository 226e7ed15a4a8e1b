"""What a guest's firmware tells it of its cloud: the SMBIOS system information. Pure.

Without a drive cloud-init asks a metadata service only where the firmware names a cloud that it knows:

- The product `OpenStack Compute` is OpenStack's (cloud-init's tools/ds-identify, dscheck_OpenStack).
- A UUID that begins with `ec2` is EC2's, if the serial number is the same
  (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html and ds-identify,
  ec2_identify_platform). Only there does cloud-init's Ec2 source ask for an IMDSv2 token, and its OpenStack one never.

So an instance that has nothing but the service, and must show tokens, is EC2's: it gets such a UUID when it is created.
"""

from __future__ import annotations

from placet.model import Spec

VENDOR = "Placet"
OPENSTACK_PRODUCT = "OpenStack Compute"
EC2_PRODUCT = "Placet instance"
EC2_UUID_PREFIX = "ec2"


def is_ec2(config_drive: str, metadata_tokens: str) -> bool:
    """Whether an instance with these settings can only be served as EC2 serves its own."""
    return config_drive == "none" and metadata_tokens == "required"


def ec2_uuid(uuid: str) -> str:
    """A UUID that tells EC2, made from any: what it says of its version stays true."""
    return EC2_UUID_PREFIX + uuid[len(EC2_UUID_PREFIX) :]


def system_information(spec: Spec) -> dict[str, str]:
    """The entries, by libvirt's names for them (https://libvirt.org/formatdomain.html#smbios-system-information).

    The UUID is the domain's. One that only happens to begin with `ec2` makes nobody EC2's: it has no serial number.
    """
    if is_ec2(spec.config_drive, spec.metadata_tokens) and spec.instance.startswith(EC2_UUID_PREFIX):
        return {"manufacturer": VENDOR, "product": EC2_PRODUCT, "serial": spec.instance}
    return {"manufacturer": VENDOR, "product": OPENSTACK_PRODUCT}
