"""Clients that mean harm, all at once over real sockets: each comes to its end, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from md_server.admission import Limits
from tests.support.md_server import connect, everything, hello, is_hung_up, served

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
MANY = 2000


def test_hostile_clients_end_and_the_others_are_served_meanwhile() -> None:
    def all_at_once(port: int) -> None:
        with ThreadPoolExecutor() as pool:
            clients = [_slow_headers, _huge_headers, _slow_bodies, _pipelines, _half_closes, _crowds, _behaves]
            for client in [pool.submit(client, port) for client in clients]:
                client.result()

    served(Limits(request_s=5.0), hello, all_at_once)  # time enough for who means well on a busy machine


def _slow_headers(port: int) -> None:
    """A byte at a time, for as long as the server bears it."""
    with connect(port, "127.0.0.2") as connection:
        _drip(connection, b"")


def _slow_bodies(port: int) -> None:
    with connect(port, "127.0.0.3") as connection:
        _drip(connection, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")


def _drip(connection: socket.socket, begin: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(begin)
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"X")
        assert is_hung_up(connection)


def _huge_headers(port: int) -> None:
    with connect(port, "127.0.0.4") as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 100_000)
        assert everything(connection)[:12] in (b"", b"HTTP/1.1 431")


def _pipelines(port: int) -> None:
    with connect(port, "127.0.0.5") as connection:
        sending = threading.Thread(target=lambda: connection.sendall(REQUEST * MANY + LAST))
        sending.start()
        assert everything(connection).count(b"hello") == MANY + 1
        sending.join()


def _half_closes(port: int) -> None:
    for sent in (b"", b"GET", REQUEST[:-2], b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"):
        with connect(port, "127.0.0.6") as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection)[:12] in (b"", b"HTTP/1.1 400")


def _crowds(port: int) -> None:
    """More connections than one may have, and never a word."""
    with contextlib.ExitStack() as held:
        for _ in range(2 * Limits().connections_a_source):
            with contextlib.suppress(ConnectionResetError):  # refused so soon that connect() itself hears of it
                held.enter_context(connect(port, "127.0.0.7"))


def _behaves(port: int) -> None:
    for _ in range(50):
        with connect(port, "127.0.0.8") as connection:
            connection.sendall(REQUEST)
            assert connection.recv(65536).endswith(b"hello")
