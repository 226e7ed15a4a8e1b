"""What guests tell of themselves, below /placet/v1: that they are ready, and a few words under names of their own.

    PUT    /placet/v1/ready        it has done what it was made for; said once, it stays so until the instance is gone
    PUT    /placet/v1/data/KEY     a text of at most 4 KiB in UTF-8; KEY is 1 to 64 of A-Z a-z 0-9 . _ -
    DELETE /placet/v1/data/KEY
    GET    /placet/v1/data/        the names; of one, /placet/v1/data/KEY is its text

It is kept in one small file an instance (placet/guest_records.py), from where the agent takes it to etcd.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from md_server.messages import Answer, Request, not_allowed, plainly
from md_server.rates import Rates
from placet.guest_records import PublishedFiles
from placet.log import warn
from placet.model import MAX_RECORD_BYTES, encode
from placet.node_records import Published
from placet.schema import changed

KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_KEYS = 32
MAX_VALUE_BYTES = 4 * 1024
WRITES_PER_S, WRITES_AT_ONCE = 10.0, 40


class Refusal(Exception):
    """What was asked cannot be: a status and a line that says why."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Publishing:
    """`clock` is the wall clock in seconds, `monotonic` what rates are measured by."""

    def __init__(
        self, files: PublishedFiles, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = files
        self._clock = clock
        self._monotonic = monotonic
        self._rates = Rates(WRITES_PER_S, WRITES_AT_ONCE)

    def answer(self, instance: str, request: Request, place: Sequence[str]) -> Answer:
        """The answer to one guest; `place` are the parts of the path below /placet/v1."""
        methods = _methods(place)
        if methods is None:
            return plainly(404, "not found")
        if request.method not in methods:
            return not_allowed(*methods)
        try:
            before = self._files.read(instance) or Published(instance, 0.0)
            return _told(before, place) if request.reads else self._write(before, request, place)
        except Refusal as refusal:
            return plainly(refusal.status, str(refusal))
        except OSError as problem:
            warn("not-published", instance=instance, reason=problem.strerror)
            return plainly(507, "the node cannot keep it now; try again later")

    def _write(self, before: Published, request: Request, place: Sequence[str]) -> Answer:
        if request.is_forwarded:
            raise Refusal(403, "not for a forwarded request")
        if not self._rates.take(before.instance, self._monotonic()):
            return plainly(429, f"too fast: {WRITES_PER_S:g} writes a second", Retry_After="1")
        after = _after(before, request, place, self._clock())
        if after != before:
            self._files.write(changed(after, updated_at=self._clock()))
        return plainly(200, "done")


def _methods(place: Sequence[str]) -> tuple[str, ...] | None:
    """What can be asked of a place; None for a place that is none."""
    match list(place):
        case [] | ["data"]:
            return ("GET", "HEAD")
        case ["ready"]:
            return ("GET", "HEAD", "PUT")
        case ["data", _]:
            return ("GET", "HEAD", "PUT", "DELETE")
    return None


def _told(published: Published, place: Sequence[str]) -> Answer:
    match list(place):
        case []:
            return Answer(200, b"data/\nready")
        case ["ready"]:
            if published.ready_at is None:
                raise Refusal(404, "not ready yet")
            return Answer(200, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(published.ready_at)).encode())
        case ["data", key]:
            return Answer(200, _value(published, key).encode())
    return Answer(200, "\n".join(sorted(published.data)).encode())


def _after(before: Published, request: Request, place: Sequence[str], now: float) -> Published:
    """What is published once the request is done. Raises Refusal."""
    if len(request.body) > MAX_VALUE_BYTES:
        raise Refusal(413, f"{len(request.body)} bytes, over the {MAX_VALUE_BYTES} of one value")
    if place[0] == "ready":
        return before if before.ready_at is not None else changed(before, ready_at=now)
    key = place[1]
    if request.method == "DELETE":
        _value(before, key)
        return changed(before, data={name: value for name, value in before.data.items() if name != key})
    return _with_value(before, key, request.body)


def _with_value(before: Published, key: str, body: bytes) -> Published:
    if not KEY.fullmatch(key):
        raise Refusal(400, "a key is 1 to 64 of A-Z a-z 0-9 . _ -")
    try:
        after = changed(before, data={**before.data, key: body.decode()})
    except UnicodeDecodeError as problem:
        raise Refusal(400, "a value is text in UTF-8; encode other bytes, as base64 say") from problem
    if len(after.data) > MAX_KEYS:
        raise Refusal(409, f"{MAX_KEYS} keys are there, which is all there can be; DELETE one")
    if (size := len(encode(after))) > MAX_RECORD_BYTES:
        raise Refusal(413, f"all values together make {size} bytes of JSON, over {MAX_RECORD_BYTES}")
    return after


def _value(published: Published, key: str) -> str:
    found = published.data.get(key)
    if found is None:
        raise Refusal(404, "nothing is published under this key")
    return found
