"""Images that come by HTTP from good servers: brought once, revalidated, resumed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest

from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.hostile_http import Asked, Send, Web, answer, breaking, head
from tests.support.image_files import MIB, boot_sector, cache_at, files_of, qcow2, raw, refusal, sha256

OLD, NOW = formatdate(time.time() - 86400, usegmt=True), formatdate(time.time(), usegmt=True)


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return cache_at(tmp_path / "cache")


@pytest.fixture
def body() -> bytes:
    """A raw disk of 3 MiB, no two parts of it alike."""
    return boot_sector() + os.urandom(3 * MIB - 512)


def test_twenty_who_ask_at_once_share_one_download(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    body = qcow2(tmp_path / "a.qcow2", data=True).read_bytes()
    url = web.serve("/a.qcow2", body, ETag='"1"')
    plain, everyone_asked = web.pages["/a.qcow2"], threading.Event()

    def held_back(asked: Asked, send: Send) -> None:
        assert everyone_asked.wait(60)
        plain(asked, send)

    web.pages["/a.qcow2"] = held_back
    told: list[str] = []
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(cache.fetch, ImageRef(url), told.append) for _ in range(20)]
        deadline = time.monotonic() + 60
        while sum(len(flight.listeners) for flight in tuple(cache._flights.values())) < 20:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        everyone_asked.set()
        found = {future.result() for future in waiting}

    assert len(found) == 1
    assert found.pop().path.read_bytes() == body
    assert web.paths() == ["/a.qcow2"]
    assert told == ["image: checking"] * 20


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"ETag": 'W/"1"'}, {"Last_Modified": OLD}])
def test_a_known_url_is_only_asked_whether_it_changed(
    cache: ImageCache, web: Web, tmp_path: Path, headers: dict[str, str]
) -> None:
    url = web.serve_well("/a", raw(tmp_path / "1").read_bytes(), **headers)

    first, second = cache.fetch(ImageRef(url)), cache.fetch(ImageRef(url))

    assert first == second
    conditions = web.asked[1].headers
    assert conditions.get("if-none-match") == headers.get("ETag")
    assert conditions.get("if-modified-since") == headers.get("Last_Modified")


def test_a_server_that_knows_no_conditions_is_heard_no_further_than_its_headers(
    cache: ImageCache, web: Web, tmp_path: Path
) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes(), ETag='"1"')
    first = cache.fetch(ImageRef(url))
    web.pages["/a"] = lambda _asked, send: send(head(ETag='"1"', Content_Length=str(MIB)))

    assert cache.fetch(ImageRef(url)) == first


def test_a_url_is_downloaded_again_when_it_changed(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    url = web.serve_well("/a", raw(tmp_path / "1").read_bytes(), ETag='"1"')
    first = cache.fetch(ImageRef(url))

    web.serve_well("/a", raw(tmp_path / "2", 2 * MIB).read_bytes(), ETag='"2"')
    second = cache.fetch(ImageRef(url))

    assert (second.virtual_size, first.path.exists()) == (2 * MIB, True)
    assert cache.fetch(ImageRef(url)) == second


def test_what_a_url_had_is_remembered_over_a_restart(tmp_path: Path, web: Web) -> None:
    url = web.serve_well("/a?token=secret", raw(tmp_path / "1").read_bytes(), ETag='"1"')
    before = cache_at(tmp_path / "cache").fetch(ImageRef(url))

    assert cache_at(tmp_path / "cache").fetch(ImageRef(url)) == before
    assert web.asked[1].headers["if-none-match"] == '"1"'
    assert not any("secret" in path.read_text() for path in (tmp_path / "cache").glob("*.json"))


def test_with_a_checksum_a_cached_image_needs_no_server(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    source = raw(tmp_path / "1")
    image = ImageRef(web.serve("/a", source.read_bytes()), checksum=sha256(source))

    assert cache.fetch(image) == cache.fetch(image)
    assert cache.fetch(ImageRef("http://nowhere.invalid/b", checksum=image.checksum)) == cache.fetch(image)
    assert web.paths() == ["/a"]


def test_the_same_content_of_two_urls_is_there_once(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    content = raw(tmp_path / "1").read_bytes()
    urls = [web.serve(path, content, ETag='"1"') for path in ("/a", "/b")]

    first, second = [cache.fetch(ImageRef(url)) for url in urls]

    assert first == second
    assert [name for name in files_of(cache) if name.endswith(".raw")] == [f"{first.digest}.raw"]


def test_a_server_that_names_no_version_is_asked_for_all_each_time(cache: ImageCache, web: Web, tmp_path: Path) -> None:
    url = web.serve("/a", raw(tmp_path / "1").read_bytes())

    assert cache.fetch(ImageRef(url)).path == cache.fetch(ImageRef(url)).path
    assert "if-none-match" not in web.asked[1].headers


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"Last_Modified": OLD, "Date": NOW}])
def test_a_download_that_breaks_is_resumed_where_it_broke(
    cache: ImageCache, web: Web, body: bytes, headers: dict[str, str]
) -> None:
    web.pages["/a"] = breaking(body, MIB, MIB, **headers)
    told: list[str] = []

    found = cache.fetch(ImageRef(f"{web.url}/a"), told.append)

    assert found.path.read_bytes() == body
    assert web.ranges() == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert {asked.headers.get("if-range") for asked in web.asked[1:]} == {headers.get("ETag", OLD)}
    assert sum("trying again" in words for words in told) == 2


@pytest.mark.parametrize(
    "headers", [{}, {"ETag": 'W/"1"'}, {"Last_Modified": NOW, "Date": NOW}, {"Last_Modified": "x"}]
)
def test_what_names_no_version_for_certain_is_begun_anew(
    cache: ImageCache, web: Web, body: bytes, headers: dict[str, str]
) -> None:
    web.pages["/a"] = breaking(body, MIB, **headers)

    assert cache.fetch(ImageRef(f"{web.url}/a")).path.read_bytes() == body
    assert web.ranges() == [None, None]


def test_an_image_that_changed_while_it_broke_is_begun_anew(cache: ImageCache, web: Web, body: bytes) -> None:
    changed = bytes(reversed(body[512:]))

    def page(asked: Asked, send: Send) -> None:
        if "range" in asked.headers:  # its If-Range does not hold any more
            answer(send, boot_sector() + changed, ETag='"2"')
        else:
            send(head(ETag='"1"', Content_Length=str(len(body))) + body[:MIB])

    web.pages["/a"] = page

    assert cache.fetch(ImageRef(f"{web.url}/a")).path.read_bytes() == boot_sector() + changed


@pytest.mark.parametrize(
    ("content_range", "etag"),
    [
        ("bytes 0-99/100", '"1"'),
        (f"bytes {MIB + 1}-{3 * MIB - 1}/{3 * MIB}", '"1"'),
        (f"bytes {MIB}-{2 * MIB}/{3 * MIB}", '"1"'),
        (f"bytes {MIB}-{3 * MIB - 1}/{4 * MIB}", '"1"'),
        (f"bytes {MIB}-{3 * MIB - 1}/{3 * MIB}", '"2"'),
        ("pages 1-2", '"1"'),
        ("", '"1"'),
    ],
)
def test_a_part_that_is_not_the_rest_is_not_taken(
    cache: ImageCache, web: Web, body: bytes, content_range: str, etag: str
) -> None:
    whole = breaking(body, MIB, ETag='"1"')

    def page(asked: Asked, send: Send) -> None:
        if "range" in asked.headers:
            answer(send, bytes(2 * MIB), "206 Partial Content", Content_Range=content_range, ETag=etag)
        else:
            whole(asked, send)

    web.pages["/a"] = page

    assert cache.fetch(ImageRef(f"{web.url}/a")).path.read_bytes() == body
    assert web.ranges() == [None, f"bytes={MIB}-", None]


def test_a_server_that_breaks_off_again_and_again_is_given_up(cache: ImageCache, web: Web, body: bytes) -> None:
    web.pages["/a"] = breaking(body, *[1000] * 100)

    assert refusal(cache, f"{web.url}/a").code == "image-unreachable"
    assert len(web.asked) == 4


def test_one_that_brings_something_each_time_is_not(tmp_path: Path, web: Web) -> None:
    body = boot_sector() + os.urandom(7 * MIB - 512)
    web.pages["/a"] = breaking(body, *[MIB] * 6, ETag='"1"')

    assert cache_at(tmp_path / "cache").fetch(ImageRef(f"{web.url}/a")).path.read_bytes() == body


def test_it_waits_longer_each_time_and_never_past_the_images_time(tmp_path: Path, web: Web, body: bytes) -> None:
    web.pages["/a"] = breaking(body, *[1000] * 100)
    now, pauses = 0.0, []

    def pause(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    cache = cache_at(tmp_path / "cache", pause=pause, clock=lambda: now)

    assert refusal(cache, f"{web.url}/a").code == "image-unreachable"
    assert pauses == [1.0, 2.0, 4.0]
    now = 0.0
    pauses.clear()
    late = cache_at(tmp_path / "cache", pause=lambda _seconds: pause(9.0), clock=lambda: now)
    refusal(late, f"{web.url}/a")
    assert pauses == [9.0], "the second would end after the 10 s that an image may take"


KILLED = """
import sys
from pathlib import Path
from placet import failpoints
from placet.images import ImageCache, Limits
from placet.model import ImageRef
failpoints.arm_from_environment()
ImageCache(Path(sys.argv[1]), [], Limits()).fetch(ImageRef(sys.argv[2]))
"""


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_killed_agents_download_goes_on_unless_the_machine_was_booted_anew(
    tmp_path: Path, web: Web, body: bytes, same_boot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web.serve_well("/a", body, ETag='"1"')
    environment = {**os.environ, "PLACET_FAILPOINT": "build.image-half-fetched"}
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "cache"), url]
    assert subprocess.run(argv, env=environment, check=False).returncode == -9
    if not same_boot:
        (tmp_path / "boot_id").write_text("another\n")
        monkeypatch.setattr("placet.images.part.BOOT_ID", tmp_path / "boot_id")

    cache = cache_at(tmp_path / "cache")
    found = cache.fetch(ImageRef(url))

    assert found.path.read_bytes() == body
    resumed = [wanted for wanted in web.ranges() if wanted]
    assert len(resumed) == (1 if same_boot else 0)
    assert not list((tmp_path / "cache").glob("*.part*"))


def test_404_is_told_with_its_status(cache: ImageCache, web: Web) -> None:
    fault = refusal(cache, f"{web.url}/none.qcow2")

    assert fault.code == "image-not-found"
    assert "HTTP 404" in str(fault)


def test_no_server_is_told_without_secrets_of_the_url(cache: ImageCache) -> None:
    url = "http://me:secret@127.0.0.1:9/a?token=secret#secret"

    with pytest.raises(Exception, match=r"^image http://127\.0\.0\.1:9/a: Connection refused; ") as caught:
        cache.fetch(ImageRef(url))

    assert getattr(caught.value, "code", None) == "image-unreachable"
    assert "secret" not in str(caught.value)


def test_an_html_page_instead_of_the_image_is_no_image(cache: ImageCache, web: Web) -> None:
    assert "an HTML page" in str(refusal(cache, web.serve("/a.qcow2", b"<html>please log in</html>")))
