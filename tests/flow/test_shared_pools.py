"""Claims on more than one provider: a node with a disk pool that several share, or with a GPU nested in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.errors import NothingFits
from placet.model import Mark, decode, encode
from placet.node import Node
from placet.node_records import Status
from placet.placement import Claim, Placement
from placet.query import for_placement, parse_query
from placet.request import Request
from placet.resources import Inventory
from placet.store import Put
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine, until
from tests.support.providers import nested_provider, shared_pool

QUERY = "resources=VCPU:1,MEMORY_MB:64,DISK_GB:5"
OWN = {"VCPU": 1, "MEMORY_MB": 64}
GPUS = {"CUSTOM_GPU": Inventory(2)}


@pytest.fixture
def diskless(machine: FakeMachine) -> FakeMachine:
    machine.disk_gb = 0
    return machine


@pytest.fixture
def pool(diskless: FakeMachine, node: Node, cloud: TestCloud) -> str:
    """The only disk that there is."""
    return shared_pool(cloud.placement, [node.id], "pool", {"DISK_GB": Inventory(100)})


@pytest.fixture
def gpu(node: Node, cloud: TestCloud) -> str:
    return nested_provider(cloud.placement, node.id, "placet-gpu-0", GPUS)


def asked(cloud: TestCloud, image: str, text: str = QUERY) -> Request:
    wanted = request()
    return replace(wanted, query=parse_query(text, {}), image=replace(wanted.image, source=image))


def boot(cloud: TestCloud, machine: FakeMachine, text: str = QUERY) -> str:
    """An instance that runs."""
    wanted = asked(cloud, str(machine.image), text)
    placed = cloud.scheduler().create(wanted)
    until(lambda: state(cloud, placed.node, wanted.instance) in ("ACTIVE", "ERROR"), "it runs")
    assert state(cloud, placed.node, wanted.instance) == "ACTIVE"
    return wanted.instance


def state(cloud: TestCloud, node: str, instance: str) -> str | None:
    entry = cloud.store.get(keys.status(node, instance))
    return decode(Status, entry.value, entry.key).state.value if entry else None


def leak(cloud: TestCloud, text: str = QUERY) -> str:
    """What a scheduler that is killed after its claim leaves once its intent's lease has ended."""
    instance = new_uuid()
    (candidate,) = cloud.placement.candidates(for_placement(parse_query(text, {})))
    assert cloud.claims.claim(instance, candidate)
    return instance


def used(cloud: TestCloud, provider: str) -> dict[str, int]:
    return {name: amount for name, amount in cloud.placement.usages(provider).items() if amount}


def test_an_instance_whose_disk_is_a_shared_pools_boots_and_gives_both_back(
    cloud: TestCloud, diskless: FakeMachine, node: Node, pool: str, command: ScheduleCommand
) -> None:
    assert "DISK_GB" not in cloud.placement.inventories(node.id)[0]
    instance = boot(cloud, diskless)
    assert cloud.held(instance) == {node.id: OWN, pool: {"DISK_GB": 5}}
    assert command.doctor() == (0, [])
    assert cloud.held(instance) == {node.id: OWN, pool: {"DISK_GB": 5}}
    assert command("destroy", instance).code == 0
    assert (cloud.held(instance), used(cloud, pool), used(cloud, node.id)) == ({}, {}, {})
    assert cloud.leftovers(instance) == [keys.instance(instance)]


def test_a_pool_that_is_full_fits_nothing_more(cloud: TestCloud, diskless: FakeMachine, node: Node, pool: str) -> None:
    boot(cloud, diskless, "resources=VCPU:1,MEMORY_MB:64,DISK_GB:96")
    assert cloud.placement.candidates(for_placement(parse_query(QUERY, {}))) == []


def test_an_instance_with_a_gpu_boots_and_gives_both_back(
    cloud: TestCloud, machine: FakeMachine, node: Node, gpu: str, command: ScheduleCommand
) -> None:
    instance = boot(cloud, machine, f"{QUERY}&resources1=CUSTOM_GPU:1")
    assert cloud.held(instance) == {node.id: {**OWN, "DISK_GB": 5}, gpu: {"CUSTOM_GPU": 1}}
    assert command.doctor() == (0, [])
    assert command("destroy", instance).code == 0
    assert (cloud.held(instance), used(cloud, gpu)) == ({}, {})


def test_an_instance_that_holds_nothing_but_what_is_nested_in_its_node_is_like_any_other(
    cloud: TestCloud, diskless: FakeMachine, node: Node, command: ScheduleCommand
) -> None:
    disk = nested_provider(cloud.placement, node.id, "disk-0", {"DISK_GB": Inventory(10)})
    instance = boot(cloud, diskless, "resources=DISK_GB:1")
    assert cloud.held(instance) == {disk: {"DISK_GB": 1}}
    assert command.doctor() == (0, [])
    assert command("destroy", instance).code == 0
    assert (cloud.held(instance), used(cloud, disk)) == ({}, {})


@pytest.mark.parametrize("text", [f"{QUERY}&resources1=CUSTOM_GPU:1", "resources=CUSTOM_GPU:1"])
def test_what_a_killed_scheduler_left_of_a_nested_provider_is_released(
    cloud: TestCloud, node: Node, gpu: str, command: ScheduleCommand, text: str
) -> None:
    instance = leak(cloud, text)
    assert command.doctor("--fix") == (7, [("leaked-allocation", instance, True)])
    assert (cloud.held(instance), used(cloud, gpu)) == ({}, {})
    assert command.doctor() == (0, [])


def test_what_a_killed_scheduler_left_of_a_shared_pool_is_released(
    cloud: TestCloud, diskless: FakeMachine, node: Node, pool: str, command: ScheduleCommand
) -> None:
    instance, other = leak(cloud), leak(cloud)
    code, found = command.doctor("--fix")
    assert (code, sorted(found)) == (7, sorted(("leaked-allocation", each, True) for each in (instance, other)))
    assert (used(cloud, pool), used(cloud, node.id)) == ({}, {})


def test_what_a_guest_lost_in_placement_is_claimed_again_with_its_pool(
    cloud: TestCloud, diskless: FakeMachine, node: Node, pool: str, command: ScheduleCommand
) -> None:
    instance = boot(cloud, diskless)
    cloud.claims.release(instance)
    assert command.doctor("--fix") == (7, [("lost-allocation", instance, True)])
    assert cloud.held(instance) == {node.id: OWN, pool: {"DISK_GB": 5}}


def test_a_spec_that_is_not_what_placement_holds_of_a_nested_provider_is_told(
    cloud: TestCloud, machine: FakeMachine, node: Node, gpu: str, command: ScheduleCommand
) -> None:
    instance = boot(cloud, machine, f"{QUERY}&resources1=CUSTOM_GPU:1")
    other = {node.id: {**OWN, "DISK_GB": 5}, gpu: {"CUSTOM_GPU": 2}}
    assert cloud.claims.claim(instance, Candidate(other, {"": sorted(other)}, {}))
    assert command.doctor() == (6, [("other-allocation", instance, False)])


def test_nodes_counts_what_is_held_of_the_node_itself(
    cloud: TestCloud, diskless: FakeMachine, node: Node, pool: str, command: ScheduleCommand
) -> None:
    boot(cloud, diskless)
    shown = command("nodes", "-f", "value", "-c", "vcpu", "-c", "disk_gb").out
    assert shown == "1/8 0/0\n"


def test_a_node_that_is_lost_is_forgotten_with_what_is_nested_in_it_and_what_was_left_of_its_pool(
    cloud: TestCloud, diskless: FakeMachine, command: ScheduleCommand
) -> None:
    with diskless.agent() as found:
        until(diskless.is_audited, "its first audit")
        pool = shared_pool(cloud.placement, [found.id], "pool", {"DISK_GB": Inventory(100)})
        gpu = nested_provider(cloud.placement, found.id, "gpu-0", GPUS)
        placed = boot(cloud, diskless, f"{QUERY}&resources1=CUSTOM_GPU:1")
        diskless.die(found)
    left = {found.id: OWN, gpu: {"CUSTOM_GPU": 1}, pool: {"DISK_GB": 5}}
    assert cloud.claims.claim(new_uuid(), Candidate(left, {"": sorted(left)}, {}))
    assert command("destroy", "--force", placed).code == 0
    assert command("node", "forget", "n1").code == 0
    assert used(cloud, pool) == {}
    assert [each.name for each in cloud.placement.providers()] == ["pool"]


def test_an_instance_that_was_given_up_is_not_released_again_when_it_was_placed_anew_on_the_same_pool(
    cloud: TestCloud, diskless: FakeMachine, other_machine: FakeMachine, command: ScheduleCommand
) -> None:
    other_machine.disk_gb = 0
    with diskless.agent() as lost:
        until(diskless.is_audited, "its first audit")
        pool = shared_pool(cloud.placement, [lost.id], "pool", {"DISK_GB": Inventory(100)})
        instance = boot(cloud, diskless)
        diskless.die(lost)
    assert command("destroy", "--force", instance).code == 0
    with other_machine.agent() as second:
        until(other_machine.is_audited, "its first audit")
        (aggregate,) = cloud.placement.aggregates(pool)[0]
        assert cloud.placement.put_aggregates(second.id, [aggregate], cloud.placement.aggregates(second.id)[1])
        again = replace(asked(cloud, str(other_machine.image)), instance=instance)
        assert cloud.scheduler().create(again).node == second.id
        with diskless.agent() as back:
            until(lambda: cloud.store.get(keys.destroy(back.id, instance)) is None, "the first node is rid of it")
            assert cloud.held(instance) == {second.id: OWN, pool: {"DISK_GB": 5}}


class DrainedAfterClaim(Placement):
    """The node is drained just after the first claim, so that its commit is refused."""

    def __init__(self, inner: Placement, drain: Callable[[], object]) -> None:
        self._api, self._endpoint, self._timeout_s = inner._api, inner._endpoint, inner._timeout_s
        self._drain = drain

    def claim(self, consumer: str, candidate: Candidate, user: str, generation: int | None) -> Claim:
        outcome = super().claim(consumer, candidate, user, generation)
        self._drain()
        return outcome


@pytest.mark.parametrize("text", [f"{QUERY}&resources1=CUSTOM_GPU:1", "resources=CUSTOM_GPU:1"])
def test_what_cannot_be_committed_is_given_back_whatever_it_is_of(
    cloud: TestCloud, machine: FakeMachine, node: Node, gpu: str, text: str
) -> None:
    wanted = asked(cloud, str(machine.image), text)
    closed = Put(keys.closed(node.id), encode(Mark("test", 1.0)))
    placement = DrainedAfterClaim(cloud.placement, lambda: cloud.store.transact([], [closed]))
    with pytest.raises(NothingFits):
        cloud.scheduler(placement).create(wanted)
    assert (cloud.held(wanted.instance), cloud.leftovers(wanted.instance)) == ({}, [])
