"""Histories that random ones come by too seldom: each is a race or a loss that once did harm, or that one compare or
one read alone prevents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from placet import keys
from placet.errors import Conflict
from placet.store import Delete
from tests.stateful.resting import rest
from tests.stateful.simulation import Simulation
from tests.stateful.tasks import TO_THE_END, Drive
from tests.stateful.verify import check_always, check_at_rest

CLAIMED = Drive(until="create.claimed")


@pytest.fixture
def cloud() -> Iterator[Simulation]:
    """Two machines. Whatever a test does to them, all promises hold in the end."""
    made = Simulation(2)
    yield made
    try:
        check_always(made)
        check_at_rest(made, rest(made))
    finally:
        made.close()


def turns(cloud: Simulation, audit: bool = False) -> None:
    for agent in cloud.agents():
        cloud.turn(agent, audit, under_way=False)


def live(cloud: Simulation, slot: int, vcpus: int = 1) -> str:
    """An instance that runs."""
    instance = cloud.instances[slot]
    cloud.create(instance, f"vm-{slot}", vcpus, TO_THE_END)
    turns(cloud)
    cloud.pass_time(5.0)
    turns(cloud)
    return instance


def test_a_create_whose_intent_was_destroyed_does_not_claim_over_its_successor(cloud: Simulation) -> None:
    """Its claim went on one node while the successor's spec was on the other."""
    instance = cloud.instances[0]
    late = cloud.create(instance, "vm-0", 1, Drive(until="placement.claim"))
    cloud.destroy(instance, TO_THE_END)
    cloud.create(instance, "vm-0", 2, TO_THE_END)
    late.go(TO_THE_END)
    assert isinstance(late.error, Conflict)


def test_an_abort_that_is_overtaken_does_not_release_what_its_successor_claimed(cloud: Simulation) -> None:
    instance = cloud.instances[0]
    late = cloud.create(instance, "vm-0", 1, CLAIMED)
    for machine in cloud.machines:
        cloud.drain(machine, back=False)
    late.go(Drive(until="placement.release"))
    for machine in cloud.machines:
        cloud.drain(machine, back=True)
    cloud.create(instance, "vm-0", 2, TO_THE_END)
    late.go(TO_THE_END)
    turns(cloud)
    assert cloud.placement.allocation(instance).allocations


def test_what_is_destroyed_while_it_is_claimed_is_not_placed(cloud: Simulation) -> None:
    create = cloud.create(cloud.instances[0], "vm-0", 1, CLAIMED)
    destroy = cloud.destroy(cloud.instances[0], TO_THE_END)
    create.go(TO_THE_END)
    assert destroy.result is True
    assert isinstance(create.error, Conflict)


def test_a_name_that_is_taken_meanwhile_is_not_had_twice(cloud: Simulation) -> None:
    first = cloud.create(cloud.instances[0], "vm-shared", 1, CLAIMED)
    second = cloud.create(cloud.instances[1], "vm-shared", 1, TO_THE_END)
    first.go(TO_THE_END)
    assert second.error is None
    assert isinstance(first.error, Conflict)


def test_a_spec_that_asks_for_more_than_was_claimed_is_not_booted(cloud: Simulation) -> None:
    instance = cloud.instances[0]
    cloud.create(instance, "vm-0", 1, TO_THE_END)
    node = next(iter(cloud.placement.allocation(instance).allocations))
    home = next(machine for machine in cloud.machines if machine.node == node)
    cloud.forge(home, instance, 3)
    turns(cloud)
    assert instance not in home.hypervisor.domains


def test_a_sweep_leaves_alone_what_is_claimed_and_not_yet_committed(cloud: Simulation) -> None:
    create = cloud.create(cloud.instances[0], "vm-0", 1, CLAIMED)
    turns(cloud, audit=True)
    create.go(TO_THE_END)
    assert create.error is None


def test_a_sweep_that_is_overtaken_by_a_create_releases_nothing_of_it(cloud: Simulation) -> None:
    """It looked while a dead create's claim was left over, and goes on when that UUID is being placed anew."""
    instance = cloud.instances[0]
    cloud.create(instance, "vm-0", 1, CLAIMED).process.kill()
    cloud.pass_time(61.0)
    node = next(iter(cloud.placement.allocation(instance).allocations))
    agent = next(agent for agent in cloud.agents() if agent.machine.node == node)
    sweep = agent.begin("audit")
    sweep.go(Drive(until="store.grant_lease"))
    create = cloud.create(instance, "vm-0", 2, CLAIMED)
    sweep.go(TO_THE_END)
    create.go(TO_THE_END)
    assert create.error is None


def test_a_node_that_died_between_choice_and_commit_gets_nothing(cloud: Simulation) -> None:
    create = cloud.create(cloud.instances[0], "vm-0", 1, CLAIMED)
    node = next(iter(cloud.placement.allocation(cloud.instances[0]).allocations))
    machine = next(machine for machine in cloud.machines if machine.node == node)
    assert machine.agent is not None
    machine.agent.kill()
    cloud.pass_time(20.0)
    create.go(TO_THE_END)
    assert cloud.etcd.get(keys.spec(node, cloud.instances[0])) is None


def test_giving_an_instance_up_frees_what_it_held_at_once(cloud: Simulation) -> None:
    instance = live(cloud, 0)
    for machine in cloud.machines:
        assert machine.agent is not None
        machine.agent.kill()
    cloud.clock.advance(20.0)
    force = cloud.force(instance, TO_THE_END)
    assert force.result is True
    assert not cloud.placement.allocation(instance).allocations


def test_giving_up_is_refused_while_the_node_is_alive(cloud: Simulation) -> None:
    force = cloud.force(live(cloud, 0), TO_THE_END)
    assert isinstance(force.error, Conflict)


def test_a_create_that_fits_nowhere_takes_nothing_from_a_guest_of_its_uuid(cloud: Simulation) -> None:
    """Its spec was lost; the guest keeps its allocation."""
    instance = live(cloud, 0)
    node = next(iter(cloud.placement.allocation(instance).allocations))
    for machine in cloud.machines:
        if machine.node == node:
            cloud.lose_spec(machine, instance)
        cloud.drain(machine, back=False)
    cloud.create(instance, "vm-0", 1, TO_THE_END)
    assert cloud.placement.allocation(instance).allocations


def test_a_guest_whose_spec_is_lost_keeps_running_and_its_allocation(cloud: Simulation) -> None:
    instance = live(cloud, 0)
    home = next(machine for machine in cloud.machines if instance in machine.hypervisor.domains)
    cloud.lose_spec(home, instance)
    turns(cloud)
    cloud.pass_time(61.0)
    turns(cloud, audit=True)
    assert instance in home.hypervisor.domains
    assert cloud.placement.allocation(instance).allocations


def test_doctor_closes_an_index_in_an_hour_in_which_nothing_was_deleted_yet(cloud: Simulation) -> None:
    """The hour's lease is not there, and has to be granted first."""
    instance = cloud.instances[0]
    cloud.create(instance, "vm-0", 1, TO_THE_END)
    cloud.ghost.tampered.add(instance)
    for machine in cloud.machines:
        cloud.etcd.transact([], [Delete(keys.spec(machine.node, instance))])
    found = cloud.doctor(repair=True)
    assert [each.repaired for each in found if each.kind == "orphan-index"] == [True]


def test_doctor_sees_a_spec_whose_index_says_that_it_is_gone(cloud: Simulation) -> None:
    instance = live(cloud, 0)
    cloud.destroy(instance, TO_THE_END)
    turns(cloud)
    cloud.forge(cloud.machines[0], instance, 1)
    assert "orphan-spec" in {each.kind for each in cloud.doctor(repair=False)}
