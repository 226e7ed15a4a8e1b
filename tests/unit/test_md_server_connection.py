"""What one connection to the metadata service may cost, and that no bytes upset it."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from md_server.admission import Admission, Limits
from md_server.connection import Connection
from md_server.messages import Answer, Request
from md_server.tokens import Tokens
from tests.support.md_server import Wire, connect, everything, hello, is_hung_up, is_refused, served


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
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # ended before all of it was sent
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
            ending = select.poll()
            ending.register(connection, select.POLLERR)
            assert ending.poll(60_000), "the server has ended it"

    served(Limits(request_s=0.2), large, greedy)
    assert answered < 500


def test_one_source_cannot_take_the_places_of_the_others() -> None:
    def crowd(port: int) -> None:
        held = [connect(port, "127.0.0.2") for _ in range(2)]
        assert is_refused(port, "127.0.0.2")
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


def test_a_client_that_closes_its_side_still_gets_what_it_asked_for() -> None:
    def ask(port: int) -> None:
        with connect(port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection).count(b"hello") == 100

    served(Limits(), hello, ask)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    def ask(port: int) -> None:
        with connect(port) as connection:
            head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head)
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"abc")
            assert connection.recv(65536).endswith(b"body abc")

    served(Limits(), lambda request: Answer(200, b"body " + request.body), ask)


def test_many_requests_at_once_do_not_keep_the_other_guests_waiting() -> None:
    answered: list[str] = []

    def note(request: Request) -> Answer:
        answered.append(request.source)
        return Answer(200)

    async def feed() -> None:
        admission = Admission(Limits())
        greedy, other = Wire("10.0.0.1"), Wire("10.0.0.2")
        connections = [Connection(note, admission) for _ in range(2)]
        for connection, wire in zip(connections, (greedy, other), strict=True):
            connection.connection_made(wire)
        connections[0].data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert not greedy.reading, "nothing more is taken from it meanwhile"
        connections[1].data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered.index("10.0.0.2") < 20
        while not greedy.reading:
            await asyncio.sleep(0)
        for connection in connections:
            connection.connection_lost(None)

    asyncio.run(feed())
    assert answered.count("10.0.0.1") == 1000


def test_when_all_places_are_taken_who_has_most_makes_room() -> None:
    ended: list[str] = []
    admission = Admission(Limits(connections=5, connections_a_source=3))

    def enter(source: str, name: str) -> bool:
        return admission.enter(source, lambda: ended.append(name))

    assert all(enter("a", f"a{number}") for number in range(3))
    assert not enter("a", "a3"), "that is all for one"
    assert enter("b", "b0") and enter("b", "b1")
    assert enter("c", "c0") and ended == ["a0"], "the oldest of who has most"
    assert enter("d", "d0") and enter("e", "e0") and ended == ["a0", "a1", "b0"]
    assert not enter("f", "f0"), "all have one, which nobody takes from them"
    assert {source: len(drops) for source, drops in admission.open.items()} == dict.fromkeys("abcde", 1)
