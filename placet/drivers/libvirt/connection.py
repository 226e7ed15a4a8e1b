"""The connection to libvirtd: opened when first used, and again when it was lost.

libvirt's event loop runs in one daemon thread a process. When the connection breaks, a thread tries until libvirtd is
back, so that events flow again without anyone calling; it ends then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import libvirt

from placet.drivers.libvirt.capabilities import describe
from placet.drivers.libvirt.errors import first_line, is_code, translate, unreachable
from placet.errors import PlacetError, Unreachable
from placet.hypervisor import Hypervisor
from placet.log import debug, warn

KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 2.0


class LibvirtConnection:
    """One libvirtd, by its URI. `virt_type` overrides what kind of guests it is asked for (`kvm` or `qemu`)."""

    def __init__(self, uri: str, virt_type: str | None = None) -> None:
        self.uri = uri
        self._virt_type = virt_type
        self._lock = threading.Lock()
        self._handle: Any = None
        self._description: Hypervisor | None = None
        self._on_open: Callable[[Any], None] | None = None
        self._on_return: Callable[[], None] | None = None
        self._closed = threading.Event()

    def describe(self) -> Hypervisor:
        """What this hypervisor is. Raises Unreachable, Refused."""
        if self._description is None:
            with self.session("read the capabilities") as libvirtd:
                self._description = describe(libvirtd.getCapabilities(), self._virt_type)
        return self._description

    @contextlib.contextmanager
    def session(self, doing: str) -> Iterator[Any]:
        """The open virConnect; libvirt's errors inside become ours. `doing` is said in their messages."""
        handle = self._open()
        try:
            yield handle
        except libvirt.libvirtError as error:
            if not _is_alive(handle):
                raise unreachable(self.uri, first_line(error)) from error
            raise translate(error, self.uri, doing) from error

    def watch(self, on_open: Callable[[Any], None], on_return: Callable[[], None]) -> None:
        """Have `on_open(virConnect)` called for this and each later connection, to register events, and `on_return`
        after a connection that was lost is there again, when events may have been missed."""
        with self._lock:
            self._on_open, self._on_return = on_open, on_return
            before = self._handle
        with self.session("register for events") as handle:
            if handle is before:
                on_open(handle)

    def close(self) -> None:
        """Let go, for good."""
        self._closed.set()
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            _drop(handle)

    def _open(self) -> Any:
        with self._lock:
            if self._handle is not None and _is_alive(self._handle):
                return self._handle
            if self._closed.is_set():
                raise unreachable(self.uri, "this connection was closed")
            self._handle = self._opened()
            return self._handle

    def _opened(self) -> Any:
        start_event_loop()
        try:
            handle = libvirt.open(self.uri)
            with _where_supported():
                handle.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
            with _where_supported():
                handle.registerCloseCallback(self._lost, None)
            if self._on_open is not None:
                self._on_open(handle)
        except libvirt.libvirtError as error:
            raise unreachable(self.uri, first_line(error)) from error
        return handle

    def _lost(self, handle: Any, _reason: int, _opaque: object) -> None:
        if not self._closed.is_set():
            threading.Thread(target=self._return, args=(handle,), name="libvirt-reconnect", daemon=True).start()

    def _return(self, lost: Any) -> None:
        _drop(lost)
        pause_s = RETRY_FIRST_S
        while not self._closed.wait(pause_s):
            pause_s = min(2 * pause_s, RETRY_MOST_S)
            with contextlib.suppress(Unreachable):
                self._open()
                break
        if self._on_return is not None and not self._closed.is_set():
            try:
                self._on_return()
            except PlacetError as problem:  # lost again: then this happens again
                debug("hypervisor-lost-again", reason=problem)
            except Exception as problem:  # the thread's edge
                warn("hypervisor-not-looked-at", reason=repr(problem))


@cache
def start_event_loop() -> None:
    """Once a process, before the first connection: libvirt's event loop, and silence on stderr."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    """Some drivers (test:///default) have no socket to keep alive."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_NO_SUPPORT):
            raise


def _is_alive(handle: Any) -> bool:
    """Also of a handle that another thread has closed meanwhile."""
    try:
        return bool(handle.isAlive())
    except libvirt.libvirtError:
        return False


def _drop(handle: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        handle.unregisterCloseCallback()
    with contextlib.suppress(libvirt.libvirtError):
        handle.close()
