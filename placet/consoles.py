"""Reading an instance's console from afar: its node is asked over etcd, piece by piece."""

from __future__ import annotations

from collections.abc import Callable

from placet.asking import ANSWER_S, Asking
from placet.errors import NotFound, NotYet, PlacetError
from placet.hypervisor import PIECE_BYTES
from placet.instances import Instance, Instances, failed
from placet.lifecycle import State
from placet.node_records import FaultRecord


class NeverRan(NotYet):
    """An instance that has no console yet."""


class Destroyed(NotFound):
    """An instance that is no more, or is on its way out and has no console any more."""


class Console:
    """One instance's, read on from where it was, beginning with its last `lines`. `clock` gives seconds since the
    epoch."""

    def __init__(
        self, instances: Instances, asking: Asking, instance: str, lines: int, clock: Callable[[], float]
    ) -> None:
        self._instances = instances
        self._asking = asking
        self._instance = instance
        self._lines = lines
        self._clock = clock
        self._offset: int | None = None

    def read(self) -> str:
        """What it has written since; "" when that is nothing.

        Raises NeverRan, Destroyed, NotYet when its node is silent or it failed before it ran, PlacetError.
        """
        found = self._instances.get(self._instance)
        if found.state is State.DELETED:
            raise Destroyed(f"{self._instance} was destroyed, and its console with it")
        if found.alive is None:
            raise NotYet(self._silent(found))
        text = self._asking.console(found.index.node, self._instance, self._lines, self._offset)
        if text is None:
            raise NotYet(f"node {found.node_name}, which has the console, said nothing for {ANSWER_S:g} s: see its log")
        if text.fault is not None:
            raise self._failed(found, text.fault)
        self._offset = text.offset
        return text.text

    def _failed(self, found: Instance, fault: FaultRecord) -> PlacetError:
        if fault.code != "no-console":
            return PlacetError(f"node {found.node_name}: {fault.message}")
        found = self._instances.get(self._instance)  # a destroy may have come before its node's answer
        if found.destroying or found.state is State.DELETED:
            return Destroyed(f"{self._instance} is being destroyed, and its console is gone already")
        if found.status is not None and found.status.fault is not None:
            return NotYet(failed(self._instance, found.status))
        lasting = self._clock() - found.index.created_at
        return NeverRan(f"{self._instance} was never started: stage {found.stage.value} for {lasting:.0f} s")

    def _silent(self, found: Instance) -> str:
        since = found.unknown_since
        lasting = f" for {self._clock() - since:.0f} s" if since else ""
        return f"node {found.node_name}, which has the console, is silent{lasting}: start its agent, then ask again"


def may_go_on(text: str) -> bool:
    """Whether more may be there already: a full piece has at least a character for every four bytes."""
    return len(text) >= PIECE_BYTES // 4 - 1
