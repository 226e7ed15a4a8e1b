"""One guest's HTTP/1.1 connection: bytes in and out, and what it may cost. Says nothing itself: see answers.py.

h11 parses and frames: it does no I/O, is strict about what it takes, bounds what it holds, and is small; it sits on
asyncio's callbacks without a task a connection. (Full servers bring an application interface, tens of MiB and no
limit on a slow request's time.)
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus

import h11

from md_server.admission import Admission
from md_server.messages import Answer, Request, plainly
from placet.log import warn

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
EVENTS_A_TURN = 24  # of h11's: two or three a request


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
        self._body = bytearray()
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (asyncio's promise to TCP protocols)
        self._transport = transport
        self._source = (transport.get_extra_info("peername") or ("",))[0].partition("%")[0]  # fe80::1%device
        self._set_deadline()
        self._admitted = self._admission.enter(self._source, self._drop)
        if not self._admitted:
            self._drop()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        self._deadline.cancel()
        if self._admitted:
            self._admission.leave(self._source, self._drop)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._proceed()

    def eof_received(self) -> bool:
        """True: what was asked before the client closed its side is still answered."""
        self._http.receive_data(b"")
        self._proceed()
        return True

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._proceed()

    def _proceed(self) -> None:
        """Take what has come in, but only so much at a time: what is left has its turn after the other guests'."""
        try:
            for _ in range(EVENTS_A_TURN):
                if self._paused or self._transport.is_closing():
                    return
                if not self._take(self._http.next_event()):
                    self._transport.resume_reading()
                    return
        except h11.RemoteProtocolError as problem:
            self._refuse(problem.error_status_hint, str(problem))
        else:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._proceed)

    def _take(self, event: object) -> bool:
        """Act on one of h11's events; False when there is nothing more to do with what has come in."""
        if isinstance(event, h11.Request):
            return self._begin(event)
        if isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._limits.body_bytes:
                self._refuse(413, "the body is too large")
            return True
        if isinstance(event, h11.EndOfMessage):
            self._respond()
            return True
        if isinstance(event, h11.ConnectionClosed):
            self._transport.close()
        return False

    def _begin(self, request: h11.Request) -> bool:
        if request.method == b"CONNECT":  # a 200 to it would end HTTP on this connection
            self._refuse(405, "GET and HEAD only")
            return False
        self._request, self._body = request, bytearray()
        if self._http.they_are_waiting_for_100_continue:
            self._transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        return True

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
        method, target = request.method.decode(), request.target.decode("latin-1")
        asked = Request(self._source, method, target, dict(request.headers), bytes(self._body))
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
        reason = REASONS.get(answer.status, b"")
        response = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)
        data = self._http.send(response) or b""
        if self._request is None or self._request.method != b"HEAD":
            data += self._http.send(h11.Data(data=answer.body)) or b""
        self._transport.write(data + (self._http.send(h11.EndOfMessage()) or b""))

    def _set_deadline(self) -> None:
        if hasattr(self, "_deadline"):
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(self._limits.request_s, self._drop)

    def _drop(self) -> None:
        """End it now, and let go of what the client does not take: the kernel would keep that for it."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
