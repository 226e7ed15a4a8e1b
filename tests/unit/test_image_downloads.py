"""Images that come by HTTP, from a real server on loopback that is not always kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from placet.errors import Fault
from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.image_files import MIB, qcow2, raw, refusal, sha256


@dataclass
class Web:
    """An HTTP server on loopback: `pages` by path; a page is a function that writes its whole answer."""

    url: str
    pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def serve(self, path: str, body: bytes, **headers: str) -> str:
        def page(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(body)

        self.pages[path] = page
        return self.url + path


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            page = found.pages.get(self.path)
            if page is None:
                self.send_error(404)
            else:
                page(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that hang up are what several tests are about

    server = Server(("127.0.0.1", 0), Handler)
    found = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache", [], max_bytes=8 * MIB, timeout_s=10)


def test_twenty_who_ask_at_once_share_one_download(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    body = qcow2(tmp_path / "a.qcow2", data=True).read_bytes()
    url = web.serve("/a.qcow2", body, ETag='"1"')
    plain, everyone_asked = web.pages["/a.qcow2"], threading.Event()

    def held_back(request: BaseHTTPRequestHandler) -> None:
        assert everyone_asked.wait(5)
        plain(request)

    web.pages["/a.qcow2"] = held_back
    told: list[str] = []
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(cache.fetch, ImageRef(url), told.append) for _ in range(20)]
        deadline = time.monotonic() + 5
        while len(cache._flights[url, None].listeners if cache._flights else ()) < 20:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        everyone_asked.set()
        found = {future.result() for future in waiting}

    assert len(found) == 1
    assert found.pop().path.read_bytes() == body
    assert web.asked == ["/a.qcow2"]


def test_a_url_is_downloaded_again_only_when_the_server_says_it_changed(
    cache: ImageCache, web: Web, tmp_path: Path
) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes(), ETag='"1"')
    first = cache.fetch(ImageRef(url))
    inode = first.path.stat().st_ino

    assert cache.fetch(ImageRef(url)) == first
    assert first.path.stat().st_ino == inode

    web.serve("/a", raw(tmp_path / "2", 2 * MIB).read_bytes(), ETag='"2"')
    assert cache.fetch(ImageRef(url)).virtual_size == 2 * MIB


def test_with_a_checksum_a_cached_image_needs_no_server(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    source = raw(tmp_path / "1")
    image = ImageRef(web.serve("/a", source.read_bytes()), checksum=sha256(source))

    assert cache.fetch(image) == cache.fetch(image)
    assert web.asked == ["/a"]


def test_a_server_that_names_no_version_still_gives_an_image(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes())

    assert cache.fetch(ImageRef(url)).path == cache.fetch(ImageRef(url)).path


def test_404_is_told_with_its_status(cache: ImageCache, web: Web) -> None:
    fault = refusal(cache, f"{web.url}/none.qcow2")

    assert fault.code == "image-not-found"
    assert "HTTP 404" in str(fault)


def test_no_server_is_told_without_secrets_of_the_url(cache: ImageCache) -> None:
    with pytest.raises(Fault, match="refused") as caught:
        cache.fetch(ImageRef("http://me:secret@127.0.0.1:9/a?token=secret"))

    assert caught.value.code == "image-unreachable"
    assert "secret" not in str(caught.value)


def test_an_html_page_instead_of_the_image_is_no_image(cache: ImageCache, web: Web) -> None:
    url = web.serve("/a.qcow2", b"<html>please log in</html>")

    assert "an HTML page" in str(refusal(cache, url))


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_cut_off(cache: ImageCache, web: Web, announced: bool) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        if announced:
            request.send_header("Content-Length", str(1 << 40))
        request.end_headers()
        while True:
            request.wfile.write(bytes(65536))
            sent += 65536

    web.pages["/big"] = endless

    assert refusal(cache, f"{web.url}/big").code == "image-too-large"
    assert sent < 64 * MIB


def test_a_body_that_breaks_off_is_not_taken(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes(), Content_Length=str(2 * MIB))

    assert refusal(cache, url).code == "image-unreachable"


def test_a_server_that_drips_runs_out_of_time(tmp_path: Path, web: Web) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(500):
            request.wfile.write(b"x")
            time.sleep(0.01)

    web.pages["/slow"] = drip
    started = time.monotonic()

    fault = refusal(ImageCache(tmp_path / "cache", [], 8 * MIB, timeout_s=0.1), f"{web.url}/slow")

    assert fault.code == "image-timeout"
    assert time.monotonic() - started < 2


def test_redirects_are_followed_but_not_to_link_local_addresses_or_other_schemes(
    cache: ImageCache, web: Web, tmp_path: Path
) -> None:
    def to(place: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def page(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", place)
            request.send_header("Content-Length", "0")
            request.end_headers()

        return page

    web.serve("/a", raw(tmp_path / "1").read_bytes())
    places = {"/good": "/a", "/md": "http://169.254.169.254/latest", "/file": "file:///etc/passwd", "/loop": "/loop"}
    web.pages.update({path: to(place) for path, place in places.items()})

    codes = [refusal(cache, web.url + path).code for path in ("/md", "/file", "/loop")]

    assert codes == ["image-refused", "image-refused", "image-not-found"]
    assert cache.fetch(ImageRef(f"{web.url}/good")).format == "raw"


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::a9fe:a9fe]", "[::ffff:169.254.169.254]", "2852039166"])
def test_link_local_addresses_are_never_asked(cache: ImageCache, host: str) -> None:
    assert refusal(cache, f"http://{host}/latest/meta-data").code == "image-refused"


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a..b/x", "https:///x"])
def test_malformed_urls_are_faults(cache: ImageCache, url: str) -> None:
    assert refusal(cache, url).code in ("image-refused", "image-unreachable")
