"""When a node audits itself, and how it answers whoever asks for it over etcd."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from placet import keys
from placet.asking import Asking
from placet.auditor import EVERY_S, Auditor
from placet.errand_records import AuditReport, Errand
from placet.errors import Unreachable
from placet.findings import finding
from placet.model import decode, encode
from placet.store import Put
from placet.store.memory import MemoryStore

REPORT = AuditReport("n", "cloud", 1.0, (finding("stray", "vm", "…", "n"),))


class Sweep:
    """What stands in for a node's audit: it counts, and does `then`."""

    def __init__(self) -> None:
        self.runs: list[tuple[bool, bool]] = []
        self.then: Callable[[], object] = lambda: None

    def run(self, repair: bool = True, accept: bool = False) -> AuditReport:
        self.runs.append((repair, accept))
        self.then()
        return REPORT


class Rig:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore(lambda: self.now)
        self.sweep = Sweep()
        any_sweep: Any = self.sweep
        self.auditor = Auditor("n", self.store, any_sweep, lambda: self.now, Random(1))

    def due_in(self) -> float:
        return self.auditor._due - self.now

    def operation(self, value: bytes, lease: int = 0) -> str:
        self.store.transact([], [Put(keys.operation("n", "o1"), value, lease)])
        return "o1"

    def result(self) -> bytes | None:
        entry = self.store.get(keys.result("n", "o1"))
        return entry.value if entry else None


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_audit_is_due_at_once_and_the_next_in_about_a_minute(rig: Rig) -> None:
    assert rig.due_in() == 0.0
    rig.auditor.step(None)
    assert rig.sweep.runs == [(True, False)], "it mends, and accepts no etcd that is in doubt"
    assert 0.9 * EVERY_S <= rig.due_in() <= 1.1 * EVERY_S


def test_in_a_large_cloud_each_node_audits_itself_more_seldom(rig: Rig) -> None:
    for number in range(4000):
        rig.store.transact([], [Put(keys.alive(f"n{number}"), b"{}")])
    rig.auditor.step(None)
    assert 180 <= rig.due_in() <= 220


def test_a_hurry_makes_it_due_now_also_when_it_comes_during_an_audit(rig: Rig) -> None:
    rig.auditor.step(None)
    rig.auditor.hurry()
    assert rig.due_in() == 0.0
    rig.sweep.then = rig.auditor.hurry
    rig.auditor.step(None)
    assert rig.due_in() == 0.0


def test_an_answer_lives_and_ends_with_the_lease_of_the_question(rig: Rig) -> None:
    lease = rig.store.grant_lease(40)
    rig.auditor.step(rig.operation(encode(Errand("o1", "audit", "doctor")), lease))
    assert rig.sweep.runs == [(False, False)]
    value = rig.result()
    assert value and decode(AuditReport, value, "") == REPORT
    rig.now += 41
    assert rig.result() is None


def test_only_who_asks_for_repair_gets_it_and_accepts_the_etcd(rig: Rig) -> None:
    rig.auditor.step(rig.operation(encode(Errand("o1", "audit", "doctor", repair=True))))
    assert rig.sweep.runs == [(True, True)]


def test_one_question_is_answered_once(rig: Rig) -> None:
    operation = rig.operation(encode(Errand("o1", "audit", "doctor")))
    rig.auditor.step(operation)
    rig.auditor.step(operation)
    rig.auditor.step("never-asked")
    assert len(rig.sweep.runs) == 1


@pytest.mark.parametrize("value", [b"{", b'{"version": 9}', encode(Errand("o1", "reboot", "somebody"))])
def test_what_is_no_question_for_an_audit_starts_none(rig: Rig, value: bytes) -> None:
    rig.auditor.step(rig.operation(value))
    assert rig.sweep.runs == [] and rig.result() is None


def test_nobody_is_answered_who_has_gone_meanwhile(rig: Rig) -> None:
    lease = rig.store.grant_lease(40)
    rig.sweep.then = lambda: rig.store.revoke_lease(lease)
    rig.auditor.step(rig.operation(encode(Errand("o1", "audit", "doctor")), lease))
    assert len(rig.sweep.runs) == 1 and rig.store.scan("").entries == ()


def asking(rig: Rig) -> Asking:
    return Asking(rig.store, lambda: "o1", lambda: rig.now)


def answer(rig: Rig, value: bytes) -> None:
    """Let the answer be there as soon as the question is."""
    transact = rig.store.transact

    def answered(compares: Any, operations: Any) -> bool:
        (put,) = operations
        return transact(compares, [put, Put(keys.result("n", "o1"), value, put.lease)])

    rig.store.transact = answered  # type: ignore[method-assign]


def test_whoever_asks_gets_the_answer_and_leaves_nothing_behind(rig: Rig) -> None:
    answer(rig, encode(REPORT))
    assert asking(rig).audits(["n"], False, 20.0) == {"n": REPORT}
    assert rig.store.scan("").entries == ()


@pytest.mark.parametrize("value", [b"{", b'{"version": 9}', b"x" * 300_000])
def test_an_answer_that_cannot_be_read_is_none(rig: Rig, value: bytes) -> None:
    answer(rig, value)
    assert Asking(rig.store, lambda: "o1", time.monotonic).audits(["n"], False, 0.1) == {}


def test_asking_nobody_is_answered_at_once(rig: Rig) -> None:
    assert asking(rig).audits([], True, 20.0) == {}


def test_a_service_that_is_away_is_told_to_who_asks(rig: Rig) -> None:
    def away() -> None:
        raise Unreachable("Placement is away")

    rig.sweep.then = away
    with pytest.raises(Unreachable):
        rig.auditor.step(None)
    assert rig.due_in() > 0, "the thread's loop makes it sooner"
