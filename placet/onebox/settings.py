"""What was chosen for this cloud, kept as onebox.json so that a later run chooses the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placet import schema
from placet.errors import BadConfig

VERSION = 1


@dataclass(frozen=True)
class EtcdSettings:
    """`peer_port` is None when etcd is somebody else's. The files are for TLS with client certificates."""

    host: str
    port: int
    peer_port: int | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def ours(self) -> bool:
        return self.peer_port is not None

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://{self.host}:{self.port}"

    def client_keys(self) -> dict[str, Any]:
        """What the `etcd:` keys of both YAML files hold."""
        tls = {"ca_cert": self.ca, "cert_cert": self.cert, "cert_key": self.key}
        return {"host": self.host, "port": self.port, **{name: path for name, path in tls.items() if path}}


@dataclass(frozen=True)
class PlacementSettings:
    """`database` is an SQLAlchemy URL and None when Placement is somebody else's."""

    url: str
    database: str | None = None
    workers: int = 1

    @property
    def ours(self) -> bool:
        return self.database is not None

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@dataclass(frozen=True)
class LibvirtSettings:
    """`host_uuid` is the identity of a libvirtd of our own and None when it is the machine's."""

    uri: str
    host_uuid: str | None = None

    @property
    def ours(self) -> bool:
        return self.host_uuid is not None


@dataclass(frozen=True)
class NetworkSettings:
    """The cloud's range and what the node calls its part of it."""

    range: str
    name: str
    bridge: str


@dataclass(frozen=True)
class Settings:
    """`listen` is an address besides 127.0.0.1; `joined` is set on a machine that only brings a node; `cloud` is the
    cloud's id, known once etcd has answered."""

    etcd: EtcdSettings
    placement: PlacementSettings
    libvirt: LibvirtSettings
    network: NetworkSettings
    address: str = "127.0.0.1"
    listen: str | None = None
    joined: bool = False
    cloud: str = ""
    version: int = VERSION


def load(path: Path) -> Settings | None:
    """What an earlier run chose, or None. Raises BadConfig."""
    try:
        found = json.loads(path.read_text())
        settings = schema.read(Settings, found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, schema.Mismatch) as problem:
        raise BadConfig(f"{path}: {problem}; mend it, or remove it and run ./up.sh again") from problem
    if settings.version != VERSION:
        raise BadConfig(f"{path}: version {settings.version}; this program knows {VERSION}: use the one that wrote it")
    return settings


def save(settings: Settings, path: Path) -> None:
    """Write onebox.json, whole or not at all. 0600: a database URL may hold a password."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(json.dumps(schema.plain(settings), indent=2) + "\n")
    new.replace(path)
