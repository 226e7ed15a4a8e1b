"""One HTTP request over a connection to the very address that was checked: no name is looked up twice.

The standard library's HTTP is told nothing of addresses: it gets a socket that is connected already, and the host's
name for its Host header; TLS checks the certificate against that name too. A server that takes for ever, be it byte
by byte, is cut off when the image's time is over.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from placet import __version__
from placet.images.addresses import HostRules, Ip
from placet.images.places import Place, proxy_for
from placet.images.transfer import Journey, one_line

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 30.0
GRACE_S = 5.0  # who sends slowly is told of by the transfer, with how far it came; the cut is for who says nothing


CUT_OFF = "it did not come to its end in time"


class Broken(Exception):
    """The connection cannot be made, broke off, or spoke no HTTP; the message says how."""


@dataclass
class Answer:
    """The head of a server's answer; `read` gives its body, as it comes over the wire."""

    response: http.client.HTTPResponse
    cut_off: threading.Event

    @property
    def status(self) -> int:
        """HTTP's."""
        return self.response.status

    def header(self, name: str) -> str:
        """The first one of this name, "" when there is none."""
        return str(self.response.headers.get(name, ""))

    @property
    def left(self) -> int | None:
        """How many bytes are still to come, None when the server does not say."""
        return self.response.length

    def read(self, most: int) -> bytes:
        """What is there, at most `most` bytes; b"" at the end. Raises Broken."""
        try:
            found = self.response.read1(most)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise Broken(_reason(problem)) from problem
        if not found and self.cut_off.is_set():
            raise Broken(CUT_OFF)
        if not found and self.response.length:
            raise Broken(f"it ended {self.response.length} bytes too early")
        return found


@contextlib.contextmanager
def answer_of(place: Place, headers: Mapping[str, str], rules: HostRules, journey: Journey) -> Iterator[Answer]:
    """The answer to a GET of `place`, its head read. Raises Fault `image-refused`, Broken."""
    rules.check_host(journey.name, place.host)
    with contextlib.ExitStack() as stack:
        try:
            answer = _ask(stack, place, headers, rules, journey)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise Broken(_reason(problem)) from problem
        yield answer


def _ask(
    stack: contextlib.ExitStack, place: Place, headers: Mapping[str, str], rules: HostRules, journey: Journey
) -> Answer:
    proxy = proxy_for(place)
    addresses = _addresses(place, rules, journey.name, must=proxy is None)
    if proxy is not None:
        addresses = _look_up(proxy)
    plain = stack.enter_context(_connected(addresses, (proxy or place).port, journey))
    cut_off = stack.enter_context(_cut_off_in_the_end(plain, journey))
    if proxy is not None and place.scheme == "https":
        _open_tunnel(plain, place, proxy)
    wire = plain
    if place.scheme == "https":
        wire = stack.enter_context(ssl.create_default_context().wrap_socket(plain, server_hostname=place.host))
    connection = http.client.HTTPConnection(place.host, place.port)
    connection.sock = wire
    through = proxy if place.scheme == "http" else None
    connection.request("GET", place.url if through else place.target, headers=_headers(place, through, headers))
    response = stack.enter_context(connection.getresponse())
    if len(set(response.headers.get_all("Content-Length", []))) > 1:
        raise http.client.HTTPException("it gives two lengths")
    if cut_off.is_set():  # which looked like the end of the headers
        raise http.client.HTTPException(CUT_OFF)
    return Answer(response, cut_off)


def _headers(place: Place, proxy: Place | None, headers: Mapping[str, str]) -> dict[str, str]:
    found = {
        "Host": place.host_header,
        "User-Agent": f"placet/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if place.authorization:
        found["Authorization"] = place.authorization
    if proxy is not None and proxy.authorization:
        found["Proxy-Authorization"] = proxy.authorization
    return {**found, **headers}


def _addresses(place: Place, rules: HostRules, name: str, must: bool) -> list[Ip]:
    """Where the host is, all of it checked; `must` is False where a proxy may know a name that this node does not."""
    try:
        found = _look_up(place)
    except OSError:
        if must:
            raise
        return []
    for address in found:
        rules.check_address(name, place.host, address)
    return found


def _look_up(place: Place) -> list[Ip]:
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except UnicodeError as problem:
        raise OSError(f"{place.host!r} is no host's name") from problem
    return list(dict.fromkeys(ipaddress.ip_address(str(address[0])) for *_, address in found))


def _connected(addresses: list[Ip], port: int, journey: Journey) -> socket.socket:
    problem: OSError = OSError("it has no address")
    silence_s = min(SILENCE_TIMEOUT_S, journey.limits.timeout_s)
    for address in addresses:
        try:
            found = socket.create_connection((str(address), port), min(CONNECT_TIMEOUT_S, silence_s))
        except OSError as failed:
            problem = failed
            continue
        found.settimeout(silence_s)
        return found
    raise problem


@contextlib.contextmanager
def _cut_off_in_the_end(wire: socket.socket, journey: Journey) -> Iterator[threading.Event]:
    """Whatever the server does, reads end when the image's time does; the event tells that they did."""
    cut_off = threading.Event()

    def cut() -> None:
        cut_off.set()
        with contextlib.suppress(OSError):  # the server was quicker
            handle.shutdown(socket.SHUT_RDWR)

    with wire.dup() as handle:  # stays that of this connection when TLS takes the socket over
        left_s = max(0.0, journey.remaining_s) + min(GRACE_S, journey.limits.timeout_s)
        timer = threading.Timer(left_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield cut_off
        finally:
            timer.cancel()
            timer.join()


def _open_tunnel(wire: socket.socket, place: Place, proxy: Place) -> None:
    """https://www.rfc-editor.org/rfc/rfc9110#name-connect"""
    lines = [f"CONNECT {place.authority} HTTP/1.1", f"Host: {place.authority}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    wire.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    with http.client.HTTPResponse(wire, method="CONNECT") as response:
        response.begin()
        if response.status != 200:
            raise http.client.HTTPException(f"the proxy {proxy.host} answered HTTP {response.status}")


def _reason(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not valid to this node: {problem.verify_message}"
    if isinstance(problem, TimeoutError):
        return "it is silent"
    if isinstance(problem, http.client.RemoteDisconnected):
        return "it ended without an answer"
    if isinstance(problem, (http.client.HTTPException, ValueError)):
        return one_line(f"it does not speak proper HTTP ({type(problem).__name__}: {problem}", 200) + ")"
    return one_line(str(getattr(problem, "strerror", None) or problem or type(problem).__name__), 200)
