"""The EC2 tree, a version of it, and the same as one document.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from placet.metadata.documents import Tree, listing, to_json
from placet.metadata.record import REGION, GuestRecord
from placet.model import raw_user_data

# Nova lists 1.0 to 2009-04-04; cloud-init's Ec2 data source asks for the three newer ones first.
EC2_VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01"),
    *("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23"),
)


def ec2_version(record: GuestRecord) -> Tree:
    """What is below each version. Raises ValueError."""
    parts: dict[str, bytes | Tree] = {
        "dynamic": {"instance-identity": {"document": _identity_document(record)}},
        "meta-data": _meta_data(record),
    }
    if record.user_data:
        parts["user-data"] = raw_user_data(record)
    return {"": listing(parts), **parts}


def ec2_json(record: GuestRecord) -> dict[str, Any]:
    """The metadata as one JSON object, as Nova's config drives have it; what is not known is left out."""
    return _plain(_meta_data(record))


def _plain(directory: Tree) -> dict[str, Any]:
    plain = {
        name: item.decode() if isinstance(item, bytes) else _plain(item) for name, item in directory.items() if name
    }
    return {name: item for name, item in plain.items() if item}


def _meta_data(record: GuestRecord) -> Tree:
    items: dict[str, str | Tree] = {
        "ami-id": _ami_id(record),
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": _encoded({"ami": "vda", "root": "/dev/vda"}),
        "hostname": record.hostname,
        "instance-action": "none",
        "instance-id": _instance_id(record),
        "instance-type": _instance_type(record),
        "local-hostname": record.hostname,
        "local-ipv4": "".join(record.ips_of()[:1]),
        "mac": record.nics[0].mac if record.nics else "",
        "network": {"interfaces": {"macs": _macs(record)}},
        "placement": _encoded({"availability-zone": REGION, "region": REGION}),
        "public-hostname": record.hostname,
        "public-ipv4": "",
        "reservation-id": "r-" + _hex17(record.instance),
        "security-groups": "default",
    }
    for ip in record.ips_of(ipv6=True)[:1]:
        items["ipv6"] = ip
    if record.keys:
        items["public-keys"] = _public_keys(record.keys)
    if record.properties:
        items["tags"] = {"instance": _encoded(record.properties)}
    return _encoded(items)


def _public_keys(keys: Sequence[str]) -> Tree:
    """The listing alone gives the names (`0=key-0`); the directories are numbers."""
    names = listing(f"{number}=key-{number}" for number in range(len(keys)))
    return {"": names, **{str(number): {"openssh-key": key.encode()} for number, key in enumerate(keys)}}


def _macs(record: GuestRecord) -> Tree:
    return {nic.mac: _encoded(_interface(record, number, nic.mac)) for number, nic in enumerate(record.nics)}


def _interface(record: GuestRecord, number: int, mac: str) -> dict[str, str]:
    """cloud-init asks for an IPv6 address by DHCP where `ipv6s` is there."""
    ipv6s = "\n".join(record.ips_of(mac, ipv6=True))
    return {
        "device-number": str(number),
        "interface-id": "eni-" + _hex17(mac),
        "local-hostname": record.hostname,
        "local-ipv4s": "\n".join(record.ips_of(mac)),
        "mac": mac,
        **({"ipv6s": ipv6s} if ipv6s else {}),
    }


def _identity_document(record: GuestRecord) -> bytes:
    pending = datetime.fromtimestamp(record.created_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return to_json(
        {
            "accountId": record.project,
            "architecture": "x86_64",
            "availabilityZone": REGION,
            "billingProducts": None,
            "devpayProductCodes": None,
            "imageId": _ami_id(record),
            "instanceId": _instance_id(record),
            "instanceType": _instance_type(record),
            "kernelId": None,
            "marketplaceProductCodes": None,
            "pendingTime": pending,
            "privateIp": next(iter(record.ips_of()), None),
            "ramdiskId": None,
            "region": REGION,
            "version": "2017-09-30",
        }
    )


def _instance_id(record: GuestRecord) -> str:
    """EC2's form, `i-` and 17 hex digits: the first ones of the UUID, so that people can tell which it is."""
    return "i-" + record.instance.replace("-", "")[:17]


def _ami_id(record: GuestRecord) -> str:
    return "ami-" + _hex17(record.image)


def _instance_type(record: GuestRecord) -> str:
    return f"placet.{record.vcpus}cpu-{record.memory_mb}mb-{record.disk_gb}gb"


def _hex17(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:17]


def _encoded(items: Mapping[str, str | Tree]) -> Tree:
    return {name: item.encode() if isinstance(item, str) else item for name, item in items.items()}
