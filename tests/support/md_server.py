"""The metadata service for tests: its guests, its parts in memory, its process."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from pathlib import Path

from md_server.admission import Admission, Limits
from md_server.answers import Answers
from md_server.connection import Connection
from md_server.messages import Answer, Request
from md_server.publishing import Publishing
from md_server.tokens import Tokens
from placet.guest_records import GuestRecords, PublishedFiles
from placet.metadata import GuestRecord
from placet.model import Nic
from placet.node_records import Address

DEADLINE_S = 60.0
LOOPBACK = ("--address", "127.0.0.1", "--address6", "")


def guest(name: str, ip: str, metadata_tokens: str = "optional") -> GuestRecord:
    """A guest whose UUID and MAC end like its IP."""
    mac = "52:54:00:00:00:0" + ip[-1]
    return GuestRecord(
        instance=f"00000000-0000-4000-8000-00000000000{ip[-1]}",
        name=name,
        hostname=name,
        project="default",
        image="/a",
        nics=(Nic(mac),),
        created_at=0.0,
        addresses=(Address(ip, mac),),
        user_data=f"#!/bin/sh\n# of {name}\n",
        metadata_tokens=metadata_tokens,
    )


class InMemory:
    """What answers, without sockets: `ask` is one request. Time passes by `now`."""

    def __init__(self, directory: Path, guests: Iterable[GuestRecord]) -> None:
        self.guests = {record.ips[0]: record for record in guests}
        self.now = 1_800_000_000.0
        self.files = PublishedFiles(directory / "published")
        publishing = Publishing(self.files, lambda: self.now, lambda: self.now)
        self.answers = Answers(self.guests.get, Tokens(b"secret"), publishing, lambda: self.now)

    def ask(self, source: str, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-").lower().encode(): value.encode() for name, value in headers.items()}
        return self.answers.answer(Request(source, method, target, named, body))


class Wire(asyncio.Transport):
    """A client's end of a connection, which keeps what it is sent."""

    def __init__(self, source: str = "10.0.0.1") -> None:
        super().__init__({"peername": (source, 1)})
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed


def hello(request: Request) -> Answer:
    """The same to everyone."""
    return Answer(200, b"hello")


def served(limits: Limits, answer: Callable[[Request], Answer], clients: Callable[[int], object]) -> None:
    """Run `clients(port)` in a thread against a server with these limits."""

    async def run() -> None:
        admission = Admission(limits)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(answer, admission), "127.0.0.1", 0)
        async with server:
            await asyncio.to_thread(clients, server.sockets[0].getsockname()[1])
            deadline = loop.time() + DEADLINE_S
            while admission.open:
                assert loop.time() < deadline, "every connection gives its place back"
                await asyncio.sleep(0.01)

    asyncio.run(run())


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S, source_address=(source, 0))


def is_hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def is_refused(port: int, source: str) -> bool:
    """Whether the server hangs up at once; perhaps so soon that connect() itself hears of it."""
    try:
        with connect(port, source) as connection:
            return is_hung_up(connection)
    except ConnectionResetError:
        return True


class Service:
    """One running `python -m md_server` on loopback, and how a guest asks it."""

    def __init__(self, records: Path, log_file: Path) -> None:
        self.records = GuestRecords(records)
        self.published = self.records.published
        self.log_file = log_file
        with log_file.open("wb") as lines:
            command = [*command_line(records), "--port", "0", "--until-eof"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=lines)
        self.port = started_port(log_file)

    def ask(
        self, source: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S, source_address=(source, 0))
        try:
            connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def connect(self, source: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S, source_address=(source, 0))

    def raw(self, source: str, sent: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        with self.connect(source) as connection:
            connection.sendall(sent)
            return everything(connection)

    def end_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up, however it does."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def command_line(records: Path, *options: str) -> list[str]:
    """`python -m md_server`; on loopback, for guests of any device, unless there are `options`."""
    directories = ["--records", str(records), "--published", str(records.with_name("published"))]
    chosen = options or ("--device", "", *LOOPBACK)
    return [sys.executable, "-m", "md_server", *directories, *chosen]


def started_port(log_file: Path) -> int:
    """Where it listens, once it does."""
    return int(wait_for(lambda: re.search(r"metadata-service-started.* port=(\d+)", log_file.read_text()))[1])


def wait_for(look: Callable[[], re.Match[str] | None], deadline_s: float = DEADLINE_S) -> re.Match[str]:
    deadline = time.monotonic() + deadline_s
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found
