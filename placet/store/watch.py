"""Watches on etcd, over the etcd3 package's gRPC messages: one stream, and on it one watch or thousands.

The package's own watcher dies silently after one error, spins during an outage and takes a refused watch for a good
one. Here each watch has an explicit start revision, a stream has a heartbeat of progress requests, and there is one way
to end: WatchLost, upon which the caller lists again. placet/store/watch_hub.py keeps a stream for many.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from placet.errors import WatchLost
from placet.store import Entry, Event
from placet.store.etcd3_package import etcdrpc, grpc

HEARTBEAT_S = 4.0
SILENCE_S = 10.0

# WatchRequest{progress_request: {}} (etcd's rpc.proto, field 3, since 3.4): newer than the package's generated code,
# which carries it as an unknown field. The server answers at once, with the current revision and no events.
PROGRESS_REQUEST = etcdrpc.WatchRequest.FromString(b"\x1a\x00")


def nobody() -> None:
    """In place of somebody who wants to hear that something has arrived."""


class EtcdWatch:
    """See placet.store.Watch. `notify` is called by the stream's thread whenever there is something to `wait` for."""

    def __init__(self, stream: WatchStream, prefixes: Sequence[str], revision: int, notify: Callable[[], None]) -> None:
        self.prefixes = tuple(prefixes)
        self.revision = revision
        self.ids: list[int] = []  # etcd's numbers of what it watches for this; the stream's business
        self.is_over = False
        self._stream = stream
        self._notify = notify
        self._arrived: queue.SimpleQueue[tuple[Event, ...] | WatchLost] = queue.SimpleQueue()
        self._lost: WatchLost | None = None

    def wait(self, timeout_s: float) -> tuple[Event, ...]:
        if self._lost is not None:
            raise self._lost
        deadline = time.monotonic() + timeout_s
        while True:
            pause_s = min(deadline, self._stream.silent_at) - time.monotonic()
            try:
                found = self._arrived.get(timeout=max(0.0, pause_s))
            except queue.Empty:
                # gRPC's thread, which sends the heartbeat, is held up itself until there is a connection
                if not self._stream.check() and time.monotonic() >= deadline:
                    return ()
            else:
                break
        if isinstance(found, WatchLost):
            self._lost = found
            raise found
        return found

    def close(self) -> None:
        self._stream.close(self)

    def give(self, events: tuple[Event, ...]) -> None:
        """Have these waited for."""
        self._arrived.put(events)
        self._notify()

    def lose(self, lost: WatchLost) -> None:
        """Have the next `wait` raise it, once what came before was fetched."""
        self._arrived.put(lost)
        self._notify()


class WatchStream:
    """One stream. A thread reads it, gRPC's own thread sends what is asked for and the heartbeat.

    Invariants, under `_lock`: `_opening` has the watches whose creation etcd has yet to answer, in the order in which
    it was asked for, which is that of the answers; `_open` those that it answered, by its number.
    """

    def __init__(self, channel: Any, metadata: Any, root: str, address: str, is_lasting: bool) -> None:
        """One that is not `is_lasting` ends with its last watch."""
        self._root = root
        self._address = address
        self._is_lasting = is_lasting
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._opening: deque[EtcdWatch] = deque()
        self._open: dict[int, EtcdWatch] = {}
        self._ended: str | None = None
        self._heard = time.monotonic()
        self._call = etcdrpc.WatchStub(channel).Watch(self._requests(), metadata=metadata)
        threading.Thread(target=self._read, name="etcd-watch", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether what is watched here is lost at once."""
        return self._ended is not None

    @property
    def silent_at(self) -> float:
        """When not a word was heard for too long."""
        return self._heard + SILENCE_S

    def watch(self, prefixes: Sequence[str], revision: int, notify: Callable[[], None] = nobody) -> EtcdWatch:
        """Changes of all keys under the prefixes, from `revision` on (inclusive)."""
        watch = EtcdWatch(self, prefixes, revision, notify)
        with self._lock:
            ended = self._ended
            if ended is None:
                for start, end in ranges(prefixes, self._root):
                    create = etcdrpc.WatchCreateRequest(key=start, range_end=end, start_revision=revision)
                    self._opening.append(watch)
                    self._asked.put(etcdrpc.WatchRequest(create_request=create))
        if ended is not None:
            watch.lose(self._loss(ended))
        return watch

    def close(self, watch: EtcdWatch, reason: str = "closed") -> None:
        """End one watch; others on the stream go on."""
        with self._lock:
            if watch.is_over:
                return
            watch.is_over = True
            for number in watch.ids:
                self._cancel(number)
            idle = not self._open and all(each.is_over for each in self._opening)
        watch.lose(self._loss(reason))
        if idle and not self._is_lasting:
            self.end(reason)

    def check(self) -> bool:
        """End the stream when not a word was heard for too long; tells whether that is so."""
        silent = time.monotonic() >= self.silent_at
        if silent:
            self.end(f"silent for {SILENCE_S:g} s")
        return silent

    def end(self, reason: str) -> None:
        """Lose all its watches."""
        with self._lock:
            if self._ended is not None:
                return
            self._ended = reason
            lost = [watch for watch in {*self._opening, *self._open.values()} if not watch.is_over]
            for watch in lost:
                watch.is_over = True
            self._opening.clear()
            self._open.clear()
        self._asked.put(None)
        self._call.cancel()
        for watch in lost:
            watch.lose(self._loss(reason))

    def _requests(self) -> Iterator[Any]:
        while True:
            try:
                request = self._asked.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                request = PROGRESS_REQUEST
            if request is None:
                return
            yield request

    def _cancel(self, number: int) -> None:
        self._open.pop(number, None)
        cancel = etcdrpc.WatchCancelRequest(watch_id=number)
        self._asked.put(etcdrpc.WatchRequest(cancel_request=cancel))

    def _read(self) -> None:
        try:
            for response in self._call:
                self._heard = time.monotonic()
                self._take(response)
            self.end("the server ended the stream")
        except grpc.RpcError as problem:
            self.end(_reason(problem))
        except Exception as problem:  # the thread's edge: whatever it is, the callers must hear that it is over
            self.end(repr(problem))

    def _take(self, response: Any) -> None:
        watch = self._created(response) if response.created else self._open.get(response.watch_id)
        if watch is None:  # an answer to the heartbeat, or what was on its way when a watch was closed
            return
        flaw = _flaw(response, watch.revision)
        if flaw is not None:
            self.close(watch, flaw)
            if _is_refusal(response):
                self.end(flaw)  # its token may have died: the next stream has a new one
        elif events := self._events(response, watch.prefixes):
            watch.give(events)

    def _created(self, response: Any) -> EtcdWatch | None:
        with self._lock:
            if not self._opening:
                return None  # the stream has ended
            watch = self._opening.popleft()
            if _is_refusal(response):
                return watch
            if watch.is_over:
                self._cancel(response.watch_id)
                return None
            self._open[response.watch_id] = watch
            watch.ids.append(response.watch_id)
            return watch

    def _events(self, response: Any, prefixes: tuple[str, ...]) -> tuple[Event, ...]:
        events = (self._event(event) for event in response.events)
        return tuple(event for event in events if event.key.startswith(prefixes))

    def _event(self, event: Any) -> Event:
        found = event.kv
        key = found.key.decode(errors="replace").removeprefix(self._root)
        if event.type == event.DELETE:
            return Event(key, None, found.mod_revision)
        entry = Entry(key, found.value, found.create_revision, found.mod_revision, found.lease)
        return Event(key, entry, found.mod_revision)

    def _loss(self, reason: str) -> WatchLost:
        return WatchLost(f"watch on etcd at {self._address}: {reason}")


def ranges(prefixes: Sequence[str], root: str) -> list[tuple[bytes, bytes]]:
    """What etcd has to watch for these, each from its first key up to (exclusive) another. Prefixes in one directory
    are one range, with what lies between them: a third of the watches for a node, for hardly a change more."""
    together: dict[str, list[bytes]] = {}
    for prefix in prefixes:
        directory = prefix[: prefix.rstrip("/").rfind("/") + 1]
        together.setdefault(directory or prefix, []).append((root + prefix).encode())
    return [(min(keys), max(key[:-1] + bytes([key[-1] + 1]) for key in keys)) for keys in together.values()]


def _is_refusal(response: Any) -> bool:
    """Whether a watch that was asked for never began."""
    return bool(response.created and (response.canceled or response.watch_id < 0))


def _flaw(response: Any, revision: int) -> str | None:
    """What in a response says that a watch from `revision` on is no good."""
    if response.compact_revision:
        return f"revision {revision} is compacted (up to {response.compact_revision})"
    if response.canceled:
        return f"cancelled: {response.cancel_reason or 'refused'}"
    if response.created and response.watch_id < 0:
        return "refused"
    if response.header.revision and response.header.revision < revision - 1:
        return f"the revision went back from {revision - 1} to {response.header.revision}"
    return None


def _reason(problem: grpc.RpcError) -> str:
    if isinstance(problem, grpc.Call):
        return f"{problem.code().name.lower()}: {problem.details()}"
    return type(problem).__name__
