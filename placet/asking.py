"""Asking nodes for something over etcd, and gathering their answers: an operation below each, under one lease."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from placet import keys
from placet.errors import WatchLost
from placet.log import warn
from placet.model import AuditReport, BadRecord, Errand, decode, encode
from placet.store import Entry, Put, Store


class Asking:
    """`monotonic` is what the deadline is measured by."""

    def __init__(self, store: Store, new_uuid: Callable[[], str], monotonic: Callable[[], float]) -> None:
        self._store = store
        self._new_uuid = new_uuid
        self._monotonic = monotonic

    def audits(self, nodes: Iterable[str], repair: bool, within_s: float) -> dict[str, AuditReport]:
        """What each node answers to an audit; one that does not `within_s` is missing."""
        lease = self._store.grant_lease(int(2 * within_s) + 1)
        asked: dict[str, str] = {}
        for node in nodes:
            errand = Errand(self._new_uuid(), "audit", "doctor", repair)
            asked[keys.result(node, errand.id)] = node
            self._store.transact([], [Put(keys.operation(node, errand.id), encode(errand), lease)])
        deadline = self._monotonic() + within_s
        reports: dict[str, AuditReport] = {}
        while len(reports) < len(asked) and self._monotonic() < deadline:
            for entry in self._answers(asked, deadline):
                report = _report(entry)
                if report is not None:
                    reports[asked[entry.key]] = report
                if len(reports) == len(asked):
                    break
        self._store.revoke_lease(lease)
        return reports

    def _answers(self, asked: Collection[str], deadline: float) -> Iterator[Entry]:
        """The answers that are there, and then those that come; ends early when the watch is lost."""
        listing = self._store.scan(keys.NODES)
        yield from (entry for entry in listing.entries if entry.key in asked)
        watch = self._store.watch([keys.results(keys.node_of(key)) for key in asked], listing.revision + 1)
        try:
            while (left := deadline - self._monotonic()) > 0:
                for event in watch.wait(left):
                    if event.entry is not None and event.key in asked:
                        yield event.entry
        except WatchLost:
            return
        finally:
            watch.close()


def _report(entry: Entry) -> AuditReport | None:
    """One that can't be read is none: its node is deaf to us, the others are not."""
    try:
        return decode(AuditReport, entry.value, entry.key)
    except BadRecord as bad:
        warn("bad-report", reason=bad)
        return None
