"""Placement in memory, for tests that need many thousands of exchanges: the same methods, the same answers.

tests/contract/test_placements.py holds this and the real Placement to the same behaviour. Known is what the flows rely
on: flat providers, standard resource classes and traits, one unsuffixed request group. What is asked beyond that raises
NotImplementedError. Calls are carried out one after the other, so the real one's races inside a claim do not occur.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace

import os_resource_classes  # type: ignore[import-untyped]  # ships no types
import os_traits

from placet.candidates import Candidate, ProviderSummary
from placet.errors import BadQuery, Refused
from placet.model import Allocations
from placet.placement import CONSUMER_TYPE, Allocation, Claim, Placement, Provider
from placet.resources import Inventory

RESOURCE_CLASSES = frozenset(os_resource_classes.STANDARDS)
TRAITS = frozenset(os_traits.get_traits())
KNOWN_PARAMETERS = ("resources", "required", "root_required", "in_tree", "limit")
MODEL = "the model of Placement"


@dataclass
class _Provider:
    name: str
    generation: int = 0
    inventories: dict[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    aggregates: frozenset[str] = frozenset()


@dataclass
class _Consumer:
    """`held` may be empty: a claim that names an unknown provider leaves such a consumer behind, at generation 0."""

    user: str
    consumer_type: str
    generation: int = 0
    held: Allocations = field(default_factory=dict)


@dataclass(frozen=True)
class _TraitFilter:
    """One trait of each set of `required`, and none of `forbidden`."""

    required: tuple[frozenset[str], ...]
    forbidden: frozenset[str]

    @classmethod
    def parse(cls, values: Iterable[str]) -> _TraitFilter:
        """Each value is either `A,!B` (all of these) or `in:A,B` (one of these)."""
        required: list[frozenset[str]] = []
        forbidden: set[str] = set()
        for value in values:
            names = frozenset(value.removeprefix("in:").split(","))
            if value.startswith("in:"):
                required.append(names)
                continue
            forbidden |= {name[1:] for name in names if name.startswith("!")}
            required += [frozenset({name}) for name in names if not name.startswith("!")]
        if any(each <= forbidden for each in required):
            raise BadQuery(f"{MODEL} does not take this query: Conflicting required and forbidden traits")
        return cls(tuple(required), frozenset(forbidden))

    def check(self, known: Collection[str]) -> None:
        unknown = self.forbidden.union(*self.required).difference(known)
        if unknown:
            raise BadQuery(f"{MODEL} does not take this query: No such trait(s): {', '.join(unknown)}")

    def allows(self, traits: frozenset[str]) -> bool:
        return all(each & traits for each in self.required) and not self.forbidden & traits


class ModelPlacement(Placement):
    """Every public method of Placement is replaced; nothing of it is inherited but the type."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._providers: dict[str, _Provider] = {}
        self._consumers: dict[str, _Consumer] = {}
        self._classes, self._traits = set(RESOURCE_CLASSES), set(TRAITS)

    def candidates(self, parameters: Iterable[tuple[str, str]]) -> list[Candidate]:
        given = _given(parameters)
        resources, wanted = _resources(given), _TraitFilter.parse(given.get("required", []))
        anchor = _TraitFilter.parse(given.get("root_required", []))
        in_tree, limit = given.get("in_tree"), next((int(value) for value in given.get("limit", [])), None)
        with self._lock:
            anchor.check(self._traits)
            roots = [uuid for uuid, found in self._providers.items() if anchor.allows(found.traits)]
            if not roots and "root_required" in given:
                return []  # before the rest of the query is looked at
            if not resources.keys() <= self._classes:
                raise BadQuery(f"{MODEL} does not take this query: No such resource class in {', '.join(resources)}")
            wanted.check(self._traits)
            able = [uuid for uuid in in_tree or roots if uuid in roots and wanted.allows(self._providers[uuid].traits)]
            chosen = [uuid for uuid in able if self._fits(uuid, resources)][:limit]
            summaries = {uuid: self._summary(uuid) for uuid in chosen}
            return [Candidate({uuid: dict(resources)}, {"": [uuid]}, summaries) for uuid in chosen]

    def claim(self, consumer: str, candidate: Candidate, user: str, generation: int | None) -> Claim:
        amounts = [each for held in candidate.allocations.values() for each in held.values()]
        if not (user and candidate.mappings and all(candidate.allocations.values()) and min(amounts, default=1) > 0):
            return Claim.REFUSED
        with self._lock:
            return self._write(consumer, candidate.allocations, user, CONSUMER_TYPE, generation)

    def claim_many(self, candidates: Mapping[str, Candidate], user: str) -> Claim:
        """All or nothing."""
        with self._lock:
            before = deepcopy((self._providers, self._consumers))
            for consumer, candidate in candidates.items():
                if self.claim(consumer, candidate, user, None) is not Claim.DONE:
                    self._providers, self._consumers = before
                    return Claim.NO_ROOM
            return Claim.DONE

    def shared_classes(self) -> frozenset[str]:
        return frozenset()

    def allocation(self, consumer: str) -> Allocation:
        with self._lock:
            found = self._consumers.get(consumer)
            if found is None or not found.held:
                return Allocation({})
            return Allocation(deepcopy(found.held), found.generation, found.user, found.consumer_type)

    def release(self, consumer: str, held: Allocation) -> bool:
        if held.user is None or held.consumer_type is None:
            raise Refused(f"{MODEL} answered 400: an allocation has a user and a type")
        with self._lock:
            return self._write(consumer, {}, held.user, held.consumer_type, held.generation) is Claim.DONE

    def providers(self, member_of: str | None = None) -> list[Provider]:
        with self._lock:
            asked = [(uuid, each) for uuid, each in self._providers.items() if member_of in (None, *each.aggregates)]
            return [Provider(uuid, found.name, found.generation) for uuid, found in asked]

    def provider(self, uuid: str) -> Provider | None:
        return next((found for found in self.providers() if found.uuid == uuid), None)

    def create_provider(self, uuid: str, name: str) -> bool:
        with self._lock:
            if uuid in self._providers or any(found.name == name for found in self._providers.values()):
                return False
            self._providers[uuid] = _Provider(name)
            return True

    def delete_provider(self, provider: str) -> bool:
        with self._lock:
            if provider in self._providers and self.provider_allocations(provider):
                return False
            self._providers.pop(provider, None)
            return True

    def inventories(self, provider: str) -> tuple[dict[str, Inventory], int]:
        with self._lock:
            found = self._known(provider)
            return dict(found.inventories), found.generation

    def put_inventories(self, provider: str, inventories: Mapping[str, Inventory], generation: int) -> bool:
        with self._lock:
            found = self._known(provider)
            for resource_class, offered in inventories.items():
                _check_inventory(resource_class, offered)
            if found.generation != generation:
                return False
            self._check_offer(provider, inventories)
            found.inventories = {name: replace(each, max_unit=_max(each)) for name, each in inventories.items()}
            found.generation += 1
            return True

    def usages(self, provider: str) -> dict[str, int]:
        with self._lock:
            return {name: self._used(provider, name) for name in self._known(provider).inventories}

    def provider_allocations(self, provider: str) -> dict[str, dict[str, int]]:
        with self._lock:
            self._known(provider)
            holders = [(uuid, each.held) for uuid, each in self._consumers.items() if provider in each.held]
            return {uuid: dict(held[provider]) for uuid, held in holders}

    def traits(self, provider: str) -> tuple[frozenset[str], int]:
        with self._lock:
            found = self._known(provider)
            return found.traits, found.generation

    def put_traits(self, provider: str, traits: Iterable[str], generation: int) -> bool:
        with self._lock:
            found, wanted = self._known(provider), frozenset(traits)
            if found.generation != generation:
                return False
            if not wanted <= self._traits:
                raise Refused(f"{MODEL} answered 400: No such trait {', '.join(wanted - self._traits)}")
            if wanted != found.traits:
                found.traits = wanted
                found.generation += 1
            return True

    def tree(self, node: str) -> list[str]:
        return [node] if self.provider(node) else []

    def aggregates(self, provider: str) -> tuple[frozenset[str], int]:
        with self._lock:
            found = self._known(provider)
            return found.aggregates, found.generation

    def put_aggregates(self, provider: str, aggregates: Iterable[str], generation: int) -> bool:
        with self._lock:
            found = self._known(provider)
            if found.generation != generation:
                return False
            found.aggregates = frozenset(aggregates)
            found.generation += 1
            return True

    def known_traits(self) -> frozenset[str]:
        return frozenset(self._traits)

    def create_trait(self, name: str) -> None:
        self._traits.add(_custom(name))

    def resource_classes(self) -> frozenset[str]:
        return frozenset(self._classes)

    def create_resource_class(self, name: str) -> None:
        self._classes.add(_custom(name))

    def _known(self, provider: str) -> _Provider:
        if provider not in self._providers:
            raise Refused(f"{MODEL} answered 404: No resource provider with uuid {provider} found")
        return self._providers[provider]

    def _write(
        self, consumer: str, wanted: Allocations, user: str, consumer_type: str, generation: int | None
    ) -> Claim:
        """What `PUT /allocations/{consumer}` does, in the order in which Placement does it."""
        known = self._consumers.get(consumer)
        if (known.generation if known else None) != generation:
            return Claim.UNSURE
        target = self._consumers.setdefault(consumer, _Consumer(user, consumer_type))
        if not wanted.keys() <= self._providers.keys():
            return Claim.REFUSED  # and a new consumer stays, empty
        objection = self._objection(target, wanted)
        if objection is not None:
            if known is None:
                del self._consumers[consumer]
            return objection
        self._replace(consumer, replace(target, user=user, consumer_type=consumer_type), wanted)
        return Claim.DONE

    def _replace(self, consumer: str, target: _Consumer, wanted: Allocations) -> None:
        """Generations of the consumer and of each provider that is named move; of those that are left they do not,
        unless everything is given back: then the consumer goes."""
        for uuid in wanted or target.held:
            self._providers[uuid].generation += 1
        self._consumers[consumer] = target
        if wanted:
            target.generation += 1
            target.held = deepcopy(wanted)
        elif target.held:
            del self._consumers[consumer]

    def _objection(self, consumer: _Consumer, wanted: Allocations) -> Claim | None:
        asked = [(uuid, name, amount) for uuid, amounts in wanted.items() for name, amount in amounts.items()]
        if not {name for _, name, _ in asked} <= self._classes:
            return Claim.REFUSED
        return None if all(self._has_room(consumer, *each) for each in asked) else Claim.NO_ROOM

    def _has_room(self, consumer: _Consumer, provider: str, resource_class: str, amount: int) -> bool:
        """A provider that is over its capacity takes a claim that makes this no worse than it was."""
        inventory = self._providers[provider].inventories.get(resource_class)
        if inventory is None or not _is_unit(inventory, amount):
            return False
        before = self._used(provider, resource_class)
        others = before - consumer.held.get(provider, {}).get(resource_class, 0)
        return others + amount <= max(_capacity(inventory), before)

    def _used(self, provider: str, resource_class: str) -> int:
        return sum(each.held.get(provider, {}).get(resource_class, 0) for each in self._consumers.values())

    def _check_offer(self, provider: str, offered: Mapping[str, Inventory]) -> None:
        unknown = offered.keys() - self._classes
        if unknown:
            raise Refused(f"{MODEL} answered 400: Unknown resource class {', '.join(unknown)}")
        if any(each.capacity < 0 for each in offered.values()):
            raise Refused(f"{MODEL} answered 400: reserved is over the total")
        gone = self._providers[provider].inventories.keys() - offered.keys()
        if any(self._used(provider, name) for name in gone):
            raise Refused(f"{MODEL} answered 409: update conflict: Inventory is in use")

    def _fits(self, provider: str, amounts: Mapping[str, int]) -> bool:
        offered = self._providers[provider].inventories
        return amounts.keys() <= offered.keys() and all(
            _is_unit(offered[name], amount) and self._used(provider, name) + amount <= _capacity(offered[name])
            for name, amount in amounts.items()
        )

    def _summary(self, provider: str) -> ProviderSummary:
        found = self._providers[provider]
        resources = {name: (each.capacity, self._used(provider, name)) for name, each in found.inventories.items()}
        return ProviderSummary(provider, resources, found.traits)


def _given(parameters: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in parameters:
        if name not in KNOWN_PARAMETERS or (name in given and name != "required"):
            raise NotImplementedError(f"{MODEL} does not know {name}=, or not twice")
        if name == "root_required" and value.startswith("in:"):
            raise BadQuery(f"{MODEL} does not take this query: {name}={value}")
        given.setdefault(name, []).append(value)
    return given


def _resources(given: Mapping[str, list[str]]) -> dict[str, int]:
    parts = [part.partition(":") for value in given.get("resources", []) for part in value.split(",")]
    if not parts or not all(amount.isdecimal() and int(amount) > 0 for _, _, amount in parts):
        raise BadQuery(f"{MODEL} does not take this query: resources={given.get('resources')}")
    return {name: int(amount) for name, _, amount in parts}


def _custom(name: str) -> str:
    if not re.fullmatch(r"CUSTOM_[A-Z0-9_]{1,248}", name):
        raise Refused(f"{MODEL} answered 400: {name!r} does not begin with CUSTOM_")
    return name


def _capacity(inventory: Inventory) -> float:
    """As claims and candidates count it: with the fraction that a summary rounds off."""
    return (inventory.total - inventory.reserved) * inventory.allocation_ratio


def _max(inventory: Inventory) -> int:
    return inventory.max_unit or inventory.total


def _is_unit(inventory: Inventory, amount: int) -> bool:
    return inventory.min_unit <= amount <= _max(inventory) and amount % inventory.step_size == 0


def _check_inventory(resource_class: str, offered: Inventory) -> None:
    if min(offered.total, _max(offered), offered.min_unit, offered.step_size) < 1 or offered.reserved < 0:
        raise Refused(f"{MODEL} answered 400: bad inventory of {resource_class}: {offered}")
