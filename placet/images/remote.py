"""An image that comes by http or https."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit

from placet.errors import Fault
from placet.images.transfer import Source, Transfer, shown

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 30.0
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 20


@contextmanager
def opened(url: str, timeout_s: float) -> Iterator[Source]:
    """The answer to a GET of `url`, its headers read and its body not yet. Raises Fault when it is not there.

    `timeout_s` is for the whole image: a server may not be silent for longer either.
    """
    # requests takes 100 ms to import: a node whose images are local files never pays for it
    import requests  # noqa: PLC0415
    import urllib3  # noqa: PLC0415

    name = shown(url)
    with requests.Session() as session:
        try:
            with _followed(session, url, name, min(SILENCE_TIMEOUT_S, timeout_s)) as response:
                _check_status(name, response.status_code)
                yield RemoteSource(url, response)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:  # requests lets some through
            raise unreachable(name, problem) from problem


class RemoteSource:
    """See `transfer.Source`."""

    def __init__(self, url: str, response: requests.Response) -> None:
        self._response = response
        validators = [response.headers.get(name, "") for name in ("ETag", "Last-Modified")]
        length = response.headers.get("Content-Length", "")
        self.identity: str | None = "\0".join([url, *validators, length]) if any(validators) else None

    def copy_to(self, target: BinaryIO, transfer: Transfer) -> None:
        body = self._response.raw
        transfer.expect(body.length_remaining)
        # read1 returns what is there: a server that drips is seen by the transfer's limits with each drop
        while chunk := body.read1(CHUNK_BYTES, decode_content=False):
            target.write(chunk)
            transfer.advance(len(chunk))


def unreachable(name: str, problem: Exception) -> Fault:
    """The fault of a server that does not answer, or breaks off."""
    cause = problem.args[0] if problem.args else problem
    reason = str(getattr(cause, "reason", cause)) or type(problem).__name__
    return Fault(
        "image-unreachable", f"image {name}: {reason}; check the URL and this node's way to it, then try again"
    )


def _followed(session: requests.Session, url: str, name: str, silence_s: float) -> requests.Response:
    place = url
    for _ in range(MAX_REDIRECTS + 1):
        _check_host(name, place)
        response = session.get(
            place,
            stream=True,
            allow_redirects=False,
            timeout=(min(CONNECT_TIMEOUT_S, silence_s), silence_s),
            headers={"Accept-Encoding": "identity"},
        )
        if not response.is_redirect:
            return response
        response.close()
        place = urljoin(place, response.headers["Location"])
    raise Fault("image-not-found", f"image {name}: more than {MAX_REDIRECTS} redirects; give the address they lead to")


def _check_host(name: str, place: str) -> None:
    """Cheap, and no wall: what the name means may change until the connection is made."""
    host = _host(place)
    if host is None:
        raise Fault("image-refused", f"image {name}: {shown(place)} is no http or https URL with a host")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # a proxy may know it; if not, the request says so
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).split("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        if (mapped or ip).is_link_local:
            raise Fault("image-refused", f"image {name}: {host} is {ip}, a link-local address; those are never asked")


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


def _check_status(name: str, status: int) -> None:
    if status == 200:
        return
    if status >= 500:
        raise Fault("image-unreachable", f"image {name}: the server answered HTTP {status}; try again later")
    raise Fault("image-not-found", f"image {name}: HTTP {status}; check the URL, curl should get it without a login")
