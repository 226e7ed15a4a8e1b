"""One watch stream on etcd, over the etcd3 package's gRPC messages.

The package's own watcher dies silently after one error, spins during an outage and takes a refused watch for a good
one. This loop has one stream, an explicit start revision, a heartbeat of progress requests, and one way to end:
WatchLost, upon which the caller lists again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from etcd3 import etcdrpc

from placet.errors import WatchLost
from placet.store import Entry, Event

HEARTBEAT_S = 4.0
SILENCE_S = 10.0

# WatchRequest{progress_request: {}} (etcd's rpc.proto, field 3, since 3.4): newer than the package's generated code,
# which carries it as an unknown field. The server answers at once, with the current revision and no events.
PROGRESS_REQUEST = etcdrpc.WatchRequest.FromString(b"\x1a\x00")


class EtcdWatch:
    """See placet.store.Watch. A thread reads the stream into a queue, gRPC's own thread sends the heartbeat."""

    def __init__(
        self, channel: Any, metadata: Any, root: str, prefixes: Sequence[str], revision: int, address: str
    ) -> None:
        self._root = root
        self._revision = revision
        self._address = address
        self._closed = threading.Event()
        self._heard = time.monotonic()
        self._arrived: queue.SimpleQueue[tuple[Event, ...] | WatchLost] = queue.SimpleQueue()
        self._lost: WatchLost | None = None
        self._call = etcdrpc.WatchStub(channel).Watch(self._requests(prefixes), metadata=metadata)
        threading.Thread(target=self._read, name="etcd-watch", daemon=True).start()

    def wait(self, timeout_s: float) -> tuple[Event, ...]:
        if self._lost is not None:
            raise self._lost
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self._arrived.get(timeout=max(0.0, min(deadline, self._silent_at) - time.monotonic()))
            except queue.Empty:
                if time.monotonic() >= self._silent_at:
                    self._end(f"silent for {SILENCE_S:g} s")  # which arrives, too
                elif time.monotonic() >= deadline:
                    return ()
            else:
                break
        if isinstance(found, WatchLost):
            self._lost = found
            raise found
        return found

    def close(self) -> None:
        self._closed.set()
        self._call.cancel()

    def _requests(self, prefixes: Sequence[str]) -> Iterator[Any]:
        for prefix in prefixes:
            key = (self._root + prefix).encode()
            create = etcdrpc.WatchCreateRequest(
                key=key, range_end=key[:-1] + bytes([key[-1] + 1]), start_revision=self._revision
            )
            yield etcdrpc.WatchRequest(create_request=create)
        while not self._closed.wait(HEARTBEAT_S):
            yield PROGRESS_REQUEST

    @property
    def _silent_at(self) -> float:
        """When not a word was heard for too long. Whoever waits looks at this: gRPC's thread, which sends the
        heartbeat, is held up itself until there is a connection."""
        return self._heard + SILENCE_S

    def _read(self) -> None:
        try:
            for response in self._call:
                self._heard = time.monotonic()
                events = self._events(response)
                if events:
                    self._arrived.put(events)
            self._end("the server ended the stream")
        except grpc.RpcError as problem:
            self._end(_reason(problem))
        except WatchLost as lost:
            self._end(str(lost))
        except Exception as problem:  # the thread's edge: whatever it is, the caller must hear that the watch is over
            self._end(repr(problem))

    def _end(self, reason: str) -> None:
        self._closed.set()
        self._call.cancel()
        self._arrived.put(WatchLost(f"watch on etcd at {self._address}: {reason}"))

    def _events(self, response: Any) -> tuple[Event, ...]:
        """The changes in one response. Raises WatchLost for what says that the stream is no good."""
        if response.compact_revision:
            raise WatchLost(f"revision {self._revision} is compacted (up to {response.compact_revision})")
        if response.canceled:
            raise WatchLost(f"cancelled: {response.cancel_reason or 'refused'}")
        if response.created and response.watch_id < 0:
            raise WatchLost("refused")
        if response.header.revision and response.header.revision < self._revision - 1:
            raise WatchLost(f"the revision went back from {self._revision - 1} to {response.header.revision}")
        return tuple(self._event(event) for event in response.events)

    def _event(self, event: Any) -> Event:
        found = event.kv
        key = found.key.decode(errors="replace").removeprefix(self._root)
        if event.type == event.DELETE:
            return Event(key, None, found.mod_revision)
        entry = Entry(key, found.value, found.create_revision, found.mod_revision, found.lease)
        return Event(key, entry, found.mod_revision)


def _reason(problem: grpc.RpcError) -> str:
    if isinstance(problem, grpc.Call):
        return f"{problem.code().name.lower()}: {problem.details()}"
    return type(problem).__name__
