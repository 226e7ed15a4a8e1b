"""The records that travel through etcd, as frozen dataclasses with one JSON codec. Pure.

Every value is a JSON object with a `version`; another version than ours is refused (BadRecord), unknown fields are
kept in `extra` and written back. Times are seconds since the epoch, UTC. Amounts have Placement's units: VCPU a
count, MEMORY_MB mebibytes, DISK_GB gibibytes.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from placet import schema
from placet.errors import PlacetError

VERSION = 1
MAX_RECORD_BYTES = 256 * 1024
INTENT_TTL_S = 60
R = TypeVar("R")

# Placement's form: {provider uuid: {resource class: amount}}
Allocations = dict[str, dict[str, int]]


class BadRecord(PlacetError):
    """A value in etcd that is malformed, oversized, or of a version this program does not know."""


@dataclass(frozen=True)
class Nic:
    """One network card. `network` is `default` (the node's NAT network) or `bridge` (compute.yaml's `bridge:`)."""

    mac: str
    network: str = "default"


@dataclass(frozen=True)
class ImageRef:
    """Where an image comes from: an http(s) URL, or a path on the node below its `image_dirs`, in which a relative one
    is looked for."""

    source: str
    format: str | None = None
    checksum: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GuestFile:
    """A small file that is put into the guest at its first boot; `content` is base64, `mode` octal."""

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True)
class Spec:
    """What an instance should be: `nodes/<node>/specs/<instance>`.

    `restart` is `never`, `on-failure` (when it crashed) or `always` (also when it powered itself off).
    `user_data_encoding` is `utf-8` or `base64`. `config_drive` is `openstack`, `nocloud` or `none`; `metadata_tokens`
    is `optional` or `required`. `deadlines` says after how many seconds of running a stage is overdue.
    """

    instance: str
    node: str
    name: str
    image: ImageRef
    allocations: Allocations
    nics: tuple[Nic, ...]
    created_at: float
    request_id: str
    project: str = "default"
    hostname: str = ""
    keys: tuple[str, ...] = ()
    user_data: str = ""
    user_data_encoding: str = "utf-8"
    files: tuple[GuestFile, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    config_drive: str = "openstack"
    metadata_tokens: str = "optional"
    deadlines: dict[str, float] = field(default_factory=dict)
    power: str = "running"
    restart: str = "never"
    group: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def amount(self, resource_class: str) -> int:
        """The sum of one resource class over all providers of the allocation; 0 when it has none."""
        return sum(amounts.get(resource_class, 0) for amounts in self.allocations.values())


@dataclass(frozen=True)
class Index:
    """Where an instance is and why: `instances/<instance>`. `request_digest` tells a repeated request from another."""

    instance: str
    node: str
    name: str
    project: str
    request_id: str
    request_digest: str
    created_at: float
    why: dict[str, Any] = field(default_factory=dict)
    deleted_at: float | None = None
    group: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Intent:
    """ "I am about to claim this UUID": `intents/<instance>`, under a lease of INTENT_TTL_S."""

    instance: str
    request_id: str
    owner: str = "scheduler"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Happening:
    """An event: `events/<subject>/<time>`, under a lease. The subject is an instance or a node."""

    subject: str
    at: float
    actor: str
    what: str
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Instances that are placed with regard to each other: `groups/<project>/<name>`. `policy` is one of
    `anti-affinity`, `affinity`, `soft-anti-affinity`, `soft-affinity`; `node` the one that an affinity group is bound
    to. Its members are `groups/<project>/<name>/<node>/<instance>`, each a Mark."""

    name: str
    policy: str
    created_at: float
    node: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Zone:
    """A name for an aggregate of Placement's: `zones/<name>`."""

    name: str
    aggregate: str
    created_at: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyRecord:
    """An ssh public key by name: `keys/<project>/<name>`. `key` is one line of OpenSSH's format."""

    name: str
    key: str
    created_at: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mark:
    """A key whose presence is the message: `destroys/<instance>`, `closed`, `names/<project>/<name>`."""

    by: str
    at: float
    instance: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageRecord:
    """A name for an image: `images/<name>`. Sizes are bytes; 0 means unknown. `checksum` is that of the file as it is
    fetched (`sha256:` and 64 hex digits). `properties` are words of the operator's; docs/images.md lists those that
    mean something."""

    name: str
    source: str
    format: str | None = None
    checksum: str | None = None
    virtual_size: int = 0
    size: int = 0
    min_memory_mb: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def min_disk_gb(self) -> int:
        """The smallest DISK_GB that holds it."""
        return -(-self.virtual_size // 2**30)


def raw_user_data(record: Any) -> bytes:
    """The user-data of a spec, request or guest record, byte for byte. Raises ValueError."""
    if record.user_data_encoding == "base64":
        return base64.b64decode(record.user_data, validate=True)
    return str(record.user_data).encode()


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID in its one canonical form: what may become a key, a path, a domain's name."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def encode(record: object) -> bytes:
    """A record as the JSON that is stored."""
    return json.dumps({"version": VERSION, **schema.plain(record)}, separators=(",", ":")).encode()


def decode(cls: type[R], value: bytes, key: str) -> R:
    """The record that `value`, found at `key`, holds. Raises BadRecord."""
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecord(f"{key}: {len(value)} bytes, over the {MAX_RECORD_BYTES} a record may have")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as problem:
        raise BadRecord(f"{key}: not JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise BadRecord(f"{key}: not a JSON object")
    version = found.pop("version", None)
    if version != VERSION:
        raise BadRecord(f"{key}: version {version!r}; this program knows {VERSION}: use programs of one age")
    try:
        return schema.read(cls, found)
    except schema.Mismatch as problem:
        raise BadRecord(f"{key}: {problem}") from problem
