"""Asking guests' agents, in threads of its own: one that is silent, or lies at length, holds up nobody's work.

Who looks at an instance gets what its agent said last, and the instance is looked at again when it says something
else. While something is still to be learned an agent is asked again, ever more seldom: it may come before its guest has
its address, and its word is the only one there is of an address on a bridge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from placet.drivers.libvirt.guest_agent import Told
from placet.drivers.timer import SharedTimer
from placet.errors import PlacetError
from placet.log import debug, warn

ASKERS = 4
FIRST_PAUSE_S = 0.5
SILENT_PAUSE_S = 5.0  # after an answer that did not come: it cost two seconds of an asker
LONGEST_PAUSE_S = 300.0


@dataclass
class Inquiry:
    """About one guest: what its agent said last, when it was and is to be asked, and whether it is being asked."""

    told: Told = field(default_factory=dict)
    wanted: bool = False
    under_way: bool = False
    asked_at: float = 0.0
    pause_s: float = 0.0
    due: float = 0.0
    woken_at: float = float("inf")  # when the timer will next look at it


class AgentWatch:
    """`ask` gives an agent's answer, None when there was none in time; `changed` is called when it differs from the one
    before."""

    def __init__(
        self,
        ask: Callable[[str], Told | None],
        changed: Callable[[str], None],
        askers: Executor | None = None,
        call_later: Callable[[float, Callable[[], None]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._inquiries: dict[str, Inquiry] = {}
        self._askers = askers or ThreadPoolExecutor(ASKERS, thread_name_prefix="libvirt-agents")
        self._call_later = call_later or SharedTimer().call_later
        self._closed = False

    def told(self, instance: str) -> Told:
        """What its agent said last, since its domain was started."""
        with self._lock:
            inquiry = self._inquiries.get(instance)
            return inquiry.told if inquiry else {}

    def want(self, instance: str) -> None:
        """Ask it until `rest`: now, unless that was done a moment ago."""
        with self._lock:
            inquiry = self._inquiries.setdefault(instance, Inquiry())
            inquiry.wanted = True
            self._arrange(instance, inquiry)

    def rest(self, instance: str) -> None:
        """There is nothing to be learned from it for now."""
        with self._lock:
            if inquiry := self._inquiries.get(instance):
                inquiry.wanted = False

    def hurry(self, instance: str) -> None:
        """Its agent came or went: ask soon, but one that comes and goes all the time is asked no more often for it."""
        with self._lock:
            if inquiry := self._inquiries.get(instance):
                inquiry.pause_s = 0.0
                inquiry.due = min(inquiry.due, inquiry.asked_at + SILENT_PAUSE_S)
                self._arrange(instance, inquiry)

    def forget(self, instance: str) -> None:
        """Its domain has stopped, or goes."""
        with self._lock:
            self._inquiries.pop(instance, None)

    def close(self) -> None:
        """Ask nobody any more."""
        with self._lock:
            self._closed = True
            self._inquiries.clear()
        self._askers.shutdown(wait=False, cancel_futures=True)

    def _arrange(self, instance: str, inquiry: Inquiry) -> None:
        """Have the question asked, or the timer look when it is due. Under the lock."""
        if not inquiry.wanted or inquiry.under_way or self._closed:
            return
        now = self._clock()
        if now >= inquiry.due:
            inquiry.under_way, inquiry.asked_at = True, now
            self._askers.submit(self._inquire, instance, inquiry)
        elif inquiry.due < inquiry.woken_at:
            inquiry.woken_at = inquiry.due
            self._call_later(inquiry.due - now, lambda: self._wake(instance, inquiry))

    def _wake(self, instance: str, inquiry: Inquiry) -> None:
        with self._lock:
            inquiry.woken_at = float("inf")
            if self._inquiries.get(instance) is inquiry:
                self._arrange(instance, inquiry)

    def _inquire(self, instance: str, inquiry: Inquiry) -> None:
        answer = self._answer(instance)
        with self._lock:
            news = answer is not None and answer != inquiry.told
            inquiry.told = inquiry.told if answer is None else answer
            least_s = SILENT_PAUSE_S if answer is None else FIRST_PAUSE_S
            inquiry.pause_s = min(max(2 * inquiry.pause_s, least_s), LONGEST_PAUSE_S)
            inquiry.due = self._clock() + inquiry.pause_s
            inquiry.under_way = False
            if self._inquiries.get(instance) is not inquiry:
                return
            self._arrange(instance, inquiry)
        if news:
            self._changed(instance)

    def _answer(self, instance: str) -> Told | None:
        try:
            return self._ask(instance)
        except PlacetError as problem:
            debug("agent-not-asked", instance=instance, reason=problem)
        except Exception as problem:  # the thread's edge
            warn("agent-not-asked", instance=instance, reason=repr(problem))
        return None
