"""An HTTP server on loopback that says what a test wants it to, byte for byte.

with hostile_http() as web:
    url = web.serve("/a.qcow2", body, ETag='"1"')        # a good server
    web.pages["/drip"] = drip                            # a bad one
    ...
    assert [asked.path for asked in web.asked] == ["/a.qcow2"]

A page is a function of what was asked and a way to send; when it returns, the connection ends.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer

Send = Callable[[bytes], object]


@dataclass(frozen=True)
class Asked:
    """One request: its target, its headers with names in lower case, and the connection it came by."""

    method: str
    path: str
    headers: dict[str, str]
    wire: socket.socket


Page = Callable[[Asked, Send], object]


@dataclass
class Web:
    """The server: `pages` by path, all that was `asked` of it. `closing` is set when the test is over."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def serve(self, path: str, body: bytes, **headers: str) -> str:
        """Give `body` at `path`, with these headers (`_` for `-`); its URL. It knows neither conditions nor ranges."""
        self.pages[path] = lambda _asked, send: answer(send, body, **headers)
        return self.url + path

    def serve_well(self, path: str, body: bytes, **headers: str) -> str:
        """As a good server does: it answers 304 to those who have it, and parts to those who ask for them."""
        self.pages[path] = lambda asked, send: answer_well(asked, send, body, headers)
        return self.url + path

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.path for asked in self.asked]

    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [asked.headers.get("range") for asked in self.asked]

    def hang(self, _asked: Asked, _send: Send) -> None:
        """A page that says nothing."""
        self.closing.wait()


def answer(send: Send, body: bytes, status: str = "200 OK", **headers: str) -> None:
    """A whole answer. `Content_Length=""` leaves the length out."""
    send(head(status, **{"Content_Length": str(len(body)), **headers}) + body)


def head(status: str = "200 OK", **headers: str) -> bytes:
    """The head of an answer; of headers, `_` stands for `-`, and those without a value are left out."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def answer_well(asked: Asked, send: Send, body: bytes, headers: dict[str, str]) -> None:
    """RFC 9110, 13 and 14, as far as images need it."""
    etag, modified = headers.get("ETag", ""), headers.get("Last_Modified", "")
    if etag and asked.headers.get("if-none-match") == etag:
        answer(send, b"", "304 Not Modified", **headers)
        return
    if modified and "if-none-match" not in asked.headers and asked.headers.get("if-modified-since") == modified:
        answer(send, b"", "304 Not Modified", **headers)
        return
    wanted = asked.headers.get("range", "")
    if wanted and asked.headers.get("if-range") in (etag, modified, None):
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        answer(
            send,
            body[start:],
            "206 Partial Content",
            Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
            **headers,
        )
        return
    answer(send, body, **headers)


def redirect(place: str, status: str = "302 Found") -> Page:
    """A page that sends on to `place`."""
    return lambda _asked, send: answer(send, b"", status, Location=place)


def breaking(body: bytes, *after: int, **headers: str) -> Page:
    """A page that gives what `answer_well` would, but breaks off after so many bytes of each body: the first time after
    the first number, and so on; when there are no more numbers, it is whole."""
    cuts = list(after)

    def page(asked: Asked, send: Send) -> None:
        whole = bytearray()
        answer_well(asked, whole.extend, body, headers)
        end_of_head = whole.index(b"\r\n\r\n") + 4
        send(bytes(whole[: end_of_head + cuts.pop(0)] if cuts else whole))

    return page


@contextlib.contextmanager
def hostile_http(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server for the length of a `with`."""
    connections: set[socket.socket] = set()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # clients that hang up are what many tests are about
                wire = tls.wrap_socket(self.request, server_side=True) if tls else self.request
                connections.add(wire)
                try:
                    _answer_one(web, wire)
                finally:
                    connections.discard(wire)
                    wire.close()

    class Server(ThreadingTCPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    web = Web(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        web.closing.set()
        server.shutdown()
        thread.join()
        for wire in tuple(connections):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        server.server_close()


def _answer_one(web: Web, wire: socket.socket) -> None:
    with wire.makefile("rb") as lines:
        words = lines.readline().decode("latin-1").split()
        if len(words) < 2:
            return
        headers = {}
        while line := lines.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
    asked = Asked(words[0], words[1], headers, wire)
    web.asked.append(asked)
    page = web.pages.get(asked.path)
    if page is None:
        answer(wire.sendall, b"", "404 Not Found")
    else:
        page(asked, wire.sendall)
