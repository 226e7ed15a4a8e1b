"""The OpenStack documents: those of the metadata service, and those of a config drive.

https://docs.openstack.org/nova/latest/user/metadata.html and
https://docs.openstack.org/nova/latest/admin/metadata-service.html
"""

from __future__ import annotations

from typing import Any

from placet.metadata.documents import Tree, listing, to_json
from placet.metadata.ec2 import ec2_json
from placet.metadata.files import boothook, contents, entries
from placet.metadata.record import DEFAULT_NETWORK, REGION, GuestRecord
from placet.model import raw_user_data

LATEST = "latest"
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


def openstack_documents(record: GuestRecord) -> dict[str, bytes]:
    """The files of `openstack/latest/`; `user_data` is there only when the instance has some. Raises ValueError."""
    documents = {
        "meta_data.json": to_json(_meta_data(record)),
        "network_data.json": to_json(_network_data(record)),
        "vendor_data.json": to_json({"cloud-init": boothook(record.files)} if record.files else {}),
        "vendor_data2.json": to_json({}),
    }
    if record.user_data:
        documents["user_data"] = raw_user_data(record)
    return documents


def openstack_tree(record: GuestRecord) -> Tree:
    """What the metadata service has below `openstack/`. Like Nova's, its listing names the versions alone."""
    documents = openstack_documents(record)
    versions: dict[str, bytes | Tree] = {
        version: {name: body for name, body in documents.items() if version >= OPENSTACK_SINCE.get(name, "")}
        for version in (*OPENSTACK_VERSIONS, LATEST)  # "latest" sorts after every date
    }
    beside = {"content": contents(record.files)} if record.files else {}
    return {"": listing(versions), **versions, **beside}


def openstack_drive(record: GuestRecord) -> dict[str, bytes]:
    """The files of a `config-2` drive, by path. Raises ValueError.

    Its only version is `latest`: cloudbase-init, Ignition and afterburn look nowhere else, and cloud-init takes it
    where it finds none of the versions that it knows by date. afterburn has its EC2 facts from `ec2/`.
    """
    latest = {f"openstack/{LATEST}/{name}": body for name, body in openstack_documents(record).items()}
    beside = {f"openstack/content/{name}": body for name, body in contents(record.files).items()}
    return {**latest, **beside, f"ec2/{LATEST}/meta-data.json": to_json(ec2_json(record))}


def _meta_data(record: GuestRecord) -> dict[str, Any]:
    """`random_seed` is left out: guests have a virtio random device, and equal input gives equal documents."""
    files = {"files": entries(record.files)} if record.files else {}
    return {
        "uuid": record.instance,
        "name": record.name,
        "hostname": record.hostname,
        "launch_index": 0,
        "availability_zone": REGION,
        "project_id": record.project,
        "devices": [],
        "dedicated_cpus": [],
        "meta": record.properties,
        "public_keys": {f"key-{number}": key for number, key in enumerate(record.keys)},
        "keys": [{"name": f"key-{number}", "type": "ssh", "data": key} for number, key in enumerate(record.keys)],
        **files,
    }


def _network_data(record: GuestRecord) -> dict[str, Any]:
    """https://docs.openstack.org/nova/latest/_downloads/9119ca7ac90aa2990e762c08baea3a36/network_data.json (schema).

    Nova's other word for DHCPv6, `ipv6_dhcpv6-stateful`, is lost on cloud-init 22's renderer for systemd-networkd.
    """
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for number, nic in enumerate(record.nics):
        link = f"nic{number}"
        links.append({"id": link, "vif_id": link, "type": "phy", "mtu": None, "ethernet_mac_address": nic.mac})
        with_ipv6 = record.ipv6 and nic.network == DEFAULT_NETWORK
        for kind in ("ipv4_dhcp", "ipv6_dhcp") if with_ipv6 else ("ipv4_dhcp",):
            networks.append({"id": f"network{len(networks)}", "type": kind, "link": link, "network_id": nic.network})
    return {"links": links, "networks": networks, "services": []}
