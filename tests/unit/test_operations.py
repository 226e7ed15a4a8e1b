"""How a node takes what it is asked to do once: each kind at its desk, each answer under the lease of its question."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from placet import keys
from placet.errand_records import ConsoleText, Errand, ImageReport
from placet.errands import Errands
from placet.errors import Fault, NotFound, Unreachable
from placet.model import decode, encode
from placet.operations import Desk, Handler, Operations, Tell
from placet.store import Delete, Entry, Put
from placet.store.memory import MemoryStore
from tests.support.nodes import until


def says(text: str) -> Handler:
    return lambda _errand, _tell: ConsoleText("n", "vm", 1.0, text)


class Rig:
    """A node's operations whose only desk does what `handle` does; `audits` are those that the auditor got."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore(lambda: self.now)
        self.audits: list[str] = []
        self.handle = says("hello")
        errands = Errands("n", self.store)
        desk = Desk("console", "n", errands, self._handle, lambda: 1.0, threads=2)
        self.operations = Operations("n", errands, self.audits.append, {"console": desk}, lambda: 1.0)
        self.operations.start()

    def _handle(self, errand: Errand, tell: Tell) -> object:
        return self.handle(errand, tell)

    def ask(self, operation: str, value: bytes, lease: int = 0) -> None:
        self.store.transact([], [Put(keys.operation("n", operation), value, lease)])
        self.operations.ask(operation)

    def result(self, operation: str) -> bytes | None:
        entry = self.store.get(keys.result("n", operation))
        return entry.value if entry else None

    def answer(self, operation: str) -> ConsoleText:
        until(lambda: self.result(operation), "an answer")
        value = self.result(operation)
        assert value
        return decode(ConsoleText, value, "")


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.operations.close()


def console(operation: str = "o1") -> bytes:
    return encode(Errand(operation, "console", "test", instance="vm"))


def test_an_errand_is_done_and_its_answer_goes_with_the_lease_of_the_question(rig: Rig) -> None:
    lease = rig.store.grant_lease(40)
    rig.ask("o1", console(), lease)
    assert rig.answer("o1") == ConsoleText("n", "vm", 1.0, "hello")
    rig.now += 41
    assert rig.store.scan("").entries == ()


def test_audits_are_the_auditors(rig: Rig) -> None:
    rig.ask("o1", encode(Errand("o1", "audit", "doctor")))
    until(lambda: rig.audits == ["o1"], "it has it")
    assert rig.result("o1") is None, "the auditor answers itself"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"{", "bad-errand"),
        (b'{"version": 9}', "bad-errand"),
        (encode(Errand("o1", "reboot", "somebody")), "unknown-errand"),
    ],
)
def test_what_nobody_can_do_is_refused_so_that_whoever_asked_understands(rig: Rig, value: bytes, code: str) -> None:
    rig.ask("o1", value)
    fault = rig.answer("o1").fault
    assert fault and fault.code == code
    refused = decode(ImageReport, rig.result("o1") or b"", "")
    assert refused.done and refused.fault == fault, "who asked for an image understands it, too"


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (Fault("no-console", "it never ran"), "no-console", "it never ran"),
        (NotFound("no such thing"), "failed", "no such thing"),
        (ZeroDivisionError("division"), "failed", "an error that the node's log tells"),
    ],
)
def test_what_fails_is_told_with_its_reason(rig: Rig, problem: Exception, code: str, words: str) -> None:
    def fail(errand: Errand, tell: Tell) -> object:
        raise problem

    rig.handle = fail
    rig.ask("o1", console())
    fault = rig.answer("o1").fault
    assert fault and (fault.code, fault.message) == (code, words)


def test_what_is_answered_is_not_done_again(rig: Rig) -> None:
    rig.ask("o1", console())
    answered = rig.answer("o1")
    rig.handle = says("again")
    rig.operations.ask("o1")
    rig.ask("o2", console("o2"))
    assert rig.answer("o2").text == "again"
    assert rig.answer("o1") == answered


def test_what_an_agent_had_begun_and_did_not_finish_is_done_by_the_next(rig: Rig) -> None:
    begun = ImageReport("n", 1.0, done=False, task="image 43 %")
    rig.store.transact([], [Put(keys.result("n", "o1"), encode(begun))])
    rig.ask("o1", console())
    until(lambda: rig.result("o1") != encode(begun), "it is answered")
    assert rig.answer("o1").text == "hello"


def test_one_that_takes_long_holds_up_neither_others_nor_audits(rig: Rig) -> None:
    gate = threading.Event()

    def wait_if_slow(errand: Errand, tell: Tell) -> object:
        if errand.id == "slow":
            assert gate.wait(60)
        return ConsoleText("n", "vm", 1.0, errand.id)

    rig.handle = wait_if_slow
    rig.ask("slow", encode(Errand("slow", "console", "test", instance="vm")))
    rig.ask("quick", encode(Errand("quick", "console", "test", instance="vm")))
    rig.ask("audit", encode(Errand("audit", "audit", "doctor")))
    assert rig.answer("quick").text == "quick"
    until(lambda: rig.audits == ["audit"], "the auditor has it")
    assert rig.result("slow") is None
    gate.set()
    assert rig.answer("slow").text == "slow"


def test_one_that_is_named_again_while_it_is_done_is_done_once(rig: Rig) -> None:
    gate, runs = threading.Event(), []

    def count(errand: Errand, tell: Tell) -> object:
        runs.append(errand.id)
        assert gate.wait(60)
        return ConsoleText("n", "vm", 1.0)

    rig.handle = count
    rig.ask("o1", console())
    until(lambda: runs, "it is in work")
    rig.operations.ask("o1")
    rig.operations.ask("o1")
    gate.set()
    rig.answer("o1")
    rig.ask("o2", console("o2"))
    rig.answer("o2")
    assert runs == ["o1", "o2"]


@pytest.mark.parametrize("ends", ["the lease", "the question"])
def test_once_the_asker_has_gone_progress_says_so_and_nothing_is_left(rig: Rig, ends: str) -> None:
    lease = rig.store.grant_lease(40)
    told: list[bool] = []

    def work(errand: Errand, tell: Tell) -> object:
        told.append(tell(ImageReport("n", 1.0, task="image 1 %")))
        if ends == "the lease":
            rig.store.revoke_lease(lease)
        else:
            rig.store.transact([], [Delete(keys.operation("n", "o1")), Delete(keys.result("n", "o1"))])
        told.append(tell(ImageReport("n", 1.0, task="image 2 %")))
        return ConsoleText("n", "vm", 1.0)

    rig.handle = work
    rig.ask("o1", console(), lease)
    until(lambda: len(told) == 2, "it is done")
    rig.handle = says("hello")
    rig.ask("o2", console("o2"))
    rig.answer("o2")
    assert told == [True, False] and rig.result("o1") is None


def test_an_etcd_that_is_away_for_a_moment_ends_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.store.transact([], [Put(keys.operation("n", "o1"), console())])
    get, failures = rig.store.get, iter([True, False, False, True])

    def sometimes(key: str) -> Entry | None:
        if next(failures, False):
            raise Unreachable("etcd is away")
        return get(key)

    def asked_again() -> bool:
        """As each list of the watcher's does."""
        rig.operations.ask("o1")
        return get(keys.result("n", "o1")) is not None

    monkeypatch.setattr(rig.store, "get", sometimes)
    until(asked_again, "it is answered at last")
