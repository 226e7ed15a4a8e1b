"""What a request gets: the step between a parsed request and the bytes of the answer. Pure but for the lookup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from md_server.tokens import MAX_TTL_S, MIN_TTL_S, Tokens
from placet import metadata
from placet.metadata import GuestRecord

TOKEN_PATH = "/latest/api/token"  # noqa: S105  (a path)
TOKEN_HEADER = b"x-aws-ec2-metadata-token"
TTL_HEADER = b"x-aws-ec2-metadata-token-ttl-seconds"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """`source` is the IP the socket comes from; header names are in lower case; `target` is as it was sent."""

    source: str
    method: str
    target: str
    headers: Mapping[bytes, bytes]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


def plainly(status: int, words: str, **headers: str) -> Answer:
    """An answer in words; `headers` with underscores for dashes."""
    return Answer(status, f"{words}\n".encode(), headers={name.replace("_", "-"): v for name, v in headers.items()})


class Answers:
    """`find_guest` tells whose an IP is; `now` is the wall clock in seconds."""

    def __init__(
        self, find_guest: Callable[[str], GuestRecord | None], tokens: Tokens, now: Callable[[], float]
    ) -> None:
        self._find_guest = find_guest
        self._tokens = tokens
        self._now = now

    def answer(self, request: Request) -> Answer:
        """The answer to any request; never raises on account of what is in it."""
        guest = self._find_guest(request.source)
        if guest is None:
            return plainly(404, "no instance has this address")
        path = unquote(request.target.partition("?")[0])
        if request.method == "PUT" and path == TOKEN_PATH:
            return self._issue_token(guest, request)
        if request.method not in ("GET", "HEAD"):
            return plainly(405, "GET and HEAD only", Allow="GET, HEAD")
        if not path.startswith("/openstack") and not self._admitted(guest, request):
            return plainly(401, f"a valid token is needed: PUT {TOKEN_PATH}")
        found = metadata.find(metadata.tree(guest), path)
        if found is None:
            return plainly(404, "not found")
        return Answer(200, found, JSON if path.endswith(".json") else TEXT)

    def _issue_token(self, guest: GuestRecord, request: Request) -> Answer:
        """A PUT that came through a proxy is not the guest's own: it would carry the token out."""
        if b"x-forwarded-for" in request.headers:
            return plainly(403, "no token for a forwarded request")
        wanted = request.headers.get(TTL_HEADER, b"")
        if not (wanted.isdigit() and len(wanted) <= 5 and MIN_TTL_S <= int(wanted) <= MAX_TTL_S):
            return plainly(400, f"{TTL_HEADER.decode()}: {MIN_TTL_S} to {MAX_TTL_S} expected")
        token = self._tokens.issue(guest.instance, int(wanted), self._now())
        return Answer(200, token.encode(), headers={TTL_HEADER.decode(): wanted.decode()})

    def _admitted(self, guest: GuestRecord, request: Request) -> bool:
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            return guest.metadata_tokens != "required"
        return self._tokens.valid(token, guest.instance, self._now())
