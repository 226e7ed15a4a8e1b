"""What a guest is told about itself, in the shapes that cloud-init knows. Step 5's other half; pure.

Three forms of the same facts: the OpenStack documents, the EC2 tree and the NoCloud files. The config drive
(placet/configdrive.py) and the metadata service (md_server/) only carry them.

- OpenStack: https://docs.openstack.org/nova/latest/user/metadata.html and
  https://docs.openstack.org/nova/latest/admin/metadata-service.html
- EC2: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html and
  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
- NoCloud: https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html and
  https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Union

from placet.model import Address, Nic, Spec

REGION = "placet"
DEFAULT_NETWORK = "default"
LATEST = "latest"

# Nova lists 1.0 to 2009-04-04; cloud-init's Ec2 data source asks for the three newer ones first.
EC2_VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01"),
    *("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23"),
)
OPENSTACK_VERSIONS = (
    *("2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22"),
    *("2018-08-27", "2020-10-14"),
)
# The version that first had a document; those not named here were always there.
OPENSTACK_SINCE = {
    "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15",
    "vendor_data2.json": "2016-10-06",
}

# A directory holds documents and directories by name; the name "" is the directory's own listing where that is not
# simply its names.
Tree = Mapping[str, Union[bytes, "Tree"]]


@dataclass(frozen=True)
class GuestRecord:
    """What the metadata service knows of one guest: which addresses are its, and what the documents are made from.

    One file an instance (placet/guest_records.py), in placet.model's JSON. Amounts have Placement's units.
    `metadata_tokens` is `optional` or `required`: whether the EC2 tree wants an IMDSv2 token.
    """

    instance: str
    name: str
    hostname: str
    project: str
    image: str
    nics: tuple[Nic, ...]
    created_at: float
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    addresses: tuple[Address, ...] = ()
    keys: tuple[str, ...] = ()
    user_data: str = ""
    metadata_tokens: str = "optional"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def macs(self) -> tuple[str, ...]:
        return tuple(nic.mac for nic in self.nics)

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses by which the metadata service knows this guest."""
        return tuple(address.ip for address in self.addresses)


def guest_record(spec: Spec, addresses: Iterable[Address] = ()) -> GuestRecord:
    """The record of a spec's guest.

    Of `addresses` only those of the node's own network are kept: what a guest says of its bridge is no proof of who
    it is, and another guest's address there would make it that guest.
    """
    return GuestRecord(
        instance=spec.instance,
        name=spec.name,
        hostname=spec.hostname or spec.name,
        project=spec.project,
        image=spec.image.source,
        nics=spec.nics,
        created_at=spec.created_at,
        vcpus=spec.amount("VCPU"),
        memory_mb=spec.amount("MEMORY_MB"),
        disk_gb=spec.amount("DISK_GB"),
        addresses=tuple(address for address in addresses if address.network == DEFAULT_NETWORK),
        keys=tuple(key.strip() for key in spec.keys),
        user_data=spec.user_data,
    )


def openstack_documents(record: GuestRecord) -> dict[str, bytes]:
    """The files of `openstack/latest/`; `user_data` is there only when the instance has some."""
    documents = {
        "meta_data.json": _json(_openstack_meta_data(record)),
        "network_data.json": _json(_network_data(record.nics)),
        "vendor_data.json": _json({}),
        "vendor_data2.json": _json({}),
    }
    if record.user_data:
        documents["user_data"] = record.user_data.encode()
    return documents


def nocloud_documents(record: GuestRecord) -> dict[str, bytes]:
    """The files of a `cidata` drive; cloud-init wants `user-data` even when empty. JSON is YAML, as far as it reads."""
    return {
        "meta-data": _json(
            {"instance-id": record.instance, "local-hostname": record.hostname, "public-keys": list(record.keys)}
        ),
        "network-config": _json(_network_config(record.nics)),
        "user-data": record.user_data.encode(),
    }


def tree(record: GuestRecord) -> Tree:
    """All that the metadata service answers to one guest, from the root: EC2 versions beside `openstack/`."""
    ec2 = _ec2_version(record)
    versions = [*EC2_VERSIONS, LATEST]
    return {"": _listing(versions), "openstack": _openstack(record), **{version: ec2 for version in versions}}


def find(root: Tree, path: str) -> bytes | None:
    """The document or the listing at `path` (slashes doubled or at the end do not matter); None when there is none."""
    place: bytes | Tree = root
    for part in path.split("/"):
        if not part:
            continue
        found = None if isinstance(place, bytes) else place.get(part)
        if found is None:
            return None
        place = found
    return place if isinstance(place, bytes) else _listed(place)


def _openstack_meta_data(record: GuestRecord) -> dict[str, Any]:
    """`random_seed` is left out: guests have a virtio random device, and equal input gives equal documents."""
    return {
        "uuid": record.instance,
        "name": record.name,
        "hostname": record.hostname,
        "launch_index": 0,
        "availability_zone": REGION,
        "project_id": record.project,
        "devices": [],
        "dedicated_cpus": [],
        "meta": {},
        "public_keys": {f"key-{number}": key for number, key in enumerate(record.keys)},
        "keys": [{"name": f"key-{number}", "type": "ssh", "data": key} for number, key in enumerate(record.keys)],
    }


def _network_data(nics: Sequence[Nic]) -> dict[str, Any]:
    """https://docs.openstack.org/nova/latest/_downloads/9119ca7ac90aa2990e762c08baea3a36/network_data.json (schema)."""
    links = [
        {"id": f"nic{number}", "vif_id": f"nic{number}", "type": "phy", "mtu": None, "ethernet_mac_address": nic.mac}
        for number, nic in enumerate(nics)
    ]
    networks = [
        {"id": f"network{number}", "type": "ipv4_dhcp", "link": f"nic{number}", "network_id": nic.network}
        for number, nic in enumerate(nics)
    ]
    return {"links": links, "networks": networks, "services": []}


def _network_config(nics: Sequence[Nic]) -> dict[str, Any]:
    """Only the first NIC's network is ours to promise: a boot does not wait for the others."""
    ethernets = {
        f"nic{number}": {"match": {"macaddress": nic.mac}, "dhcp4": True, **({"optional": True} if number else {})}
        for number, nic in enumerate(nics)
    }
    return {"version": 2, "ethernets": ethernets}


def _openstack(record: GuestRecord) -> Tree:
    documents = openstack_documents(record)
    versions: dict[str, bytes | Tree] = {
        version: {name: body for name, body in documents.items() if version >= OPENSTACK_SINCE.get(name, "")}
        for version in (*OPENSTACK_VERSIONS, LATEST)  # "latest" sorts after every date
    }
    return {"": _listing(versions), **versions}


def _ec2_version(record: GuestRecord) -> Tree:
    parts: dict[str, bytes | Tree] = {
        "dynamic": {"instance-identity": {"document": _identity_document(record)}},
        "meta-data": _ec2_meta_data(record),
    }
    if record.user_data:
        parts["user-data"] = record.user_data.encode()
    return {"": _listing(parts), **parts}


def _ec2_meta_data(record: GuestRecord) -> Tree:
    local_ip = record.ips[0] if record.ips else ""
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
        "local-ipv4": local_ip,
        "mac": record.nics[0].mac if record.nics else "",
        "network": {"interfaces": {"macs": _macs(record)}},
        "placement": _encoded({"availability-zone": REGION, "region": REGION}),
        "public-hostname": record.hostname,
        "public-ipv4": "",
        "reservation-id": "r-" + _hex17(record.instance),
        "security-groups": "default",
    }
    if record.keys:
        items["public-keys"] = _public_keys(record.keys)
    return _encoded(items)


def _public_keys(keys: Sequence[str]) -> Tree:
    """The listing alone gives the names (`0=key-0`); the directories are numbers."""
    listing = _listing(f"{number}=key-{number}" for number in range(len(keys)))
    return {"": listing, **{str(number): {"openssh-key": key.encode()} for number, key in enumerate(keys)}}


def _macs(record: GuestRecord) -> Tree:
    return {
        nic.mac: _encoded(
            {
                "device-number": str(number),
                "interface-id": "eni-" + _hex17(nic.mac),
                "local-hostname": record.hostname,
                "local-ipv4s": "\n".join(a.ip for a in record.addresses if a.mac == nic.mac),
                "mac": nic.mac,
            }
        )
        for number, nic in enumerate(record.nics)
    }


def _identity_document(record: GuestRecord) -> bytes:
    pending = datetime.fromtimestamp(record.created_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _json(
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
            "privateIp": record.ips[0] if record.ips else None,
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


def _listed(directory: Tree) -> bytes:
    """EC2's listing: a name a line, directories with a slash, no newline at the end."""
    own = directory.get("")
    if isinstance(own, bytes):
        return own
    return _listing(name if isinstance(item, bytes) else f"{name}/" for name, item in directory.items())


def _listing(names: Iterable[str]) -> bytes:
    return "\n".join(names).encode()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()
