"""A TCP relay whose link can be disturbed: `relay.py FROM=HOST:PORT…`, FROM being HOST:PORT or fd:NUMBER.

`fd:NUMBER` is a bound TCP socket that was inherited: it stays in the network namespace in which it was made, which need
not be the one that this program runs and connects in. Says `ready` on stdout when it listens, ends when stdin does, and
takes commands there, one a line; each is answered by `ok` once it has taken effect:

    delay SECONDS   hold each chunk back for so long, either way
    drop            accept and keep connections, pass nothing on, either way: a silent link
    cut             close all connections, refuse new ones
    heal            undo all of these; what a silent link held is passed on then, as TCP would send it again
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Coroutine
from dataclasses import dataclass

CHUNK_BYTES = 65536


class State:
    """What is wrong with the link at the moment."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.cut = False
        self.passing = asyncio.Event()
        self.passing.set()

    async def hold(self) -> None:
        """Returns when a chunk may pass."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self.passing.wait()


@dataclass(frozen=True)
class Route:
    """Where connections come from, and where they go."""

    listener: socket.socket
    host: str
    port: int

    @classmethod
    def parse(cls, word: str) -> Route:
        source, _, target = word.partition("=")
        kind, _, port = source.rpartition(":")
        if kind == "fd":
            listener = socket.socket(fileno=int(port))
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((kind, int(port)))
        host, _, port = target.rpartition(":")
        return cls(listener, host, int(port))


class Relay:
    """The routes and the connections on them."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes
        self._state = State()
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Accept connections; does nothing when it does already."""
        if self._servers:
            return
        for route in self._routes:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, route: Route = route) -> None:
                await self._serve(route, reader, writer)

            self._servers.append(await asyncio.start_server(serve, sock=route.listener.dup()))

    async def obey(self, words: list[str]) -> None:
        """Carry out a command. Raises ValueError for what is none."""
        if words == ["heal"]:
            self._state.delay_s = 0.0
            self._state.cut = False
            self._state.passing.set()
            await self.listen()
        elif words == ["drop"]:
            self._state.passing.clear()
        elif words == ["cut"]:
            await self._cut()
        elif len(words) == 2 and words[0] == "delay":
            self._state.delay_s = float(words[1])
        else:
            raise ValueError(f"unknown command: {' '.join(words)}")

    async def _cut(self) -> None:
        self._state.cut = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        for route in self._routes:
            with contextlib.suppress(OSError):  # it does not listen already
                route.listener.shutdown(socket.SHUT_RDWR)  # on Linux it can listen again, on the same port
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state.cut:  # it was accepted just before
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        writers = [writer]
        try:
            await self._state.passing.wait()
            far_reader, far_writer = await asyncio.open_connection(route.host, route.port)
            writers.append(far_writer)
            await _first_of(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # refused, broken or cut: this side learns by the connection's end
        finally:
            self._open.discard(task)
            for each in writers:
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._state.hold()
                writer.write(chunk)
                await writer.drain()
        await self._state.hold()  # the end of a connection is news too


async def _first_of(*pumps: Coroutine[object, object, None]) -> None:
    """Runs both ways until one ends; the end of one way is taken as the connection's."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def main(words: list[str]) -> None:
    """Relay until stdin ends."""
    relay = Relay([Route.parse(word) for word in words])
    await relay.listen()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("ready", flush=True)
    while line := await commands.readline():
        try:
            await relay.obey(line.decode().split())
            print("ok", flush=True)
        except ValueError as problem:
            print(problem, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
