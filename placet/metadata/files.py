"""How the small files of `create --file` reach a guest: by two ways, as none serves all.

- Nova's: `files` in the metadata names each path and where its content lies. cloud-init's ConfigDrive source writes
  these by itself, with mode 0660 all of them; the small guest image reads them in every layout, and the modes that
  we add.
- A boothook in the vendor data: cloud-init's other sources read Nova's entries and write nothing. It runs before all
  else of cloud-init's that acts; a file that has its content by then gets only its owner and mode. `write_files`
  would not do: a user-data's own replaces the vendor's.

https://docs.cloud-init.io/en/latest/explanation/format.html (cloud-boothook) and
https://docs.openstack.org/nova/latest/user/metadata.html (files).
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence

from placet.model import GuestFile

BOOTHOOK = """\
#cloud-boothook
#!/bin/sh
# Puts the instance's files into place, once: cloud-init calls this at every boot.
written=/var/lib/cloud/instance/sem/placet_files
[ ! -e "$written" ] || exit 0
set -e
copy=$(mktemp)
trap 'rm -f "$copy"' EXIT

# put MODE PATH: the content comes in base64
put() {
    mkdir -p "${2%/*}/"
    base64 -d >"$copy"
    cmp -s "$copy" "$2" || (umask 077 && cat "$copy" >"$2")
    chown 0:0 "$2"
    chmod "$1" "$2"
    ! command -v restorecon >/dev/null || restorecon "$2"
}

"""
END = "placet-end-of-file"


def entries(files: Sequence[GuestFile]) -> list[dict[str, str]]:
    """What the metadata's `files` holds."""
    return [
        {"path": file.path, "content_path": f"/content/{_name(number)}", "mode": file.mode}
        for number, file in enumerate(files)
    ]


def contents(files: Sequence[GuestFile]) -> dict[str, bytes]:
    """What the directory `content` holds. Raises ValueError."""
    return {_name(number): base64.b64decode(file.content, validate=True) for number, file in enumerate(files)}


def boothook(files: Sequence[GuestFile]) -> str:
    """The vendor data that puts the files into place."""
    puts = [f"put {shlex.quote(file.mode)} {shlex.quote(file.path)} <<{END}\n{file.content}\n{END}\n" for file in files]
    return f'{BOOTHOOK}{"".join(puts)}mkdir -p "${{written%/*}}"\n: >"$written"\n'


def _name(number: int) -> str:
    return f"{number:04d}"
