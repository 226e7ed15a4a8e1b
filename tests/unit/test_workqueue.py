"""The queue: each key once, one worker at a time, never lost."""

from __future__ import annotations

import threading
import time
from collections import Counter

from placet.workqueue import WorkQueue


def test_a_key_added_twice_is_taken_once() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert queue.take() == "a"
    queue.done("a")
    assert queue.idle()


def test_a_key_added_while_in_work_is_taken_again_only_when_done() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("b")
    assert queue.take() == "b"
    queue.done("a")
    assert queue.take() == "a"


def test_a_later_key_comes_in_its_time() -> None:
    queue = WorkQueue()
    started = time.monotonic()
    queue.add_later("a", 0.05)
    assert queue.take() == "a"
    assert time.monotonic() - started >= 0.05


def test_an_earlier_later_key_overtakes_a_waiting_taker() -> None:
    queue = WorkQueue()
    queue.add_later("slow", 30)
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(queue.take()))
    taker.start()
    queue.add_later("fast", 0.01)
    taker.join(60)
    assert taken == ["fast"]


def test_closing_sends_every_taker_home() -> None:
    queue = WorkQueue()
    takers = [threading.Thread(target=queue.take) for _ in range(3)]
    for taker in takers:
        taker.start()
    queue.close()
    for taker in takers:
        taker.join(60)
    assert not any(taker.is_alive() for taker in takers)


def test_many_workers_never_share_a_key_and_see_every_last_addition() -> None:
    queue = WorkQueue()
    wanted: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    busy: set[str] = set()
    clashes: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while (key := queue.take()) is not None:
            with lock:
                if key in busy:
                    clashes.append(key)
                busy.add(key)
                seen[key] = wanted[key]
            with lock:
                busy.discard(key)
            queue.done(key)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for number in range(5000):
        key = f"k{number % 7}"
        with lock:
            wanted[key] += 1
        queue.add(key)
    deadline = time.monotonic() + 60
    while not queue.idle() and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.close()
    for worker in workers:
        worker.join(60)
    assert clashes == []
    assert seen == wanted


def test_a_key_put_off_many_times_is_taken_once_at_its_earliest_time() -> None:
    queue = WorkQueue()
    for _ in range(30):
        queue.add_later("a", 0.02)
        queue.add_later("a", 0.5)
    assert queue.take() == "a"
    queue.done("a")
    assert queue.idle()
