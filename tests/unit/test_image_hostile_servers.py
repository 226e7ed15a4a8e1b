"""Servers that mean harm, or are badly broken: each is refused, and nothing of it is left."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.hostile_http import Asked, Page, Send, Web, answer, head, hostile_http, redirect
from tests.support.image_files import MIB, cache_at, limits, qcow2, raw, refusal, sha256


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return cache_at(tmp_path / "cache")


@pytest.fixture
def hasty(tmp_path: Path) -> ImageCache:
    """One that gives an image little time."""
    return cache_at(tmp_path / "cache", limited=limits(timeout_s=0.3))


@pytest.mark.parametrize("headers", [{}, {"Content_Length": str(1 << 40)}, {"Transfer_Encoding": "chunked"}])
def test_an_endless_body_is_cut_off(cache: ImageCache, web: Web, headers: dict[str, str]) -> None:
    sent = 0

    def endless(_asked: Asked, send: Send) -> None:
        nonlocal sent
        send(head(**headers))
        while not web.closing.is_set():
            send(b"10000\r\n" + bytes(65536) + b"\r\n" if "Transfer_Encoding" in headers else bytes(65536))
            sent += 65536

    web.pages["/big"] = endless

    assert refusal(cache, f"{web.url}/big").code == "image-too-large"
    assert sent < 64 * MIB


def drip(first: bytes, then: bytes) -> Page:
    """A page that begins at once and then sends a little a time, for ever."""

    def page(_asked: Asked, send: Send) -> None:
        send(first)
        while True:
            send(then)
            time.sleep(0.01)

    return page


def test_a_body_that_drips_runs_out_of_time(tmp_path: Path, web: Web) -> None:
    web.pages["/slow"] = drip(head(), b"x")
    cache = cache_at(tmp_path / "cache", limited=limits(timeout_s=1.0))

    assert refusal(cache, f"{web.url}/slow").code == "image-timeout"


@pytest.mark.parametrize(
    "page",
    [
        drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"", b" "),
    ],
    ids=["headers", "continues", "no status"],
)
def test_a_head_that_drips_is_cut_off(hasty: ImageCache, web: Web, page: Page) -> None:
    web.pages["/slow"] = page

    assert refusal(hasty, f"{web.url}/slow").code == "image-unreachable"


def test_a_server_that_says_nothing_is_cut_off(hasty: ImageCache, web: Web) -> None:
    web.pages["/silent"] = web.hang

    assert refusal(hasty, f"{web.url}/silent").code == "image-unreachable"


def test_one_that_falls_silent_in_the_middle_is_cut_off(hasty: ImageCache, web: Web) -> None:
    def page(asked: Asked, send: Send) -> None:
        send(head(Content_Length="1000") + b"x")
        web.hang(asked, send)

    web.pages["/silent"] = page

    assert refusal(hasty, f"{web.url}/silent").code == "image-unreachable"


def test_a_length_that_is_too_long_is_a_broken_download(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes(), Content_Length=str(2 * MIB))

    fault = refusal(cache, url)

    assert fault.code == "image-unreachable"
    assert f"{MIB} bytes too early" in str(fault)


def test_a_length_that_is_too_short_gives_an_image_that_is_cut_off(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    source = qcow2(tmp_path / "1", data=True)
    url = web.serve("/a", source.read_bytes(), Content_Length="70000")

    assert refusal(cache, url).code == "image-invalid"
    assert "sha256" in str(refusal(cache, url, checksum=sha256(source)))


@pytest.mark.parametrize(
    "answered",
    [
        b"",
        b"\0" * 1000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 70_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n\r\n12",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
    ],
    ids=lambda answered: answered[:60].split(b"\r\n\r\n")[0].decode("latin-1").replace("\r\n", " ") or "nothing",
)
def test_what_is_no_proper_answer_is_none(cache: ImageCache, web: Web, answered: bytes) -> None:
    web.pages["/a"] = lambda _asked, send: send(answered)

    assert refusal(cache, f"{web.url}/a").code == "image-unreachable"


@pytest.mark.parametrize("length", ["-5", "abc", "1e9"])
def test_a_length_that_is_none_is_passed_over(cache: ImageCache, web: Web, tmp_path: Path, length: str) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes(), Content_Length=length)

    assert cache.fetch(ImageRef(url)).virtual_size == MIB


def test_a_wrong_checksum_leaves_nothing(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    source = raw(tmp_path / "1")
    url = web.serve("/a", source.read_bytes(), ETag='"1"')

    fault = refusal(cache, url, checksum="sha256:" + hashlib.sha256(b"other").hexdigest())

    assert fault.code == "image-invalid"
    assert sha256(source)[7:] in str(fault)


def test_what_has_a_wrong_checksum_is_not_even_unpacked(cache: ImageCache, web: Web) -> None:
    url = web.serve("/a.gz", b"\x1f\x8b\x08" + b"no gzip at all")

    assert "sha256" in str(refusal(cache, url, checksum="0" * 64))


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", "image-refused"),
        ("http://[fe80::a9fe:a9fe]/", "image-refused"),
        ("//0xa9fea9fe/", "image-refused"),
        ("http://0.0.0.0:{port}/a", "image-refused"),
        ("file:///etc/passwd", "image-refused"),
        ("ftp://127.0.0.1/a", "image-refused"),
        ("http://[::1", "image-refused"),
        ("http://127.0.0.1:99999/", "image-refused"),
        ("/loop", "image-not-found"),
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_each_hop_of_a_redirect_is_checked_as_the_first(
    cache: ImageCache, web: Web, place: str, code: str, status: str
) -> None:
    web.pages["/loop"] = redirect(place.format(port=web.port), status)

    assert refusal(cache, f"{web.url}/loop").code == code


def test_a_redirect_to_a_good_place_is_followed(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    web.serve("/b c", raw(tmp_path / "1").read_bytes())
    web.pages["/b%20c"] = web.pages.pop("/b c")
    web.pages["/a"] = redirect("/b c")

    assert cache.fetch(ImageRef(f"{web.url}/a")).format == "raw"
    assert web.paths() == ["/a", "/b%20c"]


def test_a_password_goes_to_the_first_host_alone(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    with hostile_http() as other:
        other.serve("/a", raw(tmp_path / "1").read_bytes())
        web.pages["/a"] = redirect("/b")
        web.pages["/b"] = redirect(f"{other.url}/a")

        cache.fetch(ImageRef(f"{web.url.replace('//', '//me:it%27s@')}/a"))

        assert [asked.headers.get("authorization") for asked in web.asked] == ["Basic bWU6aXQncw=="] * 2
        assert "authorization" not in other.asked[0].headers


def test_a_compressed_answer_is_not_asked_for(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    cache.fetch(ImageRef(web.serve("/a", raw(tmp_path / "1").read_bytes())))

    assert web.asked[0].headers["accept-encoding"] == "identity"
    assert web.asked[0].headers["host"] == f"127.0.0.1:{web.port}"


def test_redirects_that_never_end_are_given_up(cache: ImageCache, web: Web) -> None:
    def onwards(asked: Asked, send: Send) -> None:
        place = asked.path + "x"
        web.pages[place] = onwards
        answer(send, b"", "302 Found", Location=place)

    web.pages["/x"] = onwards

    assert refusal(cache, f"{web.url}/x").code == "image-not-found"
    assert len(web.asked) == 6
