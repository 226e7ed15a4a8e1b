"""The files of a NoCloud drive.

https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html and
https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html
"""

from __future__ import annotations

from typing import Any

from placet.metadata.documents import to_json
from placet.metadata.files import boothook, contents, entries
from placet.metadata.record import DEFAULT_NETWORK, GuestRecord
from placet.model import Nic, raw_user_data


def nocloud_documents(record: GuestRecord) -> dict[str, bytes]:
    """The files of a `cidata` drive, by path; cloud-init wants `user-data` even when empty. Raises ValueError.

    JSON is YAML, as far as cloud-init reads it.
    """
    documents = {
        "meta-data": to_json(_meta_data(record)),
        "network-config": to_json(_network_config(record)),
        "user-data": raw_user_data(record),
    }
    if record.files:
        documents["vendor-data"] = boothook(record.files).encode()
    return {**documents, **{f"content/{name}": body for name, body in contents(record.files).items()}}


def _meta_data(record: GuestRecord) -> dict[str, Any]:
    """`meta` and `files` are as OpenStack has them."""
    found: dict[str, Any] = {
        "instance-id": record.instance,
        "local-hostname": record.hostname,
        "public-keys": list(record.keys),
    }
    if record.properties:
        found["meta"] = record.properties
    if record.files:
        found["files"] = entries(record.files)
    return found


def _network_config(record: GuestRecord) -> dict[str, Any]:
    """The NICs are named, as cloud-init's renderers for networkd and ifupdown do not match by MAC alone."""
    ethernets = {f"nic{number}": _ethernet(record, number, nic) for number, nic in enumerate(record.nics)}
    return {"version": 2, "ethernets": ethernets}


def _ethernet(record: GuestRecord, number: int, nic: Nic) -> dict[str, Any]:
    """Only the first NIC's network is ours to promise: a boot does not wait for the others."""
    ipv6 = {"dhcp6": True} if record.ipv6 and nic.network == DEFAULT_NETWORK else {}
    optional = {"optional": True} if number else {}
    return {"match": {"macaddress": nic.mac}, "set-name": f"eth{number}", "dhcp4": True, **ipv6, **optional}
