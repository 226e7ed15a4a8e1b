"""An HTTP proxy on loopback that gives a status of a test's choice to the next requests of its choice.

with faulty_http("http://127.0.0.1:8778") as proxy:
    proxy.inject(Rule("PUT", "/allocations/.*", 500))
    ...                                  # by proxy.endpoint
    assert proxy.pending == 0
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

TIMEOUT_S = 60.0
END_TO_END = ("content-type", "openstack-api-version", "x-auth-token", "accept", "x-openstack-request-id")


@dataclass(frozen=True)
class Rule:
    """`times` requests with this method and a path that matches whole get `status`. `applied` ones were passed on
    before, so that only the answer is wrong. `code` is that of Placement's errors."""

    method: str
    path: str
    status: int
    times: int = 1
    applied: bool = False
    code: str = "placement.undefined_code"

    def fits(self, method: str, path: str) -> bool:
        return method == self.method and re.fullmatch(self.path, path.partition("?")[0]) is not None


class FaultyHttp:
    """Safe to use from many threads."""

    def __init__(self, target: str, endpoint: str) -> None:
        self.endpoint = endpoint
        self._target = target
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def inject(self, rule: Rule) -> None:
        """From the next request on."""
        with self._lock:
            self._rules += [rule] * rule.times

    @property
    def pending(self) -> int:
        """How many requests are yet to get a status that was injected."""
        with self._lock:
            return len(self._rules)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body: the target's, or the injected one."""
        rule = self._take(method, path)
        if rule is None or rule.applied:
            told = requests.request(method, self._target + path, headers=headers, data=body, timeout=TIMEOUT_S)
        if rule is None:
            return told.status_code, _end_to_end(dict(told.headers)), told.content
        error = {"status": rule.status, "title": "injected", "detail": "injected by a test", "code": rule.code}
        return rule.status, {"content-type": "application/json"}, json.dumps({"errors": [error]}).encode()

    def _take(self, method: str, path: str) -> Rule | None:
        with self._lock:
            found = next((rule for rule in self._rules if rule.fits(method, path)), None)
            if found is not None:
                self._rules.remove(found)
            return found


@contextlib.contextmanager
def faulty_http(target: str) -> Iterator[FaultyHttp]:
    """A proxy before `target` for the length of a `with`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        proxy = server.proxy = FaultyHttp(target, f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def _handle(self) -> None:
        proxy: FaultyHttp = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, content = proxy.answer(self.command, self.path, _end_to_end(dict(self.headers)), body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _handle

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what a test wants to know, it asks `pending`."""


def _end_to_end(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() in END_TO_END}
