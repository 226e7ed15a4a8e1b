"""Waiting for guests to take their addresses. libvirt has no event for leases, so one thread looks at the list of them,
often while a guest boots, rarely later, and not at all while no guest is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from placet.drivers.libvirt.leases import Expectation
from placet.drivers.libvirt.network import Lease
from placet.drivers.libvirt.reservations import Ip
from placet.errors import PlacetError
from placet.log import debug, warn

# seconds of waiting up to which the list is looked at every so many seconds
PACES = ((30.0, 0.025), (300.0, 0.5), (float("inf"), 5.0))  # a look costs 0.4 ms
PACE_OF_MORE_S = 0.5  # once the guest has its IPv4 address
WAIT_FOR_MORE_S = 60.0  # so long its IPv6 address is looked for; a later one is seen at the next look at the instance
PAUSE_WHILE_UNREACHABLE_S = 1.0


@dataclass
class Waiting:
    """For one instance: since when, what it has been seen to have, and when it first had its IPv4 addresses."""

    since: float
    seen: frozenset[Ip] | None = None
    first_at: float | None = None

    def pace_s(self, now: float) -> float:
        if self.first_at is not None:
            return PACE_OF_MORE_S
        return next(pace_s for until_s, pace_s in PACES if now - self.since <= until_s)


class LeaseWatch:
    """Calls `changed(instance)` when one that is waited for has taken its IPv4 addresses, and when it has taken all."""

    def __init__(
        self,
        leases: Callable[[], Mapping[Ip, Lease]],
        expected: Callable[[str], Expectation],
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._expected = expected
        self._changed = changed
        self._clock = clock
        self._wake = threading.Condition()
        self._waiting: dict[str, Waiting] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def wait_for(self, instance: str) -> None:
        """From now on look for its leases."""
        with self._wake:
            if self._closed:
                return
            self._waiting[instance] = Waiting(self._clock())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="libvirt-leases", daemon=True)
                self._thread.start()
            self._wake.notify()

    def forget(self, instance: str) -> None:
        """It stopped, or goes."""
        with self._wake:
            self._waiting.pop(instance, None)

    def waiting(self) -> frozenset[str]:
        """The instances whose leases are looked for."""
        with self._wake:
            return frozenset(self._waiting)

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _run(self) -> None:
        while (pause_s := self._pause()) is not None:
            try:
                self._look()
            except Exception as problem:  # the thread's edge: it must not die, or no address would be seen again
                known = isinstance(problem, PlacetError)
                (debug if known else warn)("leases-unknown", reason=problem if known else repr(problem))
                pause_s = PAUSE_WHILE_UNREACHABLE_S
            with self._wake:
                self._wake.wait(pause_s)

    def _pause(self) -> float | None:
        """Sleeps while nobody is waited for; then how long to sleep after the next look, or None to end."""
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            if self._closed:
                return None
            now = self._clock()
            return min(one.pace_s(now) for one in self._waiting.values())

    def _look(self) -> None:
        leases = self._leases()
        for instance in self.waiting():
            expected = self._expected(instance)
            if self._has_news(instance, expected, expected.confirmed(leases)):
                self._changed(instance)

    def _has_news(self, instance: str, expected: Expectation, confirmed: frozenset[Ip]) -> bool:
        """Whether to look at the instance. One that has all, or was waited for long enough, is waited for no more."""
        with self._wake:
            one, now = self._waiting.get(instance), self._clock()
            if one is None:
                return False
            if one.first_at is None and expected.first <= confirmed:
                one.first_at = now
            news = one.first_at is not None and confirmed != one.seen
            one.seen = confirmed
            if confirmed == expected.all or (one.first_at is not None and now - one.first_at > WAIT_FOR_MORE_S):
                del self._waiting[instance]
            return news
