"""Random histories of a whole cloud: whatever happens to it in whatever order, its promises hold.

Each history is a sequence of rules: commands, jobs of agents, deaths, lost and late calls, cut networks, meddling.
Flows interleave at any call. After each rule check_always holds; in the end everything is healed, and once nothing
changes any more check_at_rest holds.

PLACET_HISTORIES sets how many of each kind (200). They are the same each time; PLACET_SEED=N gives others, the same for
the same N. What fails is shrunk and printed as the calls that lead to it, and as a line `@reproduce_failure(…)`: put it
over the class of the kind that failed to run only that history.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from placet import failpoints
from tests.stateful.machines import Machine
from tests.stateful.resting import heal, rest
from tests.stateful.simulation import Simulation
from tests.stateful.tasks import TO_THE_END, Drive, Task
from tests.stateful.verify import check_always, check_at_rest
from tests.support.lost import Fate

HISTORIES = int(os.environ.get("PLACET_HISTORIES", "200"))
SEED = os.environ.get("PLACET_SEED")
STEPS = 50
POINTS = sorted(failpoints.POINTS - {"build.image-half-fetched"})  # there are no images to fetch
Stages = list[tuple[Drive, list[str]]]  # how far something goes each time, and what then happens

fates = st.sampled_from([None, *(fate for fate in Fate if fate is not Fate.PASS)])
drives = st.one_of(
    st.just(TO_THE_END),
    st.builds(Drive, passes=st.integers(0, 20), fate=fates, free=st.booleans()),
    st.builds(Drive, passes=st.integers(0, 20)),
)
stops = st.one_of(
    st.builds(Drive, passes=st.integers(1, 22)),
    st.builds(Drive, until=st.sampled_from(["placement.claim", "placement.release", "driver.define", *POINTS])),
)
slots = st.integers(0, 4)
REPLACED = ("destroy", "turn", "create another")
REOPENED = ("drain", "undrain")
overtakings = st.lists(
    st.sampled_from(
        [
            *((each,) for each in ("create", "create another", "destroy", "force", "turn", "audit", "time", "drain")),
            REPLACED,
            (*REPLACED, "turn"),
            (*REOPENED, "create"),
        ]
    ),
    min_size=1,
    max_size=3,
).map(lambda found: [each for group in found for each in group])
stages = st.lists(st.tuples(stops, overtakings), min_size=1, max_size=2)
numbers = st.integers(0, 5)


GUEST_EVENTS = ("off", "crash", "vanish", "publish")
HAPPENINGS: dict[str, Callable[[Simulation, Machine], object]] = {
    "etcd is cut off": lambda _cloud, machine: machine.cut.add("store"),
    "Placement is cut off": lambda _cloud, machine: machine.cut.add("placement"),
    "libvirt does not answer": lambda _cloud, machine: machine.cut.add("driver"),
    "it is reached again": lambda _cloud, machine: machine.cut.clear(),
    "images are slow": lambda _cloud, machine: setattr(machine, "image_s", 7.0),
    "drain": lambda cloud, machine: cloud.drain(machine, back=False),
    "undrain": lambda cloud, machine: cloud.drain(machine, back=True),
    "clocks go forward": lambda cloud, _machine: cloud.clock.set_by(3600.0),
    "clocks go back": lambda cloud, _machine: cloud.clock.set_by(-3600.0),
    "etcd compacts": lambda cloud, _machine: cloud.etcd.compact(),
    "what is late arrives": lambda cloud, _machine: cloud.kernel.settle(),
}


class Histories(RuleBasedStateMachine):
    cloud: Simulation

    @initialize(machines=st.integers(1, 3), running=st.lists(st.integers(1, 3), max_size=3))
    def begin(self, machines: int, running: list[int]) -> None:
        self.cloud = Simulation(machines)
        for slot, vcpus in enumerate(running):
            self.create(slot, False, vcpus, TO_THE_END)
        self.all_is_well()

    # what users do

    @rule(slot=slots, other_name=st.booleans(), vcpus=st.integers(1, 3), drive=drives)
    def create(self, slot: int, other_name: bool, vcpus: int, drive: Drive) -> None:
        name = "vm-shared" if other_name else f"vm-{slot}"
        self.cloud.create(self.cloud.instances[slot], name, vcpus, drive)

    @rule(wanted=st.sets(slots, min_size=2), vcpus=st.integers(1, 2), drive=drives)
    def create_together(self, wanted: set[int], vcpus: int, drive: Drive) -> None:
        self.cloud.create_together(wanted, vcpus, drive)

    @rule(slot=slots, drive=drives)
    def destroy(self, slot: int, drive: Drive) -> None:
        self.cloud.destroy(self.cloud.instances[slot], drive)

    @rule(slot=slots, drive=drives)
    def force(self, slot: int, drive: Drive) -> None:
        self.cloud.force(self.cloud.instances[slot], drive)

    @rule(slot=slots, vcpus=st.integers(1, 3), stages=stages, drive=drives)
    def overtaken_create(self, slot: int, vcpus: int, stages: Stages, drive: Drive) -> None:
        task = self.cloud.create(self.cloud.instances[slot], f"vm-{slot}", vcpus, Drive(0))
        for stop, others in stages:
            task.go(stop)
            for other in others:
                self._overtake(other, slot)
        task.go(drive)

    @precondition(lambda self: any(agent.jobs() for agent in self.cloud.agents()))
    @rule(number=numbers, job=numbers, stop=stops, others=overtakings, drive=drives)
    def overtaken_job(self, number: int, job: int, stop: Drive, others: list[str], drive: Drive) -> None:
        """The instance that is looked at, or any, is dealt with meanwhile."""
        found = [(agent, each) for agent in self.cloud.agents() for each in agent.jobs()]
        found.sort(key=lambda pair: pair[1].split()[0] not in ("look", "audit"))
        agent, name = found[job % len(found)]
        task = agent.begin(name)
        task.go(stop)
        subject = name.rpartition(" ")[2]
        slot = self.cloud.instances.index(subject) if subject in self.cloud.instances else number % 5
        for other in others:
            self._overtake(other, slot)
        task.go(drive)

    @precondition(lambda self: self._tasks())
    @rule(number=numbers, drive=drives)
    def go_on(self, number: int, drive: Drive) -> None:
        tasks = self._tasks()
        tasks[number % len(tasks)].go(drive)

    @precondition(lambda self: self._tasks())
    @rule(number=numbers)
    def kill(self, number: int) -> None:
        tasks = self._tasks()
        tasks[number % len(tasks)].process.kill()

    @rule(point=st.sampled_from(POINTS), slot=slots, vcpus=st.integers(1, 3))
    def doomed_life(self, point: str, slot: int, vcpus: int) -> None:
        """Whoever comes by there next dies: perhaps in this instance's life, perhaps later."""
        self.cloud.doomed_life(point, self.cloud.instances[slot], f"vm-{slot}", vcpus)

    @rule()
    def all_is_well(self) -> None:
        """Everything that was begun ends, what was cut or killed is back, and a little time passes."""
        heal(self.cloud)
        for seconds in (1.0, 5.0):
            for agent in self.cloud.agents():
                self.cloud.turn(agent)
            self.cloud.pass_time(seconds)

    # what nodes do

    @rule(number=numbers, job=numbers, drive=drives)
    def job(self, number: int, job: int, drive: Drive) -> None:
        agent = self._machine(number).agent
        jobs = agent.jobs() if agent else []
        if agent and jobs:
            agent.begin(jobs[job % len(jobs)]).go(drive)

    @rule(audit=st.booleans())
    def turn(self, audit: bool) -> None:
        for agent in self.cloud.agents():
            self.cloud.turn(agent, audit)

    @rule(number=numbers, drive=drives)
    def start_agent(self, number: int, drive: Drive) -> None:
        self.cloud.start_agent(self._machine(number), drive)

    @rule(number=numbers)
    def kill_agent(self, number: int) -> None:
        agent = self._machine(number).agent
        if agent:
            agent.kill()

    @rule(number=numbers)
    def stop_agent(self, number: int) -> None:
        agent = self._machine(number).agent
        if agent in self.cloud.agents() and agent and not agent.tasks:
            agent.spawn("retire", agent.retire).go(TO_THE_END)

    # what the world does

    @rule(seconds=st.sampled_from([1.0, 5.0, 16.0, 31.0, 61.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        self.cloud.pass_time(seconds)

    @rule(number=numbers, what=st.sampled_from(sorted(HAPPENINGS)))
    def happens(self, number: int, what: str) -> None:
        HAPPENINGS[what](self.cloud, self._machine(number))

    @rule(number=numbers, guest=numbers, what=st.sampled_from(GUEST_EVENTS), heard=st.booleans())
    def guest_event(self, number: int, guest: int, what: str, heard: bool) -> None:
        machine = self._machine(number)
        guests = sorted(machine.hypervisor.domains)
        if not guests:
            return
        instance = guests[guest % len(guests)]
        if what == "vanish":
            self.cloud.vanish(machine, instance, heard)
        elif what == "publish":
            self.cloud.publish(machine, instance, heard)
        else:
            self.cloud.power_off(machine, instance, what == "crash", heard)

    @rule(repair=st.booleans())
    def doctor(self, repair: bool) -> None:
        self.cloud.doctor(repair)

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "cloud"):
            check_always(self.cloud)

    def teardown(self) -> None:
        if not hasattr(self, "cloud"):
            return
        try:
            check_at_rest(self.cloud, rest(self.cloud))
        finally:
            self.cloud.close()

    def _overtake(self, what: str, slot: int) -> None:
        """One thing that happens, whole, between two calls of something else."""
        cloud, instance = self.cloud, self.cloud.instances[slot]
        if what in ("turn", "audit"):
            for agent in cloud.agents():
                cloud.turn(agent, audit=what == "audit", under_way=False)
        elif what in ("drain", "undrain"):
            for machine in cloud.machines:
                cloud.drain(machine, back=what == "undrain")
        elif what == "time":
            cloud.pass_time(61.0)
        elif what == "destroy":
            cloud.destroy(instance, TO_THE_END)
        elif what == "force":
            cloud.force(instance, TO_THE_END)
        else:
            cloud.create(instance, f"vm-{slot}", 2 if what == "create another" else 1, TO_THE_END)

    def _machine(self, number: int) -> Machine:
        return self.cloud.machines[number % len(self.cloud.machines)]

    def _tasks(self) -> list[Task]:
        return self.cloud.kernel.tasks


MEDDLINGS: dict[str, Callable[[Simulation, Machine, str], None]] = {
    "forge a spec of 1": lambda cloud, machine, instance: cloud.forge(machine, instance, 1),
    "forge a spec of 3": lambda cloud, machine, instance: cloud.forge(machine, instance, 3),
    "spoil a spec": lambda cloud, machine, instance: cloud.spoil(machine, instance),
    "lose a spec": lambda cloud, machine, instance: cloud.lose_spec(machine, instance),
    "lose an allocation": lambda cloud, _machine, instance: cloud.lose_allocation(instance),
    "offer less": lambda cloud, machine, _instance: cloud.edit_inventory(machine, 1),
    "offer more": lambda cloud, machine, _instance: cloud.edit_inventory(machine, 6),
}


class MeddledHistories(Histories):
    """Somebody edits etcd and Placement by hand besides, and etcd is restored from backups."""

    @rule(number=numbers, slot=slots, what=st.sampled_from(sorted(MEDDLINGS)))
    def meddle(self, number: int, slot: int, what: str) -> None:
        MEDDLINGS[what](self.cloud, self._machine(number), self.cloud.instances[slot])

    @rule()
    def back_up(self) -> None:
        self.cloud.backups.append(self.cloud.etcd.backup())

    @precondition(lambda self: self.cloud.backups)
    @rule(number=numbers, new_cluster=st.booleans())
    def restore(self, number: int, new_cluster: bool) -> None:
        self.cloud.restore(self.cloud.backups[number % len(self.cloud.backups)], new_cluster)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What many thousand programs log would fill the memory."""
    logger = logging.getLogger("placet")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.timeout(120 + 4 * HISTORIES)
@pytest.mark.parametrize("histories", [Histories, MeddledHistories])
def test_whatever_happens_the_promises_hold(histories: type[Histories]) -> None:
    chosen = settings(
        max_examples=HISTORIES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=SEED is None,
        database=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(int(SEED))(histories) if SEED else histories, settings=chosen)


@pytest.mark.parametrize("point", POINTS)
def test_whoever_dies_at_a_failpoint_leaves_nothing(point: str) -> None:
    cloud = Simulation(2)
    try:
        cloud.doomed_life(point, cloud.instances[0], "vm-0", 1)
        assert cloud.kernel.doom is None, "nobody came by"
        check_always(cloud)
        check_at_rest(cloud, rest(cloud))
    finally:
        cloud.close()
