"""Asking nodes over etcd: progress is heard, silence is noticed, and nothing is left behind whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from placet import keys
from placet.asking import ANSWER_S, Asking
from placet.errand_records import ConsoleText, Errand, ImageReport
from placet.errors import WatchLost
from placet.model import ImageRef, decode, encode
from placet.node_records import FaultRecord
from placet.store import Event, Put, Watch
from placet.store.memory import MemoryStore

IMAGE = ImageRef("http://127.0.0.1/mini.qcow2")
DONE = ImageReport("a", 1.0, done=True, digest="sha256:" + "0" * 64, format="qcow2", virtual_size=1, size=1)


class Waiting:
    """A watch on whose every wait the next thing happens; when that is nothing, time passes."""

    def __init__(self, store: Scripted, inner: Watch) -> None:
        self._store = store
        self._inner = inner

    def wait(self, timeout_s: float) -> tuple[Event, ...]:
        happens = self._store.script.pop(0) if self._store.script else None
        if happens is None:
            self._store.now += timeout_s
        else:
            happens()
        return self._inner.wait(0)

    def close(self) -> None:
        self._inner.close()


class Scripted(MemoryStore):
    """etcd in which a test says what happens while somebody waits: `script`, one thing for each wait."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(lambda: self.now)
        self.script: list[Callable[[], object] | None] = []

    def watch(self, prefixes: Sequence[str], revision: int) -> Watch:  # type: ignore[override]
        return Waiting(self, super().watch(prefixes, revision))

    def answer(self, node: str, record: object) -> None:
        """As a node does: under the lease of the question."""
        (question,) = self.scan(keys.operations(node)).entries
        self.transact([], [Put(keys.result(node, keys.last(question.key)), encode(record), question.lease)])


@pytest.fixture
def store() -> Scripted:
    return Scripted()


@pytest.fixture
def asking(store: Scripted) -> Asking:
    identifiers = iter(range(100))
    return Asking(store, lambda: f"o{next(identifiers)}", lambda: store.now)


def test_progress_is_heard_and_the_last_word_is_the_answer(store: Scripted, asking: Asking) -> None:
    words = ["image 1 %", "image 50 %"]
    store.script = [lambda text=text: store.answer("a", ImageReport("a", 1.0, task=text)) for text in words]  # type: ignore[misc]
    store.script.append(lambda: store.answer("a", DONE))
    heard: list[tuple[str, str | None]] = []
    assert asking.images(["a"], IMAGE, lambda node, report: heard.append((node, report.task))) == {"a": DONE}
    assert heard == [("a", "image 1 %"), ("a", "image 50 %")]
    assert store.scan("").entries == ()


def test_what_is_asked_names_the_image_and_goes_to_each_node(store: Scripted, asking: Asking) -> None:
    seen: list[Errand] = []

    def look() -> None:
        for node in ("a", "b"):
            seen.extend(decode(Errand, each.value, "") for each in store.scan(keys.operations(node)).entries)
            store.answer(node, DONE)

    store.script = [look]
    assert set(asking.images(["a", "b"], IMAGE, print)) == {"a", "b"}
    assert [(errand.kind, errand.image) for errand in seen] == [("image", IMAGE)] * 2


def test_a_node_that_says_nothing_is_given_up_and_the_others_are_not(store: Scripted, asking: Asking) -> None:
    store.script = [None, lambda: store.answer("b", DONE)]
    assert asking.images(["a", "b"], IMAGE, print) == {"b": DONE}
    assert store.now == pytest.approx(1000.0 + ANSWER_S)
    assert store.scan("").entries == ()


def test_one_that_goes_on_telling_is_waited_for_as_long_as_it_takes(store: Scripted, asking: Asking) -> None:
    def tell() -> None:
        store.now += ANSWER_S - 1
        store.answer("a", ImageReport("a", store.now, task=f"image at {store.now}"))

    store.script = [*[tell] * 20, lambda: store.answer("a", DONE)]
    assert asking.images(["a"], IMAGE, lambda *_: None) == {"a": DONE}


def test_a_watch_that_is_lost_loses_no_answer(store: Scripted, asking: Asking) -> None:
    def lose() -> None:
        store.answer("a", DONE)
        raise WatchLost("the stream ended")

    store.script = [lose]
    assert asking.images(["a"], IMAGE, print) == {"a": DONE}


def test_a_fault_is_an_answer(store: Scripted, asking: Asking) -> None:
    text = ConsoleText("a", "vm", 1.0, fault=FaultRecord("no-console", "console", "it never ran"))
    store.script = [lambda: store.answer("a", text)]
    assert asking.console("a", "vm", 10, None) == text


def test_the_console_of_a_silent_node_is_no_answer(asking: Asking) -> None:
    assert asking.console("a", "vm", 10, None) is None


def test_whoever_is_interrupted_leaves_no_question_behind(store: Scripted, asking: Asking) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    store.script = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        asking.images(["a"], IMAGE, print)
    assert store.scan("").entries == ()
