"""Requests and answers that get lost, come late or die with their sender, between a process and its services.

A `Wire` is one process's way to etcd and Placement: its calls are numbered from 1, a plan gives each its fate.
FlakyStore and FlakyPlacement send everything over it, so that a plan can hit any call of either.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

from placet.candidates import Candidate
from placet.errors import PlacetError, Unreachable
from placet.placement import Allocation, Claim, Placement, Provider
from placet.resources import Inventory
from placet.store import Compare, Entry, Found, Listing, Operation, Read, Store, Transaction, Watch

T = TypeVar("T")


class Fate(Enum):
    """What becomes of one call."""

    PASS = "carried out and answered"
    LOST_REQUEST = "never carried out; the caller sees Unreachable"
    LOST_REPLY = "carried out; the caller sees Unreachable"
    LATE = "carried out later; the caller sees Unreachable now"
    DEATH = "the process dies before it is carried out"
    DEATH_AFTER = "the process dies after it was carried out"


class Killed(BaseException):
    """The process is no more. No `except Exception` outlives it, and every further call over its wire raises it."""


Plan = Callable[[str, int], Fate]


def at(fates: Mapping[int, Fate]) -> Plan:
    """A plan for the calls with these numbers; the others pass."""
    return lambda _name, number: fates.get(number, Fate.PASS)


class Wire:
    """`decide` is asked with a call's name, such as "store.transact", and its number. A late call is carried out after
    `late_after` further ones, or when `settle` is called."""

    def __init__(self, decide: Plan, late_after: int | None = None) -> None:
        self.calls: list[str] = []
        self.dead = False
        self._decide = decide
        self._late_after = late_after
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._lock = threading.RLock()

    def carry(self, name: str, call: Callable[[], T]) -> T:
        """Let the call have its fate. Raises Unreachable or Killed."""
        with self._lock:
            self._settle_until(len(self.calls))
            if self.dead:
                raise Killed(name)
            self.calls.append(name)
            number = len(self.calls)
            fate = self._decide(name, number)
            if fate is Fate.PASS:
                return call()
            if fate in (Fate.LOST_REPLY, Fate.DEATH_AFTER):
                _unheard(call)
            if fate is Fate.LATE:
                self._late.append((number + (self._late_after or 0), call))
            if fate in (Fate.DEATH, Fate.DEATH_AFTER):
                self.dead = True
                raise Killed(name)
            raise Unreachable(f"{name}, call {number}: {fate.value}")

    def settle(self) -> None:
        """Carry out what is late, also what a dead process had sent."""
        with self._lock:
            late, self._late = self._late, []
            for _, call in late:
                _unheard(call)

    def _settle_until(self, number: int) -> None:
        while self._late_after is not None and self._late and self._late[0][0] <= number:
            _unheard(self._late.pop(0)[1])


def _unheard(call: Callable[[], object]) -> None:
    """Whatever it answers, even an error, nobody hears."""
    with contextlib.suppress(PlacetError):
        call()


class FlakyStore:
    """A store at the other end of a wire."""

    def __init__(self, inner: Store, wire: Wire) -> None:
        self._inner, self._wire = inner, wire

    def get(self, key: str) -> Entry | None:
        return self._wire.carry("store.get", lambda: self._inner.get(key))

    def scan(self, prefix: str) -> Listing:
        return self._wire.carry("store.scan", lambda: self._inner.scan(prefix))

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        compares, operations = tuple(compares), tuple(operations)
        return self._wire.carry("store.transact", lambda: self._inner.transact(compares, operations))

    def read(self, *reads: Read) -> tuple[Found, ...]:
        return self._wire.carry("store.read", lambda: self._inner.read(*reads))

    def transact_all(self, transactions: Sequence[Transaction]) -> tuple[int, ...]:
        transactions = tuple(transactions)
        return self._wire.carry("store.transact_all", lambda: self._inner.transact_all(transactions))

    def transact_and_read(self, transaction: Transaction, reads: Sequence[Read]) -> tuple[int, tuple[Found, ...]]:
        reads = tuple(reads)
        return self._wire.carry("store.transact_and_read", lambda: self._inner.transact_and_read(transaction, reads))

    def grant_lease(self, ttl_s: int, lease: int = 0) -> int:
        return self._wire.carry("store.grant_lease", lambda: self._inner.grant_lease(ttl_s, lease))

    def refresh_lease(self, lease: int) -> int:
        return self._wire.carry("store.refresh_lease", lambda: self._inner.refresh_lease(lease))

    def revoke_lease(self, lease: int) -> None:
        self._wire.carry("store.revoke_lease", lambda: self._inner.revoke_lease(lease))

    def watch(self, prefixes: Sequence[str], revision: int) -> Watch:
        return self._wire.carry("store.watch", lambda: self._inner.watch(prefixes, revision))

    def alarms(self) -> tuple[str, ...]:
        return self._wire.carry("store.alarms", self._inner.alarms)

    def close(self) -> None:
        """The inner one is its owner's to close."""


class FlakyPlacement(Placement):
    """A Placement at the other end of a wire. As in the real client, a claim without an answer is UNSURE."""

    def __init__(self, inner: Placement, wire: Wire) -> None:
        self._inner, self._wire = inner, wire

    def candidates(self, parameters: Iterable[tuple[str, str]]) -> list[Candidate]:
        given = list(parameters)
        return self._wire.carry("placement.candidates", lambda: self._inner.candidates(given))

    def claim(self, consumer: str, candidate: Candidate, user: str, generation: int | None) -> Claim:
        try:
            return self._wire.carry("placement.claim", lambda: self._inner.claim(consumer, candidate, user, generation))
        except Unreachable:
            return Claim.UNSURE

    def claim_many(self, candidates: Mapping[str, Candidate], user: str) -> Claim:
        asked = dict(candidates)
        try:
            return self._wire.carry("placement.claim_many", lambda: self._inner.claim_many(asked, user))
        except Unreachable:
            return Claim.UNSURE

    def shared_classes(self) -> frozenset[str]:
        return self._wire.carry("placement.shared_classes", self._inner.shared_classes)

    def allocation(self, consumer: str) -> Allocation:
        return self._wire.carry("placement.allocation", lambda: self._inner.allocation(consumer))

    def release(self, consumer: str, held: Allocation) -> bool:
        return self._wire.carry("placement.release", lambda: self._inner.release(consumer, held))

    def providers(self, member_of: str | None = None) -> list[Provider]:
        return self._wire.carry("placement.providers", lambda: self._inner.providers(member_of))

    def tree(self, node: str) -> list[str]:
        return self._wire.carry("placement.tree", lambda: self._inner.tree(node))

    def aggregates(self, provider: str) -> tuple[frozenset[str], int]:
        return self._wire.carry("placement.aggregates", lambda: self._inner.aggregates(provider))

    def put_aggregates(self, provider: str, aggregates: Iterable[str], generation: int) -> bool:
        wanted = frozenset(aggregates)
        return self._wire.carry(
            "placement.put_aggregates", lambda: self._inner.put_aggregates(provider, wanted, generation)
        )

    def known_traits(self) -> frozenset[str]:
        return self._wire.carry("placement.known_traits", self._inner.known_traits)

    def create_trait(self, name: str) -> None:
        self._wire.carry("placement.create_trait", lambda: self._inner.create_trait(name))

    def resource_classes(self) -> frozenset[str]:
        return self._wire.carry("placement.resource_classes", self._inner.resource_classes)

    def create_resource_class(self, name: str) -> None:
        self._wire.carry("placement.create_resource_class", lambda: self._inner.create_resource_class(name))

    def provider(self, uuid: str) -> Provider | None:
        return self._wire.carry("placement.provider", lambda: self._inner.provider(uuid))

    def create_provider(self, uuid: str, name: str) -> bool:
        return self._wire.carry("placement.create_provider", lambda: self._inner.create_provider(uuid, name))

    def delete_provider(self, provider: str) -> bool:
        return self._wire.carry("placement.delete_provider", lambda: self._inner.delete_provider(provider))

    def inventories(self, provider: str) -> tuple[dict[str, Inventory], int]:
        return self._wire.carry("placement.inventories", lambda: self._inner.inventories(provider))

    def put_inventories(self, provider: str, inventories: Mapping[str, Inventory], generation: int) -> bool:
        offered = dict(inventories)
        return self._wire.carry(
            "placement.put_inventories", lambda: self._inner.put_inventories(provider, offered, generation)
        )

    def usages(self, provider: str) -> dict[str, int]:
        return self._wire.carry("placement.usages", lambda: self._inner.usages(provider))

    def provider_allocations(self, provider: str) -> dict[str, dict[str, int]]:
        return self._wire.carry("placement.provider_allocations", lambda: self._inner.provider_allocations(provider))

    def traits(self, provider: str) -> tuple[frozenset[str], int]:
        return self._wire.carry("placement.traits", lambda: self._inner.traits(provider))

    def put_traits(self, provider: str, traits: Iterable[str], generation: int) -> bool:
        wanted = frozenset(traits)
        return self._wire.carry("placement.put_traits", lambda: self._inner.put_traits(provider, wanted, generation))
