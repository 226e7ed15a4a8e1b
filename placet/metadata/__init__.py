"""What a guest is told about itself, in the shapes that cloud-init knows. Step 5's other half; pure.

    record      the facts: one GuestRecord an instance
    openstack   the OpenStack documents, for its config drive and its metadata service
    ec2         the EC2 tree
    nocloud     the files of a NoCloud drive
    files       how small files reach a guest
    service     all that the metadata service answers, by path
    documents   documents by path

The config drive (placet/configdrive.py) and the metadata service (md_server/) only carry them. docs/guests.md says
which input reaches which kind of guest.
"""

from __future__ import annotations

from placet.metadata.documents import Tree, find
from placet.metadata.ec2 import EC2_VERSIONS
from placet.metadata.nocloud import nocloud_documents
from placet.metadata.openstack import OPENSTACK_VERSIONS, openstack_documents, openstack_drive
from placet.metadata.record import DEFAULT_NETWORK, GuestRecord, guest_record
from placet.metadata.service import tree

__all__ = [
    "DEFAULT_NETWORK",
    "EC2_VERSIONS",
    "OPENSTACK_VERSIONS",
    "GuestRecord",
    "Tree",
    "find",
    "guest_record",
    "nocloud_documents",
    "openstack_documents",
    "openstack_drive",
    "tree",
]
