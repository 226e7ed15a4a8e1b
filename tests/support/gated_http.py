"""A web server on loopback that gives half of a file, and the rest when a test lets it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DEADLINE_S = 300.0


class GatedHttp:
    """Serves one file at `url`. `asked` counts requests; `open` lets all of them come to their end."""

    def __init__(self, content: bytes, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/image"
        self.content = content
        self.asked = 0
        self.open = threading.Event()


@contextlib.contextmanager
def gated_http(file: Path) -> Iterator[GatedHttp]:
    """A server that is gone in the end, as are those who wait for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gate.asked += 1
            middle = len(gate.content) // 2
            self.send_response(200)
            self.send_header("Content-Length", str(len(gate.content)))
            self.end_headers()
            self.wfile.write(gate.content[:middle])
            self.wfile.flush()
            gate.open.wait(DEADLINE_S)
            with contextlib.suppress(OSError):  # whoever asked may have gone
                self.wfile.write(gate.content[middle:])

        def log_message(self, format: str, *args: object) -> None:
            """It is quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        gate = GatedHttp(file.read_bytes(), server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield gate
        finally:
            gate.open.set()
            server.shutdown()
            thread.join(DEADLINE_S)
