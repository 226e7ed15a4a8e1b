"""What one connection to the metadata service may cost, and that no bytes upset it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from md_server.answers import Answer, Request
from md_server.connection import Admission, Connection, Limits
from md_server.tokens import Tokens


def test_a_token_expires() -> None:
    tokens = Tokens(b"secret")
    token = tokens.issue("a", 60, now=1000.0).encode()

    assert tokens.valid(token, "a", now=1059.0)
    assert not tokens.valid(token, "a", now=1060.0)
    assert not tokens.valid(token, "b", now=1059.0)
    assert not Tokens(b"other").valid(token, "a", now=1059.0)


@given(st.binary())
def test_no_bytes_are_a_token(token: bytes) -> None:
    assert not Tokens(b"secret").valid(token, "a", now=0.0)


def hello(request: Request) -> Answer:
    return Answer(200, b"hello")


def served(limits: Limits, answer: Callable[[Request], Answer], clients: Callable[[int], object]) -> None:
    """Run `clients(port)` in a thread against a server with these limits."""

    async def run() -> None:
        admission = Admission(limits)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(answer, admission), "127.0.0.1", 0)
        async with server:
            await asyncio.to_thread(clients, server.sockets[0].getsockname()[1])
            deadline = loop.time() + 5
            while admission.open:
                assert loop.time() < deadline, "every connection gives its place back"
                await asyncio.sleep(0.01)

    asyncio.run(run())


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))


def is_hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost:", b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_client_that_does_not_finish_its_request_is_hung_up_on(sent: bytes) -> None:
    def slow(port: int) -> None:
        with connect(port) as connection:
            connection.sendall(sent)
            assert is_hung_up(connection)

    served(Limits(request_s=0.1), hello, slow)


def test_a_client_that_takes_no_answers_costs_little_and_is_hung_up_on() -> None:
    answered = 0

    def large(request: Request) -> Answer:
        nonlocal answered
        answered += 1
        return Answer(200, bytes(65536))

    def greedy(port: int) -> None:
        with connect(port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
            time.sleep(0.5)

    served(Limits(request_s=0.2), large, greedy)
    assert answered < 500


def test_one_source_cannot_take_the_places_of_the_others() -> None:
    def crowd(port: int) -> None:
        held = [connect(port, "127.0.0.2") for _ in range(3)]
        assert is_hung_up(held[2])
        with connect(port, "127.0.0.3") as other:
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(65536).endswith(b"hello")
        for connection in held:
            connection.close()

    served(Limits(connections=4, connections_a_source=2), hello, crowd)


def test_an_answer_that_fails_is_500_without_particulars() -> None:
    def broken(request: Request) -> Answer:
        raise ZeroDivisionError("secret")

    def ask(port: int) -> None:
        with connect(port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 500")
            assert b"secret" not in received

    served(Limits(), broken, ask)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 1)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


PIECES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"HEAD /a HTTP/1.0\r\n", b"PUT /latest/api/token HTTP/1.1\r\n", b"Host: x\r\n"),
        *(
            b"\r\n",
            b"\n",
            b"Content-Length: 3\r\n",
            b"Content-Length: -1\r\n",
            b"abc",
            b"Transfer-Encoding: chunked\r\n",
        ),
        *(b"3\r\nabc\r\n", b"0\r\n\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
        *(b"CONNECT x:1 HTTP/1.1\r\n", b"X-Forwarded-For: \xff\r\n", b" folded\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"\0"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=20), max_size=15))
def test_any_bytes_in_any_pieces_end_in_answers_or_silence(pieces: list[bytes]) -> None:
    async def feed() -> bytes:
        wire, admission = Wire(), Admission(Limits())
        connection = Connection(hello, admission)
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
        if not wire.closed:
            connection.eof_received()
        connection.connection_lost(None)
        assert not admission.open
        return wire.written

    written = asyncio.run(feed())
    assert written == b"" or written.startswith(b"HTTP/1.1 ")
