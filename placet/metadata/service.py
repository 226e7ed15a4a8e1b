"""All that the metadata service answers to one guest."""

from __future__ import annotations

from placet.metadata.documents import Tree, listing
from placet.metadata.ec2 import EC2_VERSIONS, ec2_version
from placet.metadata.openstack import LATEST, openstack_tree
from placet.metadata.record import GuestRecord


def tree(record: GuestRecord) -> Tree:
    """From the root: EC2's versions, and `openstack/` beside them, which EC2's listing does not name."""
    ec2 = ec2_version(record)
    versions = [*EC2_VERSIONS, LATEST]
    return {"": listing(versions), "openstack": openstack_tree(record), **{version: ec2 for version in versions}}
