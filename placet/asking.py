"""Asking nodes for something over etcd, and gathering their answers: an operation below each, under one lease."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from placet import keys
from placet.errand_records import AuditReport, ConsoleText, Errand, ImageReport
from placet.errors import PlacetError, WatchLost
from placet.log import warn
from placet.model import BadRecord, ImageRef, decode, encode
from placet.store import Entry, Put, Store

R = TypeVar("R")
ANSWER_S = 20.0  # from one word of a node's to the next


class Asking:
    """`monotonic` is what deadlines are measured by. A node that answers nothing in time is missing in what comes."""

    def __init__(self, store: Store, new_uuid: Callable[[], str], monotonic: Callable[[], float]) -> None:
        self._store = store
        self._new_uuid = new_uuid
        self._monotonic = monotonic

    def audits(self, nodes: Iterable[str], repair: bool, within_s: float) -> dict[str, AuditReport]:
        """What each node answers to an audit."""
        errands = {node: Errand(self._new_uuid(), "audit", "doctor", repair) for node in nodes}
        return dict(self._answers(errands, AuditReport, within_s, lambda _: True))

    def images(
        self, nodes: Iterable[str], image: ImageRef, heard: Callable[[str, ImageReport], object]
    ) -> dict[str, ImageReport]:
        """What came of having each node bring an image; `heard(node, report)` is told how far they are."""
        errands = {node: Errand(self._new_uuid(), "image", "schedule.py", image=image) for node in nodes}
        found = {}
        for node, report in self._answers(errands, ImageReport, ANSWER_S, lambda report: report.done):
            if report.done:
                found[node] = report
            else:
                heard(node, report)
        return found

    def console(self, node: str, instance: str, lines: int, offset: int | None) -> ConsoleText | None:
        """A piece of an instance's console log: its last `lines`, or what came after `offset`."""
        errand = Errand(self._new_uuid(), "console", "schedule.py", instance=instance, lines=lines, offset=offset)
        return dict(self._answers({node: errand}, ConsoleText, ANSWER_S, lambda _: True)).get(node)

    def _answers(
        self, errands: Mapping[str, Errand], record: type[R], within_s: float, is_last: Callable[[R], bool]
    ) -> Iterator[tuple[str, R]]:
        """Each node with each of its answers, as they come, until it `is_last` or none came for `within_s`."""
        round_ = _Round(self._store, self._monotonic, within_s)
        try:
            for node, errand in errands.items():
                round_.ask(node, errand)
            for entry in round_.answers():
                answer = _read(record, entry)
                if answer is not None:
                    node = round_.heard(entry, is_last(answer))
                    yield node, answer
        finally:
            round_.end()


class _Round:
    """Some errands and who has yet to answer. The lease is kept as long as somebody is waited for."""

    def __init__(self, store: Store, monotonic: Callable[[], float], within_s: float) -> None:
        self._store = store
        self._monotonic = monotonic
        self._within_s = within_s
        self._lease = store.grant_lease(int(2 * within_s) + 1)
        self._refreshed_at = monotonic()
        self._asked: dict[str, str] = {}  # result key: node
        self._last_word: dict[str, float] = {}  # of each result key that is waited for
        self._revisions: dict[str, int] = {}

    def ask(self, node: str, errand: Errand) -> None:
        self._store.transact([], [Put(keys.operation(node, errand.id), encode(errand), self._lease)])
        key = keys.result(node, errand.id)
        self._asked[key] = node
        self._last_word[key] = self._monotonic()

    def heard(self, entry: Entry, is_last: bool) -> str:
        """The node that an answer is from."""
        self._last_word[entry.key] = self._monotonic()
        if is_last:
            del self._last_word[entry.key]
        return self._asked[entry.key]

    def end(self) -> None:
        """Nobody waits any more; if that can't be told now, the lease's end tells it."""
        with contextlib.suppress(PlacetError):
            self._store.revoke_lease(self._lease)

    def answers(self) -> Iterator[Entry]:
        """What is there, and then what comes; a lost watch is taken up from a fresh list."""
        while self._waits():
            listing = self._store.scan(self._prefix())
            yield from filter(self._is_new, listing.entries)
            if not self._waits():
                return
            watch = self._store.watch([keys.results(node) for node in self._asked.values()], listing.revision + 1)
            try:
                while self._waits():
                    changes = watch.wait(self._patience_s())
                    yield from (each.entry for each in changes if each.entry is not None and self._is_new(each.entry))
                    self._keep_lease()
            except WatchLost:
                continue
            finally:
                watch.close()

    def _prefix(self) -> str:
        """What holds all results: to list one node's is cheaper than to list all of them."""
        nodes = set(self._asked.values())
        return keys.results(nodes.pop()) if len(nodes) == 1 else keys.NODES

    def _is_new(self, entry: Entry) -> bool:
        if entry.key not in self._last_word or self._revisions.get(entry.key) == entry.mod_revision:
            return False
        self._revisions[entry.key] = entry.mod_revision
        return True

    def _waits(self) -> bool:
        """Whether somebody may yet answer. Who was silent for too long is given up."""
        now = self._monotonic()
        self._last_word = {key: at for key, at in self._last_word.items() if now < at + self._within_s}
        return bool(self._last_word)

    def _patience_s(self) -> float:
        next_end = min(self._last_word.values()) + self._within_s
        return max(0.0, min(next_end - self._monotonic(), self._within_s / 2))

    def _keep_lease(self) -> None:
        if self._monotonic() - self._refreshed_at >= self._within_s / 2:
            self._refreshed_at = self._monotonic()
            self._store.refresh_lease(self._lease)


def _read(record: type[R], entry: Entry) -> R | None:
    """One that can't be read is none: its node is deaf to us, the others are not."""
    try:
        return decode(record, entry.value, entry.key)
    except BadRecord as bad:
        warn("bad-report", reason=bad)
        return None
