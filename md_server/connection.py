"""One guest's HTTP/1.1 connection: bytes in and out, and what it may cost. Says nothing itself: see answers.py.

h11 parses and frames: it does no I/O, is strict about what it takes, bounds what it holds, and is small; it sits on
asyncio's callbacks without a task a connection. (Full servers bring an application interface, tens of MiB and no
limit on a slow request's time.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import h11

from md_server.answers import Answer, Request, plainly
from placet.log import warn


@dataclass
class Limits:
    """Of one server. `request_s` is what a client has for each next request, from silence to the last byte taken."""

    connections: int = 256
    connections_a_source: int = 32
    request_s: float = 10.0
    head_bytes: int = 16 * 1024
    body_bytes: int = 8 * 1024


@dataclass
class Admission:
    """Who is connected, so that no guest takes the places of the others."""

    limits: Limits
    open: Counter[str] = field(default_factory=Counter)

    def enter(self, source: str) -> bool:
        if self.open[source] >= self.limits.connections_a_source or self.open.total() >= self.limits.connections:
            return False
        self.open[source] += 1
        return True

    def leave(self, source: str) -> None:
        self.open[source] -= 1
        if not self.open[source]:
            del self.open[source]


class Connection(asyncio.Protocol):
    """`answer` is called once a request is complete. Reading stops while the client does not take its answers."""

    _transport: asyncio.Transport
    _deadline: asyncio.TimerHandle

    def __init__(self, answer: Callable[[Request], Answer], admission: Admission) -> None:
        self._answer = answer
        self._admission = admission
        self._limits = admission.limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        self._source = ""
        self._admitted = False
        self._request: h11.Request | None = None
        self._body_bytes = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (asyncio's promise to TCP protocols)
        self._transport = transport
        self._source = (transport.get_extra_info("peername") or ("",))[0]
        self._set_deadline()
        self._admitted = self._admission.enter(self._source)
        if not self._admitted:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        self._deadline.cancel()
        if self._admitted:
            self._admission.leave(self._source)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._proceed()

    def eof_received(self) -> None:
        self._http.receive_data(b"")
        self._proceed()

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        self._proceed()

    def _proceed(self) -> None:
        try:
            while not self._paused and not self._transport.is_closing() and self._take(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as problem:
            self._refuse(problem.error_status_hint, str(problem))

    def _take(self, event: object) -> bool:
        """Act on one of h11's events; False when there is nothing more to do with what has come in."""
        if isinstance(event, h11.Request):
            if event.method == b"CONNECT":  # a 200 to it would end HTTP on this connection
                self._refuse(405, "GET and HEAD only")
                return False
            self._request = event
            self._body_bytes = 0
            return True
        if isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            if self._body_bytes > self._limits.body_bytes:
                self._refuse(413, "the body is too large")
            return True
        if isinstance(event, h11.EndOfMessage):
            self._respond()
            return True
        if isinstance(event, h11.ConnectionClosed):
            self._transport.close()
        return False

    def _respond(self) -> None:
        if self._request is None:
            return
        self._send(self._answered(self._request))
        self._request = None
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()
            self._set_deadline()

    def _answered(self, request: h11.Request) -> Answer:
        headers = dict(request.headers)
        asked = Request(self._source, request.method.decode(), request.target.decode("latin-1"), headers)
        try:
            return self._answer(asked)
        except Exception as problem:  # the edge: one request's trouble is told and stays its own
            warn("answer-failed", source=self._source, target=asked.target, problem=repr(problem))
            return plainly(500, "internal error")

    def _refuse(self, status: int, words: str) -> None:
        """Say what is wrong, if anything can still be said, and hang up."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(plainly(status, words, Connection="close"))
        self._transport.close()

    def _send(self, answer: Answer) -> None:
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **answer.headers}
        data = self._http.send(h11.Response(status_code=answer.status, headers=list(headers.items()))) or b""
        if self._request is None or self._request.method != b"HEAD":
            data += self._http.send(h11.Data(data=answer.body)) or b""
        self._transport.write(data + (self._http.send(h11.EndOfMessage()) or b""))

    def _set_deadline(self) -> None:
        if hasattr(self, "_deadline"):
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(self._limits.request_s, self._transport.abort)
