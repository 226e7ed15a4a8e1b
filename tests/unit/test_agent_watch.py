"""How guests' agents are asked: aside from all other work, ever more seldom, and nobody waits for one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from placet.drivers.libvirt.agent_watch import FIRST_PAUSE_S, LONGEST_PAUSE_S, SILENT_PAUSE_S, AgentWatch
from placet.drivers.libvirt.guest_agent import Told
from placet.errors import Unreachable

MAC = "52:54:00:00:00:01"
ONE = "one"
SOME: Told = {MAC: ("198.51.100.7",)}
OTHER: Told = {MAC: ("198.51.100.8",)}


class Guests(Executor):
    """Time, timer and the threads that ask: an agent is asked when the test says so, and answers as it says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answer: Told | Exception | None = SOME
        self.asked_at: list[float] = []
        self.changed: list[str] = []
        self._questions: list[Callable[[], None]] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.watch = AgentWatch(self._ask, self.changed.append, self, self._call_later, lambda: self.now)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._questions.append(lambda: fn(*args, **kwargs))
        return Future()

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._due.append((self.now + delay_s, callback))

    def _ask(self, _instance: str) -> Told | None:
        self.asked_at.append(self.now)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def take_turn(self) -> int:
        """The agents answer what they were asked; how many questions that were."""
        questions, self._questions = self._questions, []
        for question in questions:
            question()
        return len(questions)

    def pass_time(self, seconds: float) -> None:
        """With what falls due meanwhile; agents answer at once."""
        self.take_turn()
        until = self.now + seconds
        while self._due and (first := min(at for at, _ in self._due)) <= until:
            self.now = max(self.now, first)
            due = [callback for at, callback in self._due if at <= self.now]
            self._due = [(at, callback) for at, callback in self._due if at > self.now]
            for callback in due:
                callback()
            self.take_turn()
        self.now = until


@pytest.fixture
def guests() -> Guests:
    return Guests()


def test_an_answer_is_called_out_and_stands(guests: Guests) -> None:
    guests.watch.want(ONE)
    assert guests.watch.told(ONE) == {}

    guests.take_turn()
    assert guests.watch.told(ONE) == SOME
    assert guests.changed == [ONE]


def test_looking_while_an_agent_is_silent_asks_no_second_time(guests: Guests) -> None:
    for _ in range(100):
        guests.watch.want(ONE)

    assert guests.take_turn() == 1


def test_one_that_knows_nothing_yet_is_asked_again_ever_more_seldom(guests: Guests) -> None:
    guests.answer = {MAC: ()}
    guests.watch.want(ONE)
    guests.take_turn()

    guests.pass_time(10 * LONGEST_PAUSE_S)
    pauses = [later - earlier for earlier, later in zip(guests.asked_at, guests.asked_at[1:], strict=False)]
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


@pytest.mark.parametrize("silence", [None, Unreachable("libvirtd is away"), RuntimeError("unforeseen")])
def test_a_silent_one_is_left_alone_for_longer(guests: Guests, silence: Exception | None) -> None:
    guests.answer = silence
    guests.watch.want(ONE)
    guests.take_turn()

    guests.pass_time(SILENT_PAUSE_S - 0.1)
    assert guests.asked_at == [0.0]
    guests.pass_time(3 * SILENT_PAUSE_S)
    assert guests.asked_at == [0.0, SILENT_PAUSE_S, 3 * SILENT_PAUSE_S]


def test_what_it_said_before_stands_while_it_is_silent(guests: Guests) -> None:
    guests.watch.want(ONE)
    guests.take_turn()

    guests.answer = None
    guests.pass_time(100)
    assert guests.watch.told(ONE) == SOME
    assert guests.changed == [ONE]


def test_another_answer_is_called_out_again(guests: Guests) -> None:
    guests.watch.want(ONE)
    guests.take_turn()

    guests.answer = OTHER
    guests.pass_time(1)
    assert guests.watch.told(ONE) == OTHER
    assert guests.changed == [ONE, ONE]


def test_once_there_is_nothing_to_be_learned_it_is_asked_no_more(guests: Guests) -> None:
    guests.watch.want(ONE)
    guests.take_turn()

    guests.watch.rest(ONE)
    guests.pass_time(1000)
    assert guests.asked_at == [0.0]


def test_an_answer_from_before_its_domain_stopped_says_nothing_of_the_next_start(guests: Guests) -> None:
    guests.watch.want(ONE)
    guests.watch.forget(ONE)
    guests.take_turn()

    assert guests.watch.told(ONE) == {}
    assert guests.changed == []


def test_an_agent_that_comes_back_is_asked_soon(guests: Guests) -> None:
    guests.answer = None
    guests.watch.want(ONE)
    guests.take_turn()
    guests.pass_time(1000)
    count = len(guests.asked_at)

    guests.answer = SOME
    guests.watch.hurry(ONE)
    guests.pass_time(SILENT_PAUSE_S)
    assert len(guests.asked_at) > count
    assert guests.changed == [ONE]


def test_coming_and_going_all_the_time_does_not_make_an_agent_be_asked_all_the_time(guests: Guests) -> None:
    guests.answer = None
    guests.watch.want(ONE)
    guests.take_turn()
    for _ in range(1000):
        guests.watch.hurry(ONE)
        guests.watch.want(ONE)
        guests.pass_time(0.1)

    assert len(guests.asked_at) <= 1 + 100 / SILENT_PAUSE_S


def test_when_the_node_ends_nobody_is_asked(guests: Guests) -> None:
    guests.watch.close()
    guests.watch.want(ONE)

    assert guests.take_turn() == 0
