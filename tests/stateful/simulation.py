"""A whole cloud in memory: machines with agents, clients that come and go, an operator, and somebody who meddles.

Everything is deterministic: the same calls of the same methods give the same history. Flows run as tasks (tasks.py);
what is not a task is done by hand, straight to etcd, Placement or a hypervisor.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from unittest import mock
from uuid import UUID, uuid5

from placet import failpoints, fetching, following, keys
from placet.asking import Asking
from placet.claims import Claims
from placet.cloud import join_cloud
from placet.destroying import Destroyer
from placet.doctor import Doctor
from placet.drivers.fake import FakeHypervisor
from placet.errand_records import Finding
from placet.errors import Conflict, NothingFits, NotYet, PlacetError
from placet.guest_records import GuestRecords
from placet.index_repair import IndexRepair
from placet.lifecycle import RESTARTS, Power
from placet.model import ImageRef, Spec, decode, encode
from placet.node_records import Published
from placet.nodes import Nodes
from placet.placement import Allocation
from placet.placing import Placed
from placet.query import parse_query
from placet.registration import publish_inventory
from placet.request import Request
from placet.resources import Inventory
from placet.scheduler import Scheduler
from placet.schema import changed
from placet.sharing import Sharing
from placet.store import Delete, Put
from placet.story import Story
from tests.stateful.agents import TTL_S, Agent, Fetchers
from tests.stateful.ghost import Ghost
from tests.stateful.machines import Machine
from tests.stateful.tasks import TO_THE_END, Drive, Kernel, Process, Task
from tests.stateful.world import Backup, Clock, Etcd, World
from tests.support.inline import Inline
from tests.support.placement_model import ModelPlacement

UUIDS = UUID("ffffffff-1111-4111-8111-111111111111")
DEFAULTS = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}
DESTROY_TIMEOUT_S = 20.0
BEAT_S = TTL_S / 3


class Simulation:
    """`close` ends it. Methods that take a Drive begin a program and let it go so far."""

    def __init__(self, machines: int) -> None:
        self._stack = ExitStack()
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        new_uuid = partial(_uuid, itertools.count())
        self.kernel, self.ghost, self.clock = Kernel(), Ghost(), Clock()
        self.world = World(self.clock, Etcd(self.clock, self.ghost.written), ModelPlacement(), new_uuid, self._released)
        self.etcd, self.placement = self.world.etcd, self.world.placement
        for point in failpoints.POINTS:
            self._stack.enter_context(failpoints.at(point, partial(self.kernel.at, point)))
        self._stack.enter_context(mock.patch.object(fetching, "ThreadPoolExecutor", self._fetchers))
        self._stack.enter_context(mock.patch.object(fetching, "MOMENT_S", 0.0))
        self._stack.enter_context(mock.patch.object(following, "PAUSE_S", 0.0))
        self.cloud = join_cloud(self.etcd, None, new_uuid, self.clock.wall())
        self.machines = [self._machine(f"n{number}", directory, new_uuid) for number in range(machines)]
        self.instances = [new_uuid() for _ in range(5)]
        self.backups: list[Backup] = []
        for machine in self.machines:
            self.start_agent(machine, TO_THE_END)

    def close(self) -> None:
        """Kill everything."""
        for process in self.kernel.processes:
            process.kill()
        self._stack.close()

    # clients

    def create(self, instance: str, name: str, vcpus: int, drive: Drive) -> Task:
        """A `schedule.py create`. The same words again are the same request."""
        request, process = self._request(instance, name, vcpus), self._client(f"create {instance[:8]}")
        return self._begin(process, lambda: self._create(process, request), drive)

    def create_together(self, slots: Iterable[int], vcpus: int, drive: Drive) -> Task:
        """One client that asks for several instances at once."""
        requests = [self._request(self.instances[slot], f"vm-{slot}", vcpus) for slot in sorted(slots)]
        process = self._client("create together")
        return self._begin(process, lambda: self._create_many(process, requests), drive)

    def destroy(self, instance: str, drive: Drive) -> Task:
        """A `schedule.py destroy`."""
        process = self._client(f"destroy {instance[:8]}")
        destroyer = self._destroyer(process)
        return self._begin(process, lambda: destroyer.destroy(instance, "test", DESTROY_TIMEOUT_S), drive)

    def force(self, instance: str, drive: Drive) -> Task:
        """A `schedule.py destroy --force`."""
        process = self._client(f"force {instance[:8]}")
        destroyer, claims = self._destroyer(process), self._claims(process)
        return self._begin(process, lambda: destroyer.force(instance, "test", claims), drive)

    def drain(self, machine: Machine, back: bool) -> None:
        """A `schedule.py node drain` or `undrain`."""
        nodes = Nodes(self.etcd, Story(self.etcd, "test", self.world.new_uuid(), self.clock.wall), self.clock.wall)
        if back:
            nodes.undrain(machine.node)
        else:
            nodes.drain(machine.node, "test")

    def doctor(self, repair: bool) -> list[Finding]:
        """A `schedule.py doctor`, answered by the agents that are there."""
        process = self._client("doctor")
        store, clock = self.world.store(process), self.clock
        asking = Asking(store, self.world.new_uuid, clock.monotonic)
        story, placement = self._story(process), self.world.placement_of(process)
        doctor = Doctor(store, placement, asking, IndexRepair(store, story, clock.wall), story, clock.wall)
        found: list[Finding] = []
        task = self._begin(process, lambda: found.extend(doctor.examine(repair)), TO_THE_END)
        self.finish(task)
        if task.error is not None:
            raise task.error
        return found

    def doomed_life(self, point: str, instance: str, name: str, vcpus: int) -> None:
        """An instance from its creation to its destruction; at a failpoint the next to come by, if any, dies."""
        of_sweep = point.startswith("sweep.")
        self.kernel.doom = "create.claimed" if of_sweep else point
        self.create(instance, name, 1 if of_sweep else vcpus, TO_THE_END)
        if of_sweep:  # it has something to do once the intent of what died has ended
            self.kernel.doom = point
            self.pass_time(61.0)
        for ending in (False, True):
            if ending:
                self.destroy(instance, TO_THE_END)
            for agent in self.agents():
                self.turn(agent, audit=True)
            self.pass_time(5.0)
            for agent in self.agents():
                self.turn(agent)

    # agents

    def start_agent(self, machine: Machine, drive: Drive) -> None:
        """compute.py begins, if it does not run."""
        if machine.agent is None or machine.agent.dead:
            machine.agent = Agent(self.kernel, machine, self.world, self.ghost)
            self._begin(machine.agent, machine.agent.start, drive)

    def agents(self) -> list[Agent]:
        """Those that serve."""
        found = [machine.agent for machine in self.machines]
        return [agent for agent in found if agent is not None and agent.ready and not agent.dead]

    def turn(self, agent: Agent, audit: bool = False, under_way: bool = True) -> None:
        """All that it has to do now, one thing after the other, each to its end; first what is under way."""
        for task in list(agent.tasks) if under_way else []:
            task.go(TO_THE_END)
        wanted = {"watch", "beat", "audit"} if audit else {"watch", "beat"}
        for _ in range(20):
            jobs = [job for job in agent.jobs() if job in wanted or job.split()[0] in ("answer", "look")]
            wanted.clear()
            for job in jobs:
                if job in agent.jobs():
                    agent.begin(job).go(TO_THE_END)
            if not jobs:
                return

    def finish(self, task: Task) -> None:
        """Let everybody go on until this one has ended."""
        for _ in range(100):
            task.go(TO_THE_END)
            if task.done:
                return
            for agent in self.agents():
                self.turn(agent)
            if task.waiting:
                task.go(TO_THE_END)
            if not task.done:
                self.pass_time(1.0)
        raise AssertionError(f"{task} does not end")

    # the world

    def pass_time(self, seconds: float) -> None:
        """Hearts beat meanwhile."""
        left = seconds
        while left > 0:
            step = min(left, BEAT_S)
            self.clock.advance(step)
            left -= step
            for agent in self.agents():
                if "beat" in agent.jobs() and seconds >= BEAT_S:
                    agent.begin("beat").go(TO_THE_END)

    def restore(self, backup: Backup, new_cluster: bool) -> None:
        """etcd is down, for longer than any command waits, and comes back as it was."""
        for process in list(self.kernel.processes):
            if isinstance(process, Agent):
                process.machine.cut.add("store")
                for task in list(process.tasks):
                    task.go(TO_THE_END)
                if not process.ready:
                    process.kill()
                process.machine.cut.discard("store")
            else:
                process.kill()
        self.kernel.settle()
        self.etcd.restore(backup, new_cluster)
        self.ghost.restore(backup.entries)

    def power_off(self, machine: Machine, instance: str, crash: bool, heard: bool) -> None:
        """A guest ends by itself."""
        domain = machine.hypervisor.domains[instance]
        if domain.power is Power.RUNNING:
            domain.power = Power.CRASHED if crash else Power.SHUTOFF
        self._tell(machine, instance, heard)

    def vanish(self, machine: Machine, instance: str, heard: bool) -> None:
        """Somebody undefines a domain; its disk stays."""
        del machine.hypervisor.domains[instance]
        self._tell(machine, instance, heard)

    def publish(self, machine: Machine, instance: str, heard: bool) -> None:
        """A guest that runs tells the metadata service which life it is of, and that it is ready."""
        records, life = GuestRecords(machine.directory / "metadata"), machine.lives[instance].request_id
        if machine.hypervisor.domains[instance].power is Power.RUNNING and records.has(instance):
            now = self.clock.wall()
            records.published.write(Published(instance, now, now, {"life": life}))
        self._tell(machine, instance, heard)

    # somebody meddles

    def forge(self, machine: Machine, instance: str, amount: int) -> None:
        """A spec that nobody claimed anything for, or another amount in one that is there."""
        key = keys.spec(machine.node, instance)
        entry = self.etcd.get(key)
        claimed = {machine.node: {"VCPU": amount, "MEMORY_MB": 256, "DISK_GB": 1}}
        self.ghost.tampered.add(instance)
        self.ghost.bent.add(machine.node)
        spec = Spec(instance, machine.node, "forged", ImageRef("/mini.qcow2"), claimed, (), 0.0, self.world.new_uuid())
        if entry is not None and _readable(entry.value):
            spec = changed(decode(Spec, entry.value, key), allocations=claimed)
        self.etcd.transact([], [Put(key, encode(spec))])

    def spoil(self, machine: Machine, instance: str) -> None:
        """A spec that nobody can read any more."""
        self.ghost.tampered.add(instance)
        self.etcd.transact([], [Put(keys.spec(machine.node, instance), b"{")])

    def lose_spec(self, machine: Machine, instance: str) -> None:
        """Somebody deletes a spec from etcd."""
        self.ghost.tampered.add(instance)
        self.etcd.transact([], [Delete(keys.spec(machine.node, instance))])

    def lose_allocation(self, instance: str) -> None:
        """Somebody deletes an allocation from Placement."""
        held = self.placement.allocation(instance)
        if held.allocations:
            self.ghost.tampered.add(instance)
            self.ghost.bent.update(held.allocations)
            self.placement.release(instance, held)

    def edit_inventory(self, machine: Machine, vcpus: int) -> None:
        """Somebody changes what a node offers in Placement."""
        self.ghost.bent.add(machine.node)
        publish_inventory(self.placement, machine.node, {"VCPU": Inventory(vcpus, max_unit=vcpus)})

    # inside

    def _machine(self, name: str, directory: Path, new_uuid: Callable[[], str]) -> Machine:
        home = directory / name
        home.mkdir()
        return Machine(name, new_uuid(), 4, home, FakeHypervisor(new_uuid()))

    def _client(self, name: str) -> Process:
        return Process(self.kernel, name)

    def _story(self, process: Process) -> Story:
        return Story(self.world.store(process), "test", self.world.new_uuid(), self.clock.wall)

    def _claims(self, process: Process) -> Claims:
        return Claims(self.world.placement_of(process), self.cloud, pause=lambda _seconds: None)

    def _destroyer(self, process: Process) -> Destroyer:
        return Destroyer(self.world.store(process), self._story(process), self.clock.wall, self.clock.monotonic)

    def _request(self, instance: str, name: str, vcpus: int) -> Request:
        restart = RESTARTS[self.instances.index(instance) % len(RESTARTS)]
        query = parse_query(f"resources=VCPU:{vcpus}", DEFAULTS)
        return Request(instance, self.world.new_uuid(), name, query, ImageRef("/mini.qcow2"), restart=restart)

    def _scheduler(self, process: Process, seed: str) -> Scheduler:
        store, placement = self.world.store(process), self.world.placement_of(process)
        claims, story = self._claims(process), self._story(process)
        clock = self.clock
        sharing, random = Sharing(placement, clock.monotonic, Inline()), Random(seed)
        return Scheduler(store, placement, claims, story, clock.wall, clock.monotonic, random, sharing, Inline())

    def _create(self, process: Process, request: Request) -> Placed:
        """The flow, and what its user is told in the end."""
        try:
            placed = self._scheduler(process, request.request_id).create(request)
        except (NothingFits, Conflict, NotYet) as problem:
            self._hear(process, request, problem)
            raise
        self._hear(process, request, placed)
        return placed

    def _create_many(self, process: Process, requests: list[Request]) -> None:
        for request, outcome in self._scheduler(process, requests[0].request_id).create_many(requests):
            self._hear(process, request, outcome)

    def _hear(self, process: Process, request: Request, outcome: Placed | PlacetError) -> None:
        """What a user was told is kept."""
        life = (request.instance, request.request_id)
        if isinstance(outcome, (NothingFits, Conflict, NotYet)):
            if life not in self.ghost.gone:  # else it was placed, and destroyed before it could know: it says so
                self.ghost.refused.add(life)
            kept = self.ghost.intents.get(request.instance) == request.request_id
            assert process.harmed or not kept, f"{life} was refused, and its intent is still there"
        elif isinstance(outcome, Placed) and not outcome.repeated:
            self.ghost.promised[life] = outcome.node

    def _begin(self, process: Process, flow: Callable[[], object], drive: Drive) -> Task:
        task = process.spawn("run" if not isinstance(process, Agent) else "start", flow)
        task.go(drive)
        return task

    def _released(self, instance: str, held: Allocation) -> None:
        """What runs, or has a disk, keeps what it holds, also when etcd knows nothing of it any more; unless a client
        asks for its UUID once more: then it is that one's."""
        task = self.kernel.current
        if instance in self._lost() and task is not None and not isinstance(task.process, Agent):
            return
        for machine in self.machines:
            lives = [machine.lives.get(instance), machine.disks.get(instance)]
            there = [instance in machine.hypervisor.domains, instance in machine.hypervisor.disks]
            for spec, is_there in zip(lives, there, strict=True):
                if spec and is_there and machine.node in held.allocations:
                    life = (instance, spec.request_id)
                    assert self.ghost.is_asked(machine.node, life), f"{life} is there, and its allocation is released"

    def _lost(self) -> set[str]:
        """What etcd may know nothing of, through no doing of ours."""
        return set(self.instances) if self.ghost.restored else self.ghost.tampered

    def _tell(self, machine: Machine, instance: str, heard: bool) -> None:
        if heard and machine.agent is not None:
            machine.agent.hear(instance)

    def _fetchers(self, _count: int, **_names: str) -> Fetchers:
        task = self.kernel.current
        assert task is not None and isinstance(task.process, Agent)
        return Fetchers(task.process.machine, self.clock)


def _uuid(numbers: Iterator[int]) -> str:
    return str(uuid5(UUIDS, str(next(numbers))))


def _readable(value: bytes) -> bool:
    return value != b"{"
