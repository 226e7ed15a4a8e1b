"""Which etcd and which cloud a node belongs to, kept on the node, so that another etcd's emptiness destroys nothing.

Kept are the cloud's id, etcd's cluster id and the highest revision that was seen there. An etcd that lost its data,
was restored from an older backup, or is read under a wrong prefix, differs in one of them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placet.errors import Conflict, PlacetError
from placet.model import BadRecord, decode, encode
from placet.schema import changed

SAVE_EVERY = 100


@dataclass(frozen=True)
class Known:
    """What was last seen, and held to be right; `subnet` is the node's own."""

    cloud: str
    cluster_id: int = 0
    revision: int = 0
    subnet: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class KnownEtcd:
    """One node's memory, in one small file; without a `path` it ends with the process. Thread-safe.

    `doubt` is None while etcd is the known one; else it says in a line why not, until `accept`.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = self._load()
        self._saved = self._known
        self._now: Known | None = None
        self.doubt: str | None = None

    @property
    def cloud(self) -> str | None:
        """The cloud that the node belongs to; None before it has joined one."""
        return self._known.cloud if self._known else None

    def join(self, cloud: str) -> None:
        """Belong to a cloud, once and for all. Raises Conflict when the node is another's."""
        with self._lock:
            if self._known is None:
                self._known = Known(cloud)
                self._save()
            elif self._known.cloud != cloud:
                raise Conflict(
                    f"this node belongs to cloud {self._known.cloud}, and etcd holds cloud {cloud}: see etcd: and "
                    f"etcd_prefix:; to give the node to the new cloud, destroy its guests and remove {self._path}"
                )

    @property
    def subnet(self) -> str | None:
        """The subnet that the node had when it last started."""
        return self._known.subnet if self._known else None

    def keep_subnet(self, subnet: str) -> None:
        """Remember the node's subnet, should etcd forget whose it is. Raises Conflict before `join`."""
        with self._lock:
            if self._known is None:
                raise Conflict("this node has joined no cloud yet")
            if self._known.subnet != subnet:
                self._known = changed(self._known, subnet=subnet)
                self._save()

    def look(self, cloud: str | None, cluster_id: int, revision: int) -> str | None:
        """Compare with what etcd says now: its cloud record, if any, its cluster's id, its revision. The doubt."""
        with self._lock:
            known = self._known
            self._now = Known(cloud or "", cluster_id, revision)
            if known is None:
                return None
            found = _doubt(known, cloud, cluster_id, revision)
            if found is not None or self.doubt is not None:
                self.doubt = self.doubt or found
                return self.doubt
            self._known = changed(known, cluster_id=cluster_id, revision=max(known.revision, revision))
            if self._saved is None or self._known.revision - self._saved.revision >= SAVE_EVERY:
                self._save()
            return None

    def accept(self) -> bool:
        """Hold the etcd that was last looked at to be right; False while it has no record of our cloud."""
        with self._lock:
            if self._known is None or self._now is None or self._now.cloud != self._known.cloud:
                return False
            self._known = changed(self._known, cluster_id=self._now.cluster_id, revision=self._now.revision)
            self.doubt = None
            self._save()
            return True

    def save(self) -> None:
        """Write down what has changed since it was last written."""
        with self._lock:
            if self._known != self._saved:
                self._save()

    def _load(self) -> Known | None:
        if self._path is None:
            return None
        try:
            return decode(Known, self._path.read_bytes(), str(self._path))
        except FileNotFoundError:
            return None
        except (OSError, BadRecord) as problem:
            raise PlacetError(f"{self._path}: {problem}; if it can't be mended, remove it") from problem

    def _save(self) -> None:
        if self._known is None:
            return
        if self._path is not None:
            part = self._path.with_suffix(".part")
            part.write_bytes(encode(self._known))
            part.replace(self._path)
        self._saved = self._known


def _doubt(known: Known, cloud: str | None, cluster_id: int, revision: int) -> str | None:
    if cloud is None:
        return f"etcd has no record of cloud {known.cloud}: it was emptied, or etcd_prefix: is wrong"
    if cloud != known.cloud:
        return f"etcd holds cloud {cloud}, and this node belongs to cloud {known.cloud}"
    if known.cluster_id and cluster_id != known.cluster_id:
        return f"etcd is another cluster ({cluster_id:x}) than the known one ({known.cluster_id:x}): was it restored?"
    if revision < known.revision:
        return f"etcd's revision went back from {known.revision} to {revision}: it was restored from a backup"
    return None
