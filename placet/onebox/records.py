"""What `up` reads from and writes to etcd itself: the cloud's id, a node's `alive`, the image's record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from placet import keys
from placet.cloud import join_cloud
from placet.images.inspection import inspect
from placet.model import ImageRecord, decode, encode
from placet.node_records import Alive
from placet.onebox.settings import Settings
from placet.store import Absent, Put, Store
from placet.store.etcd import EtcdStore

# what the small image needs to boot; measured by its builder
MINI_MEMORY_MB = 80


class Records:
    """etcd, as the settings reach it. Every call raises Unreachable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def cloud(self, new_uuid: Callable[[], str]) -> str:
        """The cloud's id, made now if there is none."""
        with self._store() as store:
            return join_cloud(store, None, new_uuid, time.time())

    def alive(self, node: str) -> Alive | None:
        """The node's heartbeat, if it has one."""
        with self._store() as store:
            entry = store.get(keys.alive(node))
        return None if entry is None else decode(Alive, entry.value, entry.key)

    def add_image(self, name: str, path: Path) -> bool:
        """Give an image a name; False when the name is taken (then it stays what it is).

        Its source is the file's name alone: each node has the image in an image directory of its own.
        """
        image = inspect(path, str(path))
        record = ImageRecord(
            name, path.name, format=image.format, virtual_size=image.virtual_size,
            min_memory_mb=MINI_MEMORY_MB, properties={"kind": "mini"}, created_at=time.time(),
        )  # fmt: skip
        key = keys.image(name)
        with self._store() as store:
            return store.transact([Absent(key)], [Put(key, encode(record))])

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = EtcdStore(self._settings.etcd.client_keys())
        try:
            yield store
        finally:
            store.close()
