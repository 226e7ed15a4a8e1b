"""What an operator says of an image, checked before a node is asked to fetch it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from placet.errors import Usage
from placet.image_requirements import parse_requirements
from placet.model import ImageRecord
from placet.readiness import STAGES, deadlines_of
from placet.request import CONFIG_DRIVES, METADATA_TOKENS
from placet.schema import nearest, similar

FORMATS = ("qcow2", "raw", "vmdk", "vdi", "vhd", "vhdx")
SCHEMES = ("http", "https", "file")
CHECKSUM = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
DEADLINE = "deadline_"
MAX_SOURCE = 2048


def check_source(source: str) -> str:
    """A URL, or a path on the nodes. Raises Usage."""
    if not source or len(source) > MAX_SOURCE or not source.isprintable():
        raise Usage(f"{source[:60]!r} is neither a URL nor a path on the nodes")
    if "://" not in source:
        return source
    try:
        scheme, host = urlsplit(source).scheme, urlsplit(source).hostname
    except ValueError as problem:
        raise Usage(f"{source!r} is no URL: {problem}") from problem
    if scheme not in SCHEMES:
        raise Usage(f"{source!r}: images come by {', '.join(SCHEMES)}, or from a path on the nodes")
    if host is None and scheme != "file":
        raise Usage(f"{source!r} names no host; as in https://example.org/image.qcow2")
    return source


def check_checksum(text: str) -> str:
    """`sha256:` and 64 hex digits, in lower case. Raises Usage."""
    found = CHECKSUM.fullmatch(text)
    if found is None:
        raise Usage(f"--checksum {text!r} is not sha256: and 64 hex digits, as sha256sum prints them")
    return f"sha256:{found[1].lower()}"


def check_properties(properties: Mapping[str, str]) -> None:
    """Raises Usage for a property that means something, with a value that does not. docs/images.md has those."""
    deadlines_of(properties)
    parse_requirements(properties)
    for name, words in (("config_drive", CONFIG_DRIVES), ("metadata_tokens", METADATA_TOKENS)):
        value = properties.get(name, words[0])
        if value not in words:
            raise Usage(f"image property {name}={value}: expected one of {', '.join(words)}{similar(value, words)}")
    for name, value in properties.items():
        if name.startswith(DEADLINE) and name.removeprefix(DEADLINE) not in STAGES:
            raise Usage(f"image property {name}: no such deadline{nearest(name, map(DEADLINE.__add__, STAGES))}")
        if not value.isprintable():
            raise Usage(f"image property {name}: {value!r} is not one line of text")


def is_same(wanted: ImageRecord, found: ImageRecord) -> bool:
    """Whether an image is what was asked for; what was not said may be anything, since its node filled that in."""
    return (
        (wanted.source, wanted.properties, wanted.min_memory_mb)
        == (found.source, found.properties, found.min_memory_mb)
        and wanted.format in (None, found.format)
        and wanted.checksum in (None, found.checksum)
    )
