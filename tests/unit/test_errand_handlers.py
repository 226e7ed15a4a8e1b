"""The errands of kinds `image` and `console` on their node, whoever waits for them and for how long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from random import Random

import pytest

from placet.compute_config import FakeConfig
from placet.drivers.fake import FakeDomain, FakeDriver, FakeHypervisor
from placet.errand_handlers import MAX_LINES, BringImage, ReadConsole
from placet.errand_records import ConsoleText, Errand, ImageReport
from placet.errors import Fault, Unreachable
from placet.hypervisor import Network, Owner
from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.gated_http import GatedHttp, gated_http
from tests.support.image_files import MIB, cache_at, qcow2, sha256
from tests.support.nodes import until

OWNER = Owner("cloud", "n")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GatedHttp]:
    with gated_http(qcow2(tmp_path / "far.qcow2", data=True)) as found:
        yield found


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return cache_at(tmp_path / "cache")


@pytest.fixture
def bring(cache: ImageCache) -> BringImage:
    return BringImage("n", cache, lambda: 1.0, every_s=0.02)


def errand(server: GatedHttp) -> Errand:
    return Errand("o1", "image", "test", image=ImageRef(server.url))


def test_it_tells_how_far_it_is_until_it_is_there(bring: BringImage, server: GatedHttp, tmp_path: Path) -> None:
    told: list[object] = []

    def tell(report: object) -> bool:
        told.append(report)
        if len(told) == 5:
            server.open.set()
        return True

    digest = sha256(tmp_path / "far.qcow2")
    size = (tmp_path / "far.qcow2").stat().st_size
    assert bring(errand(server), tell) == ImageReport("n", 1.0, True, None, None, digest, "qcow2", 64 * MIB, size)
    assert len(told) >= 5 and all(isinstance(report, ImageReport) and not report.done for report in told)


def test_once_the_asker_has_gone_it_answers_nobody_and_the_image_comes_all_the_same(
    bring: BringImage, cache: ImageCache, server: GatedHttp
) -> None:
    assert bring(errand(server), lambda _: False) is None
    server.open.set()
    cache.fetch(ImageRef(server.url))
    assert server.asked == 1


def test_an_etcd_that_is_away_meanwhile_does_not_end_it(bring: BringImage, server: GatedHttp) -> None:
    tries = []

    def tell(report: object) -> bool:
        tries.append(report)
        if len(tries) == 3:
            server.open.set()
        raise Unreachable("etcd is away")

    found = bring(errand(server), tell)
    assert found and found.done and len(tries) >= 3


def test_a_refusal_is_the_caches_own(bring: BringImage) -> None:
    with pytest.raises(Fault) as caught:
        bring(Errand("o1", "image", "test", image=ImageRef("ftp://example.org/a")), lambda _: True)
    assert caught.value.code == "image-refused"


def test_whoever_reads_a_console_is_given_text_and_where_to_go_on() -> None:
    machine = FakeHypervisor("uuid", {"vm": FakeDomain(OWNER, console=b"a\n\xff\n")})
    driver = FakeDriver(machine, OWNER, Network("n", "b", IPv4Network("198.19.1.0/24")), FakeConfig(), Random(1))
    read = ReadConsole("n", driver, lambda: 1.0)

    def text(lines: int, offset: int | None = None) -> ConsoleText:
        return read(Errand("o1", "console", "test", instance="vm", lines=lines, offset=offset), lambda _: True)

    assert text(1) == ConsoleText("n", "vm", 1.0, "\ufffd\n", 4)
    assert text(-5).text == "" and text(10**9).text == "a\n\ufffd\n"
    assert text(0, offset=2).text == "\ufffd\n"
    assert MAX_LINES * 1024 < 16 * MIB, "what is read at once fits into memory"


@pytest.mark.parametrize("kind", ["image", "console"])
def test_an_errand_that_names_nothing_is_refused(bring: BringImage, kind: str) -> None:
    read = ReadConsole("n", None, lambda: 1.0)  # type: ignore[arg-type]
    handle = bring if kind == "image" else read
    with pytest.raises(Fault, match="names no") as caught:
        handle(Errand("o1", kind, "test"), lambda _: True)
    assert caught.value.code == "bad-errand"


def test_it_holds_up_nobodys_end(bring: BringImage, server: GatedHttp) -> None:
    bring(errand(server), lambda _: False)
    until(lambda: server.asked, "it is under way")
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "image-errand")
