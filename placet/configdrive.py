"""The drive that carries an instance's metadata into its guest, as the bytes of an ISO 9660 image. Pure.

The driver writes it beside the disk in step 4 and attaches it read-only on virtio (Debian's cloud kernel has no AHCI).
Guests find it by its label: `config-2` is OpenStack's
(https://docs.openstack.org/nova/latest/user/metadata.html#config-drives), `cidata` is NoCloud's.

Written by pycdlib: pure Python, maintained, and it needs no mount and no external program. It stamps its own clock's
time on the files, so two builds from one spec differ in those bytes alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from placet import metadata
from placet.model import Nic, Spec

NOCLOUD = "nocloud"
NONE = "none"


def build(spec: Spec, *, ipv6: bool = False, nics: Sequence[Nic] = ()) -> bytes:
    """The ISO image (Rock Ridge and Joliet) of the drive that `spec.config_drive` names: `openstack` or `nocloud`.

    `ipv6`: the default network offers an IPv6 address by DHCP. `nics`: the domain's, where it has more than the
    spec's. Raises ValueError for user-data or a file whose base64 is none.
    """
    record = metadata.guest_record(spec, ipv6=ipv6, nics=nics)
    if spec.config_drive == NOCLOUD:
        return _iso("cidata", metadata.nocloud_documents(record))
    return _iso("config-2", metadata.openstack_drive(record))


def _iso(label: str, files: Mapping[str, bytes]) -> bytes:
    # pycdlib takes 20 ms to import: only a node that builds a drive pays for it
    from pycdlib import PyCdlib  # noqa: PLC0415

    iso = PyCdlib()
    iso.new(interchange_level=3, vol_ident=label, joliet=3, rock_ridge="1.09")
    try:
        iso_directories = {PurePosixPath("."): ""}
        for number, (path, body) in enumerate(files.items()):
            place = PurePosixPath(path)
            for directory in reversed(place.parents):
                if directory not in iso_directories:
                    iso_directories[directory] = f"{iso_directories[directory.parent]}/DIR{len(iso_directories)}"
                    iso.add_directory(iso_directories[directory], rr_name=directory.name, joliet_path=f"/{directory}")
            # plain ISO 9660 names take neither lower case nor dashes; guests read the Rock Ridge or Joliet ones
            iso_path = f"{iso_directories[place.parent]}/FILE{number}.;1"
            iso.add_fp(io.BytesIO(body), len(body), iso_path, rr_name=place.name, joliet_path=f"/{place}")
        image = io.BytesIO()
        iso.write_fp(image)
        return image.getvalue()
    finally:
        iso.close()
