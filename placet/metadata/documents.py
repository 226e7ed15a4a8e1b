"""Documents by path: what the trees are made of, and how one is found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Union

# A directory holds documents and directories by name; the name "" is the directory's own listing where that is not
# simply its names.
Tree = Mapping[str, Union[bytes, "Tree"]]


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


def listing(names: Iterable[str]) -> bytes:
    """A directory as EC2 lists it: a name a line, no newline at the end."""
    return "\n".join(names).encode()


def to_json(document: object) -> bytes:
    """A JSON document."""
    return json.dumps(document).encode()


def _listed(directory: Tree) -> bytes:
    """Directories have a slash behind their names."""
    own = directory.get("")
    if isinstance(own, bytes):
        return own
    return listing(name if isinstance(item, bytes) else f"{name}/" for name, item in directory.items())
