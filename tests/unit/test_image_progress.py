"""How far an instance's image is: told while it comes, by threads that hold up no worker."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from placet import fetching
from placet.errors import Fault
from placet.fetching import Fetches, Waiting
from placet.hypervisor import CachedImage
from placet.model import ImageRef, Spec
from tests.support.hostile_http import Asked, Send, Web, head
from tests.support.image_files import MIB, cache_at, limits, raw

WORDS = re.compile(r"image \d+ %, \d+ MB/s")


class Gate:
    """A page that gives half an image, one byte whenever it is nudged, and the rest when it is opened."""

    def __init__(self, web: Web, body: bytes) -> None:
        self.url = f"{web.url}/a?token=secret"
        self.nudged, self.opened = threading.Event(), threading.Event()
        self._web, self._body = web, body
        web.pages["/a?token=secret"] = self._page

    def _page(self, _asked: Asked, send: Send) -> None:
        half = len(self._body) // 2
        send(head(Content_Length=str(len(self._body))) + self._body[:half])
        while not self._web.closing.is_set() and not self.opened.is_set():
            if self.nudged.wait(0.01):
                self.nudged.clear()
                send(self._body[half : half + 1])
                half += 1
        send(self._body[half:])


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_until(self, condition: Callable[[], bool], gate: Gate) -> None:
        """Let seconds pass, and in each of them some of the image come, until a condition holds."""

        def second() -> bool:
            self.now += 1.0
            gate.nudged.set()
            return condition()

        until(second)


@pytest.fixture
def gate(web: Web, tmp_path: Path) -> Iterator[Gate]:
    found = Gate(web, raw(tmp_path / "disk", 2 * MIB).read_bytes())
    yield found
    found.opened.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def looks() -> list[str]:
    """The instances that were to be looked at again."""
    return []


@pytest.fixture
def fetches(tmp_path: Path, clock: Clock, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetches]:
    monkeypatch.setattr(fetching, "MOMENT_S", 0.0)
    found = Fetches(cache_at(tmp_path / "cache", limited=limits(timeout_s=10_000.0), clock=clock), looks.append)
    yield found
    found.close()


def spec(url: str, instance: str = "vm") -> Spec:
    return Spec(instance, "n", "name", ImageRef(url), {}, (), 0.0, "request")


def waiting(fetches: Fetches, url: str, instance: str = "vm") -> Waiting:
    with pytest.raises(Waiting) as caught:
        fetches.image(spec(url, instance))
    return caught.value


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_waits_and_each_second_brings_new_words_and_another_look(
    fetches: Fetches, gate: Gate, clock: Clock, looks: list[str]
) -> None:
    first = waiting(fetches, gate.url)
    assert (str(first), first.is_first) == (f"fetching {gate.url.partition('?')[0]}", True)

    for _ in range(2):
        looks.clear()
        clock.pass_until(lambda: bool(looks), gate)
        again = waiting(fetches, gate.url)
        assert WORDS.fullmatch(str(again))
        assert not again.is_first

    gate.opened.set()
    until(fetches._fetches["vm"].image.done)
    assert isinstance(fetches.image(spec(gate.url)), CachedImage)
    assert set(looks) == {"vm"}, "and it is looked at when the image is there"


def test_all_who_wait_for_one_image_hear_of_it(fetches: Fetches, gate: Gate, clock: Clock, looks: list[str]) -> None:
    instances = {f"vm{number}" for number in range(20)}
    for instance in instances:
        waiting(fetches, gate.url, instance)
    until(lambda: sum(len(flight.listeners) for flight in fetches._images._flights.values()) == 20)

    clock.pass_until(lambda: set(looks) == instances, gate)

    assert all(WORDS.fullmatch(str(waiting(fetches, gate.url, instance))) for instance in instances)


def test_what_is_forgotten_asks_for_no_more_looks_until_it_is_over(
    fetches: Fetches, gate: Gate, clock: Clock, looks: list[str]
) -> None:
    waiting(fetches, gate.url)
    waiting(fetches, gate.url, "other")
    fetches.forget("vm")

    clock.pass_until(lambda: bool(looks), gate)

    assert set(looks) == {"other"}


def test_a_fetch_that_fails_says_why_once_and_is_then_begun_anew(fetches: Fetches, web: Web, looks: list[str]) -> None:
    url = f"{web.url}/none"
    asked_for = threading.Event()

    def nothing(_asked: Asked, send: Send) -> None:
        assert asked_for.wait(10)
        send(head("404 Not Found", Content_Length="0"))

    web.pages["/none"] = nothing
    waiting(fetches, url)
    asked_for.set()
    until(lambda: bool(looks))

    with pytest.raises(Fault, match="HTTP 404"):
        fetches.image(spec(url))

    asked_for.clear()
    assert waiting(fetches, url).is_first
    asked_for.set()
