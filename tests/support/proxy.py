"""A TCP link on loopback that a test can cut, silence, slow down and heal: between one process and its etcd."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

CHUNK = 65536
DEADLINE_S = 60.0


class Link:
    """Connections to `port` go on to `target`, byte for byte. Its methods come from any thread and act at once."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._delay_s = 0.0
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._loop = asyncio.new_event_loop()

    def cut(self) -> None:
        """Every connection is reset; new ones pass."""
        self._run(self._reset)

    def refuse(self) -> None:
        """Every connection is reset, and each new one too, until `heal`."""
        self._run(lambda: setattr(self, "_refusing", True))
        self._run(self._reset)

    def silence(self) -> None:
        """Connections stay, new ones are taken, and no byte passes until `heal`: then it goes on, as on a link that
        lost packets."""
        self._run(self._passing.clear)

    def delay(self, seconds: float) -> None:
        """Each piece that passes is held back for so long."""
        self._run(lambda: setattr(self, "_delay_s", seconds))

    def heal(self) -> None:
        """Everything passes as it did at first."""
        self._run(self._heal)

    @contextlib.contextmanager
    def running(self) -> Iterator[Link]:
        """Serve in a thread of its own."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._run(server.close)
            self._run(self._end)
            thread.join(DEADLINE_S)
            self._loop.close()

    def _run(self, act: Callable[[], object]) -> None:
        """In the loop's thread, and done when this returns."""
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(DEADLINE_S), "the link's thread does not answer"

    def _heal(self) -> None:
        self._refusing, self._delay_s = False, 0.0
        self._passing.set()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _end(self) -> None:
        """What is under way is dropped, and the loop stops once it has seen that."""
        running = asyncio.all_tasks(self._loop)
        for task in running:
            task.cancel()
        asyncio.gather(*running, return_exceptions=True).add_done_callback(lambda _: self._loop.stop())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        ends = {writer}  # this one before there is the other: a reset is for it, too
        self._writers |= ends
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            ends.add(far_writer)
            self._writers |= ends
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # refused, reset or ended: whoever is at an end learns it by the connection's
        finally:
            self._writers -= ends
            for each in ends:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on until one side ends, which ends both: gRPC never closes half a connection."""
        while piece := await reader.read(CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._passing.wait()
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError("ended")


@contextlib.contextmanager
def link_to(target: int) -> Iterator[Link]:
    """A link to a port of 127.0.0.1."""
    with Link(target).running() as link:
        yield link
