"""What a request gets: the step between a parsed request and the bytes of the answer. Pure but for what it is given."""

from __future__ import annotations

from collections.abc import Callable

from md_server.documents import Documents
from md_server.messages import JSON, TEXT, Answer, Request, not_allowed, plainly
from md_server.publishing import Publishing
from md_server.tokens import MAX_TTL_S, MIN_TTL_S, Tokens
from placet.metadata import GuestRecord

TOKEN_PLACE = ("latest", "api", "token")
TOKEN_HEADER = b"x-aws-ec2-metadata-token"
TTL_HEADER = b"x-aws-ec2-metadata-token-ttl-seconds"
PUBLISHING_PLACE = ("placet", "v1")


class Answers:
    """`find_guest` tells whose an IP is; `now` is the wall clock in seconds."""

    def __init__(
        self,
        find_guest: Callable[[str], GuestRecord | None],
        tokens: Tokens,
        publishing: Publishing,
        now: Callable[[], float],
    ) -> None:
        self._find_guest = find_guest
        self._tokens = tokens
        self._publishing = publishing
        self._documents = Documents()
        self._now = now

    def answer(self, request: Request) -> Answer:
        """The answer to any request; never raises on account of what is in it."""
        guest = self._find_guest(request.source)
        if guest is None:
            return plainly(404, "no instance has this address")
        place = request.path
        if place == TOKEN_PLACE:
            return self._issue_token(guest, request) if request.method == "PUT" else not_allowed("PUT")
        is_publishing = place[:2] == PUBLISHING_PLACE
        if not (is_publishing or request.reads):
            return not_allowed("GET", "HEAD")
        if not self._admitted(guest, request):
            return plainly(401, f"a valid token is needed: PUT /{'/'.join(TOKEN_PLACE)}")
        if is_publishing:
            return self._publishing.answer(guest.instance, request, place[2:])
        return self._document(guest, place)

    def _document(self, guest: GuestRecord, place: tuple[str, ...]) -> Answer:
        found = self._documents.find(guest, place)
        if found is None:
            return plainly(404, "not found")
        return Answer(200, found, JSON if place and place[-1].endswith(".json") else TEXT)

    def _issue_token(self, guest: GuestRecord, request: Request) -> Answer:
        """A PUT that came through a proxy is not the guest's own: it would carry the token out."""
        if request.is_forwarded:
            return plainly(403, "no token for a forwarded request")
        wanted = request.headers.get(TTL_HEADER, b"")
        if not (wanted.isdigit() and len(wanted) <= 5 and MIN_TTL_S <= int(wanted) <= MAX_TTL_S):
            return plainly(400, f"{TTL_HEADER.decode()}: {MIN_TTL_S} to {MAX_TTL_S} expected")
        token = self._tokens.issue(guest.instance, int(wanted), self._now())
        return Answer(200, token.encode(), headers={TTL_HEADER.decode(): wanted.decode()})

    def _admitted(self, guest: GuestRecord, request: Request) -> bool:
        """A token that is no good is refused also where none is needed."""
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            return guest.metadata_tokens != "required"
        return self._tokens.valid(token, guest.instance, self._now())
