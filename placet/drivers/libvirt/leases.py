"""Waiting for guests to take their address. libvirt has no event for leases, so one thread looks at the list of them,
often while a guest boots, rarely later, and not at all while no guest is waited for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from placet.drivers.libvirt.files import InstanceFiles
from placet.drivers.libvirt.network import Lease
from placet.drivers.libvirt.reservations import Reservation
from placet.errors import PlacetError
from placet.log import debug, warn

# seconds of waiting up to which the list is looked at every so many seconds
PACES = ((30.0, 0.04), (300.0, 0.5), (float("inf"), 5.0))
PAUSE_WHILE_UNREACHABLE_S = 1.0


@dataclass(frozen=True)
class Expectation:
    """The addresses one instance should take. `old` holds when the leases end that were there before its start."""

    reservations: tuple[Reservation, ...]
    old: Mapping[str, int]

    def confirmed(self, leases: Mapping[str, Lease]) -> frozenset[str]:
        """The MACs that have taken their reserved address since the start."""
        return frozenset(
            one.mac
            for one in self.reservations
            if (lease := leases.get(one.mac)) and lease.ip == one.ip and lease.ends_at != self.old.get(one.mac)
        )


def remember_leases(files: InstanceFiles, reservations: tuple[Reservation, ...], leases: Mapping[str, Lease]) -> None:
    """Keep what leases there are before a start: they are no answers to it, whatever the clock does in between."""
    old = {one.mac: leases[one.mac].ends_at for one in reservations if one.mac in leases}
    if not old:
        files.old_lease.unlink(missing_ok=True)
        return
    part = files.old_lease.with_suffix(".part")
    part.write_text(json.dumps(old))
    part.rename(files.old_lease)


def recall_leases(files: InstanceFiles) -> dict[str, int]:
    """What remember_leases kept."""
    try:
        found = json.loads(files.old_lease.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(mac): int(ends_at) for mac, ends_at in found.items()}


class LeaseWatch:
    """Calls `changed(instance)` once each instance that is waited for has all its addresses."""

    def __init__(
        self,
        leases: Callable[[], Mapping[str, Lease]],
        expected: Callable[[str], Expectation],
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._expected = expected
        self._changed = changed
        self._clock = clock
        self._wake = threading.Condition()
        self._since: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def wait_for(self, instance: str) -> None:
        """From now on look for its leases."""
        with self._wake:
            if self._closed:
                return
            self._since[instance] = self._clock()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="libvirt-leases", daemon=True)
                self._thread.start()
            self._wake.notify()

    def forget(self, instance: str) -> None:
        """It stopped, or goes."""
        with self._wake:
            self._since.pop(instance, None)

    def waiting(self) -> frozenset[str]:
        """The instances whose leases are looked for."""
        with self._wake:
            return frozenset(self._since)

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
            while not self._since and not self._closed:
                self._wake.wait()
            if self._closed:
                return None
            waited_s = self._clock() - max(self._since.values())
            return next(pace_s for until_s, pace_s in PACES if waited_s <= until_s)

    def _look(self) -> None:
        leases = self._leases()
        for instance in self.waiting():
            expected = self._expected(instance)
            if len(expected.confirmed(leases)) == len(expected.reservations):
                self.forget(instance)
                self._changed(instance)
