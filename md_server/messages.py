"""Requests and answers as values, between the connection that carries them and the parts that decide. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
FORWARDED = b"x-forwarded-for"


@dataclass(frozen=True)
class Request:
    """`source` is the IP the socket comes from; header names are in lower case; `target` is as it was sent."""

    source: str
    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes = b""

    @property
    def reads(self) -> bool:
        return self.method in ("GET", "HEAD")

    @property
    def is_forwarded(self) -> bool:
        """Whether it came through a proxy: then it is not the guest's own doing."""
        return FORWARDED in self.headers

    @property
    def path(self) -> tuple[str, ...]:
        """The parts of its path: slashes doubled or at the end do not matter, a malformed escape stands for itself.

        The form with a whole URL, which a server must take too (RFC 9112, 3.2.2), is its path.
        """
        target = self.target.partition("?")[0]
        if target.lower().startswith("http://"):
            target = target[len("http://") :].partition("/")[2]
        return tuple(part for part in unquote(target).split("/") if part)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


def plainly(status: int, words: str, **headers: str) -> Answer:
    """An answer in words; `headers` with underscores for dashes."""
    return Answer(status, f"{words}\n".encode(), headers={name.replace("_", "-"): v for name, v in headers.items()})


def not_allowed(*methods: str) -> Answer:
    """405, and which methods there are."""
    return plainly(405, f"{', '.join(methods)} only", Allow=", ".join(methods))
