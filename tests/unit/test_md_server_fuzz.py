"""Whatever a guest sends, the metadata service answers in HTTP or hangs up, and tells it nothing of another guest."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from md_server.admission import Admission, Limits
from md_server.connection import Connection
from tests.support.md_server import InMemory, Wire, guest

WEB, DB, STRICT = "10.0.0.1", "10.0.0.2", "10.0.0.3"
NAMES = {WEB: "secret-of-web", DB: "secret-of-db", STRICT: "secret-of-strict"}
Asked = tuple[str, str, dict[str, str], bytes]

PARTS = st.sampled_from(
    [
        *("", "/", "//", "latest", "meta-data", "hostname", "user-data", "openstack", "2009-04-04", "meta_data.json"),
        *("api", "token", "placet", "v1", "ready", "data", "key", "..", ".", "%2f", "%", "%ff", "%00", "?", "#", "*"),
        *("public-keys", "dynamic", "instance-identity", "document", "http:", "169.254.169.254", "network", "macs"),
    ]
)
TARGETS = st.lists(PARTS | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5), max_size=7).map(
    lambda parts: "/" + "/".join(parts)
)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "TRACE", "get", "X"])
TOKEN = "X-aws-ec2-metadata-token"
HEADERS = st.dictionaries(
    st.sampled_from([TOKEN, f"{TOKEN}-ttl-seconds", "X-Forwarded-For", "X-Instance-ID", "Range", "Forwarded"]),
    st.sampled_from(["", "60", "21600", "0", "-1", "9" * 30, *NAMES, "TOKEN-OF-WEB", "TOKEN-OF-DB", "bytes=0-"]),
    max_size=3,
)
REQUESTS = st.tuples(METHODS, TARGETS, HEADERS, st.binary(max_size=40) | st.just(b"x" * 5000))


@contextmanager
def service() -> Iterator[InMemory]:
    """Three guests, each of which has published its secret as well."""
    with tempfile.TemporaryDirectory() as directory:
        found = InMemory(
            Path(directory), [guest(name, ip, "required" if ip == STRICT else "optional") for ip, name in NAMES.items()]
        )
        for ip, name in NAMES.items():
            token = {"X_aws_ec2_metadata_token": token_of(found, ip)}
            assert found.ask(ip, "PUT", "/placet/v1/data/key", name.encode(), **token).status == 200
        yield found


def token_of(found: InMemory, ip: str) -> str:
    ttl = {"X_aws_ec2_metadata_token_ttl_seconds": "60"}
    return found.ask(ip, "PUT", "/latest/api/token", b"", **ttl).body.decode()


def told(found: InMemory, source: str, pieces: Sequence[bytes]) -> bytes:
    """All that comes back to one who sends these pieces."""

    async def feed() -> bytes:
        wire, admission = Wire(source), Admission(Limits())
        connection = Connection(found.answers.answer, admission)
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
            await asyncio.sleep(0)
        if not wire.closed:
            connection.eof_received()
        while not (wire.closed or wire.reading):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        assert not admission.open
        return wire.written

    return asyncio.run(feed())


def check_secrets(source: str, received: bytes) -> None:
    for ip, name in NAMES.items():
        may_hear = ip == source and ip != STRICT  # which needs a token, and never has one of its own
        assert may_hear or name.encode() not in received, f"{source} hears of {ip}"


class _Stream(io.BytesIO):
    def close(self) -> None:
        """An answer's end is not the connection's."""


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*NAMES, "10.9.9.9"]), st.lists(REQUESTS, min_size=1, max_size=6), st.integers(1, 50))
def test_any_requests_get_answers_in_their_order(source: str, asked: list[Asked], piece_bytes: int) -> None:
    with service() as found:
        tokens = {"TOKEN-OF-WEB": token_of(found, WEB), "TOKEN-OF-DB": token_of(found, DB)}
        sent = b"".join(_request(each, tokens) for each in asked)
        received = told(found, source, [sent[at : at + piece_bytes] for at in range(0, len(sent), piece_bytes)])
        before = found.files.read(guest("x", DB).instance)
        assert before is not None and (source == DB or before.data == {"key": NAMES[DB]}), "nobody writes for another"
    check_secrets(source, received)
    stream = _Stream(received)
    for method, *_ in asked:
        answer = HTTPResponse(cast(Any, _Socket(stream)), method=method)
        answer.begin()
        assert 200 <= answer.status < 600 and answer.status not in (500, 507)
        answer.read()
        assert answer.isclosed(), "the whole body is there"
    assert stream.read() == b""


class _Socket:
    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._stream


def _request(asked: Asked, tokens: dict[str, str]) -> bytes:
    method, target, headers, body = asked
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {tokens.get(value, value)}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


PIECES = st.sampled_from(
    [
        *(b"GET /latest/user-data HTTP/1.1\r\n", b"HEAD /a HTTP/1.0\r\n", b"PUT /latest/api/token HTTP/1.1\r\n"),
        *(b"PUT /placet/v1/data/key HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n", b"\n", b"Content-Length: 3\r\n"),
        *(b"Content-Length: -1\r\n", b"abc", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"),
        *(b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"CONNECT x:1 HTTP/1.1\r\n"),
        *(b"X-Forwarded-For: 10.0.0.2\r\n", b" folded\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"\0", b"X-A: \xff\r\n"),
    ]
)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(list(NAMES)), st.lists(PIECES | st.binary(max_size=20), max_size=15))
def test_any_bytes_in_any_pieces_end_in_answers_or_silence(source: str, pieces: list[bytes]) -> None:
    with service() as found:
        received = told(found, source, pieces)
    assert received == b"" or received.startswith(b"HTTP/1.1 ")
    check_secrets(source, received)


def test_the_fuzz_would_see_a_leak() -> None:
    with service() as found:
        received = told(found, DB, [b"GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert NAMES[DB].encode() in received
