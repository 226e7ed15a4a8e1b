"""The real Placement and the model, given the same random exchanges: every answer and every end state is the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from placet.candidates import Candidate
from placet.config import PlacementConfig
from placet.errors import BadQuery, Refused
from placet.placement import Allocation, Placement
from placet.query import DISABLED_TRAIT
from placet.resources import Inventory
from tests.support.placement_model import ModelPlacement
from tests.support.services import PlacementServer

SEQUENCES = 30
USERS = ("cloud-a", "cloud-b")
CLASSES = ("VCPU", "DISK_GB", "CUSTOM_UNKNOWN")
FULL: Mapping[str, Inventory] = {"VCPU": Inventory(8), "DISK_GB": Inventory(4, allocation_ratio=1.5)}
TRAITS = ("HW_ARCH_X86_64", "STORAGE_DISK_SSD", DISABLED_TRAIT, "HW_NO_SUCH")


@dataclass
class World:
    """One Placement with two providers, a third that may come to be, two consumers, and what was read of them."""

    placement: Placement
    providers: tuple[str, ...]
    consumers: tuple[str, ...]
    read: dict[str, Allocation] = field(default_factory=dict)

    def generation(self, provider: str) -> int:
        found = self.placement.provider(provider)
        return found.generation if found else 0

    def state(self) -> object:
        """All that can be asked of it."""
        known = sorted(self.placement.providers(), key=lambda found: found.uuid)
        asks = (self.placement.inventories, self.placement.usages, self.placement.traits)
        held = [self.placement.allocation(consumer) for consumer in self.consumers]
        each = [
            (*(ask(found.uuid) for ask in asks), self.placement.provider_allocations(found.uuid)) for found in known
        ]
        return known, each, held

    def clear(self) -> None:
        for consumer in self.consumers:
            with suppress(Refused):  # it holds nothing
                self.placement.release(consumer, self.placement.allocation(consumer))
        for provider in self.providers:
            assert self.placement.delete_provider(provider)


some_provider = st.sampled_from((0, 0, 0, 1, 1, 2))
some_consumer = st.sampled_from((0, 0, 1))
behind = st.sampled_from((0, 0, 0, 1))
some_inventory = st.builds(
    Inventory,
    st.integers(1, 8),
    st.sampled_from((0, 0, 1, 9)),
    st.sampled_from((1.0, 1.0, 0.5, 1.5, 16.0)),
    st.sampled_from((None, 4)),
    st.sampled_from((1, 1, 2)),
    st.sampled_from((1, 1, 2)),
)
some_inventories = st.dictionaries(st.sampled_from((*CLASSES[:2] * 3, CLASSES[2])), some_inventory, max_size=3)
some_amounts = st.dictionaries(st.sampled_from((*CLASSES[:2] * 4, CLASSES[2])), st.integers(0, 5), max_size=2)
some_traits = st.sets(st.sampled_from((*TRAITS[:3] * 3, TRAITS[3])), max_size=2)


some_trait = st.builds(str.__add__, st.sampled_from(("", "!")), st.sampled_from((*TRAITS[:3] * 3, TRAITS[3])))
some_filter = st.lists(some_trait, min_size=1, max_size=2).map(",".join)


def claim(
    world: World, consumer: int, asked: Mapping[int, dict[str, int]], user: str, known: int | str | None
) -> object:
    uuid_ = world.consumers[consumer]
    held = world.read[uuid_] = world.placement.allocation(uuid_)
    generation = held.generation if isinstance(known, str) else known
    amounts = {world.providers[number]: dict(each) for number, each in asked.items()}
    return world.placement.claim(uuid_, Candidate(amounts, {"": list(amounts)}, {}), user, generation)


def release(world: World, consumer: int, fresh: bool) -> object:
    """What it holds now, or what it held when it was last claimed for."""
    uuid_ = world.consumers[consumer]
    held = world.placement.allocation(uuid_) if fresh else world.read.get(uuid_, Allocation({}, 1, "x", "INSTANCE"))
    return world.placement.release(uuid_, held)


def put_inventories(world: World, provider: int, offered: Mapping[str, Inventory], behind: int) -> object:
    uuid_ = world.providers[provider]
    return world.placement.put_inventories(uuid_, offered, world.generation(uuid_) - behind)


def put_traits(world: World, provider: int, wanted: set[str], behind: int) -> object:
    uuid_ = world.providers[provider]
    return world.placement.put_traits(uuid_, wanted, world.generation(uuid_) - behind)


def create_provider(world: World, provider: int) -> object:
    return world.placement.create_provider(world.providers[provider], f"name-{world.providers[provider]}")


def delete_provider(world: World, provider: int) -> object:
    return world.placement.delete_provider(world.providers[provider])


def candidates(world: World, asked: Mapping[str, int], words: Mapping[str, str], tree: int | None) -> object:
    parameters = {"resources": ",".join(f"{name}:{amount}" for name, amount in asked.items()), **words}
    if tree is not None:
        parameters["in_tree"] = world.providers[tree]
    return sorted(world.placement.candidates(parameters.items()), key=lambda found: str(found.node))


def step(function: Callable[..., object], *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(function), *arguments)


some_claim = step(
    claim,
    some_consumer,
    st.dictionaries(some_provider, some_amounts, min_size=1, max_size=2),
    st.sampled_from(USERS),
    st.sampled_from(("as read", "as read", "as read", None, 0, 1)),
)
some_candidates = step(
    candidates,
    some_amounts,
    st.dictionaries(st.sampled_from(("required", "root_required")), some_filter, max_size=2),
    st.sampled_from((None, None, 0, 1, 2)),
)
some_step = st.one_of(
    some_claim,
    some_claim,
    step(release, some_consumer, st.booleans()),
    step(put_inventories, some_provider, some_inventories, behind),
    step(put_traits, some_provider, some_traits, behind),
    step(create_provider, some_provider),
    step(delete_provider, some_provider),
    some_candidates,
    some_candidates,
)


def outcome(world: World, function: Callable[..., object], *arguments: object) -> object:
    """What a step answers, or the kind of error it raises."""
    try:
        return function(world, *arguments)
    except (Refused, BadQuery) as problem:
        return type(problem)


def worlds(server: PlacementServer) -> tuple[World, World]:
    ids: Any = tuple(str(uuid.uuid4()) for _ in range(3)), tuple(str(uuid.uuid4()) for _ in range(2))
    real, model = World(Placement(PlacementConfig(server.endpoint)), *ids), World(ModelPlacement(), *ids)
    for world in (real, model):
        for provider in world.providers[:2]:
            assert world.placement.create_provider(provider, f"name-{provider}")
            assert world.placement.put_inventories(provider, FULL, 0)
    return real, model


# no shrinking: it would take minutes, and the assertion names the step
@settings(max_examples=SEQUENCES, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(sequence=st.lists(some_step, min_size=8, max_size=16))
def test_the_real_placement_and_the_model_answer_alike(placement: PlacementServer, sequence: list[Any]) -> None:
    real, model = worlds(placement)
    try:
        for number, (function, *arguments) in enumerate(sequence):
            answers = [outcome(world, function, *arguments) for world in (real, model)]
            assert answers[0] == answers[1], f"step {number}: {function.__name__}{arguments}"
        assert real.state() == model.state()
    finally:
        real.clear()
