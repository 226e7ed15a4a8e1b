"""What a user asks for, and the records that come of it once a candidate is claimed. Pure; steps 1 and 3."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from placet import schema
from placet.candidates import Candidate
from placet.errors import Usage
from placet.model import MAX_RECORD_BYTES, GuestFile, ImageRecord, ImageRef, Index, Nic, Spec
from placet.networks import mac_of
from placet.query import Query

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
HEX = re.compile(r"[0-9a-f-]{8,}")
CONFIG_DRIVES = ("openstack", "nocloud", "none")
METADATA_TOKENS = ("optional", "required")
AUTO = "auto"
RECORD_REST_BYTES = 32 * 1024  # more than all else in a spec


@dataclass(frozen=True)
class Request:
    """One instance to be. `request_id` names this asking, `digest` what was asked: the same again is no conflict.

    `group_policy` is that of a group which may be new, None takes the group's own; `host` is the one node that will do,
    `avoid` are those that won't, by UUID.
    """

    instance: str
    request_id: str
    name: str
    query: Query
    image: ImageRef
    project: str = "default"
    keys: tuple[str, ...] = ()
    user_data: str = ""
    user_data_encoding: str = "utf-8"
    hostname: str = ""
    files: tuple[GuestFile, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    config_drive: str = "openstack"
    metadata_tokens: str = "optional"
    deadlines: dict[str, float] = field(default_factory=dict)
    restart: str = "never"
    group: str | None = None
    group_policy: str | None = None
    host: str | None = None
    avoid: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of all that was asked, without the id of the asking."""
        asked = [
            self.name,
            self.query.text,
            schema.plain(self.image),
            self.project,
            self.keys,
            self.user_data,
            self.user_data_encoding,
            self.hostname,
            [schema.plain(each) for each in self.files],
            self.properties,
            self.config_drive,
            self.metadata_tokens,
            self.deadlines,
            self.restart,
            *self._placing,
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def _placing(self) -> list[object]:
        """Nothing where nothing of it was asked: so a digest is what it was before these words were known."""
        asked: list[object] = [self.group, self.group_policy, self.host, list(self.avoid)]
        return asked if any(asked) else []


def check_size(request: Request) -> None:
    """Raises Usage when the spec would be a larger record than anybody reads."""
    files = [schema.plain(each) for each in request.files]
    size = len(json.dumps([request.keys, request.user_data, request.query.text, files, request.properties]))
    if size > MAX_RECORD_BYTES - RECORD_REST_BYTES:
        raise Usage(f"keys, user-data and files make {size} bytes of JSON; let the guest fetch the rest itself")


def check_name(name: str) -> str:
    """A name that is one. Raises Usage."""
    if not NAME.fullmatch(name):
        raise Usage(f"{name!r} is no name: small letters, digits and '-', a letter first, at most 63")
    if HEX.fullmatch(name):
        raise Usage(f"{name!r} reads as a UUID; choose a name that is not 8 or more hex digits")
    return name


def resolve_image(word: str, record: ImageRecord | None, query: Query) -> ImageRef:
    """What an IMAGE argument means: a URL, a path on the node, or the name of `record`. Raises Usage."""
    if "://" in word or word.startswith("/"):
        return ImageRef(word)
    if record is None:
        raise Usage(f"image {word!r} is unknown; give a URL, a path on the node, or a name from etcd's images")
    asked = query.amounts.get("DISK_GB", 0)
    if asked < record.min_disk_gb:
        raise Usage(f"image {word!r} needs DISK_GB:{record.min_disk_gb}, asked for {asked}")
    if query.amounts.get("MEMORY_MB", 0) < record.min_memory_mb:
        raise Usage(f"image {word!r} needs MEMORY_MB:{record.min_memory_mb}; ask for that much")
    return ImageRef(record.source, record.format, record.checksum)


def choose(word: str, words: Sequence[str], record: ImageRecord | None, name: str) -> str:
    """What `auto` means: the image's property `name`, else the first of `words`. Other words mean themselves.

    Raises Usage.
    """
    if word != AUTO:
        return word
    found = record.properties.get(name, words[0]) if record else words[0]
    if record and found not in words:
        raise Usage(f"image {record.name!r} has property {name}={found}: expected one of {', '.join(words)}")
    return found


def spec_of(request: Request, node: str, candidate: Candidate, now: float) -> Spec:
    """The spec that the chosen node gets: it carries the allocation as claimed."""
    return Spec(
        instance=request.instance,
        node=node,
        name=request.name,
        image=request.image,
        allocations=candidate.allocations,
        nics=(Nic(mac_of(request.instance)),),
        created_at=now,
        request_id=request.request_id,
        project=request.project,
        hostname=request.hostname or request.name,
        keys=request.keys,
        user_data=request.user_data,
        user_data_encoding=request.user_data_encoding,
        files=request.files,
        properties=request.properties,
        config_drive=request.config_drive,
        metadata_tokens=request.metadata_tokens,
        deadlines=request.deadlines,
        restart=request.restart,
        group=request.group,
    )


def index_of(request: Request, node: str, why: dict[str, object], now: float) -> Index:
    """The index entry: where it went, for whom and why."""
    return Index(
        instance=request.instance,
        node=node,
        name=request.name,
        project=request.project,
        request_id=request.request_id,
        request_digest=request.digest,
        created_at=now,
        why=why,
        group=request.group,
    )
