"""A node while its link to etcd, or etcd itself, is in trouble: afterwards all is as it was asked, and done once.

Each test has an etcd of its own; the agent is behind a link that can be ill-treated, everybody else is not.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.cli.doctor import FIXED, FOUND
from placet.compute_config import ComputeConfig
from placet.drivers import Driver
from placet.errors import NothingFits, NotYet, Unreachable
from placet.hypervisor import Hypervisor, Owner
from placet.lifecycle import Power, State
from placet.model import ImageRef
from placet.node import MakeDriver, Node
from placet.store import Delete, Watch
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine, until
from tests.support.proxy import Link, link_to
from tests.support.services import Etcd, PlacementServer, etcd_server

CONVERGED_S = 120.0
PAUSE_S = 12.0
SMALL = "resources=VCPU:1,MEMORY_MB:64"


class CountingMachine(FakeMachine):
    """It counts how often each instance is started."""

    def __init__(self, etcd: Etcd, placement: PlacementServer, prefix: str, state_dir: Path) -> None:
        super().__init__(etcd, placement, prefix, state_dir, "n1")
        self.vcpus = 50
        self.lease_ttl_s = 60  # what is placed while only the agent's link is in trouble still goes to it
        self.starts: Counter[str] = Counter()

    def _choose(self, config: ComputeConfig, node: str) -> tuple[Hypervisor, MakeDriver]:
        hypervisor, make = super()._choose(config, node)

        def make_counting(owner: Owner, subnet: IPv4Network) -> Driver:
            driver = make(owner, subnet)
            start = driver.start

            def counted(instance: str) -> None:
                self.starts[instance] += 1
                start(instance)

            driver.start = counted  # type: ignore[method-assign]
            return driver

        return hypervisor, make_counting


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    """In place of the session's: these tests kill it."""
    with etcd_server() as server:
        yield server


@pytest.fixture
def link(etcd: Etcd) -> Iterator[Link]:
    with link_to(etcd.port) as running:
        yield running


@pytest.fixture
def machine(cloud: TestCloud, etcd: Etcd, link: Link, placement: PlacementServer, tmp_path: Path) -> CountingMachine:
    prefix = str(cloud.store._prefix).rstrip("/")  # type: ignore[attr-defined]
    return CountingMachine(replace(etcd, port=link.port), placement, prefix, tmp_path / "n1")


@dataclass
class Scene:
    """A cloud with one node, and what was asked of it so far. It goes on asking until etcd has taken it."""

    cloud: TestCloud
    machine: CountingMachine
    etcd: Etcd
    link: Link
    node: Node

    def __post_init__(self) -> None:
        self.destroyed: set[str] = set()

    def place(self, count: int) -> list[str]:
        return [self._asked(self._place_one) for _ in range(count)]

    def destroy(self, instances: list[str]) -> None:
        """Asked for, not waited for."""
        for instance in instances:
            self._asked(lambda instance=instance: self._mark(instance))  # type: ignore[misc]
            self.destroyed.add(instance)

    def specs(self) -> set[str]:
        return {keys.last(entry.key) for entry in self.cloud.store.scan(keys.specs(self.node.id)).entries}

    def wait_until_converged(self, wanted: list[str]) -> None:
        """What etcd wants is there and ACTIVE, nothing else is; no instance was started twice."""
        until(lambda: self._is_converged(set(wanted)), "converged", CONVERGED_S)
        assert set(self.machine.starts.values()) == {1}, self.machine.starts
        for instance in self.destroyed:
            left = [key for key in self.cloud.leftovers(instance) if not key.startswith(keys.INSTANCES)]
            assert left == []

    def lost_watch(self) -> Callable[[], bool]:
        """Tells whether the agent's present watch has ended since."""
        watch = self.watch
        return lambda: self.node.watcher._watch is not watch

    @property
    def watch(self) -> Watch:
        until(lambda: self.node.watcher._watch, "the agent watches")
        assert self.node.watcher._watch
        return self.node.watcher._watch

    def _is_converged(self, wanted: set[str]) -> bool:
        try:
            specs = self.specs()
            assert wanted - self.destroyed <= specs, "what was placed is lost"
            there = set(self.machine.hypervisor.domains) == specs == self.machine.hypervisor.disks
            return there and all(self.cloud.instances.get(each).state is State.ACTIVE for each in specs)
        except Unreachable:
            return False

    def _asked(self, ask: Callable[[], str]) -> str:
        """Its answer, asked again while etcd is away or the node seems to be: an ask that was open may be carried out
        all the same, and is then one more to converge on."""
        deadline = time.monotonic() + CONVERGED_S
        while True:
            try:
                return ask()
            except (Unreachable, NothingFits):
                assert time.monotonic() < deadline, "nobody takes what is asked"
                time.sleep(0.1)

    def _place_one(self) -> str:
        asked = replace(request(SMALL), image=ImageRef(str(self.machine.image)))
        self.cloud.scheduler().create(asked)
        return asked.instance

    def _mark(self, instance: str) -> str:
        with contextlib.suppress(NotYet):
            self.cloud.destroyer.destroy(instance, "test", 0)
        return instance


@pytest.fixture
def scene(cloud: TestCloud, machine: CountingMachine, etcd: Etcd, link: Link) -> Iterator[Scene]:
    """With the agent running."""
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        yield Scene(cloud, machine, etcd, link, node)


Trouble = Callable[[Scene], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def cut(scene: Scene) -> Iterator[None]:
    scene.link.cut()
    yield


@contextlib.contextmanager
def cut_for_a_while(scene: Scene) -> Iterator[None]:
    lost = scene.lost_watch()
    scene.link.refuse()
    yield
    until(lost, "the agent has noticed")
    scene.link.heal()


@contextlib.contextmanager
def silent(scene: Scene) -> Iterator[None]:
    lost = scene.lost_watch()
    scene.link.silence()
    yield
    until(lost, "the agent has noticed")
    scene.link.heal()


@contextlib.contextmanager
def slow(scene: Scene) -> Iterator[None]:
    scene.link.delay(0.1)
    yield
    scene.link.heal()


@contextlib.contextmanager
def cancelled(scene: Scene) -> Iterator[None]:
    scene.watch._stream._call.cancel()  # type: ignore[attr-defined]
    yield


@contextlib.contextmanager
def compacted(scene: Scene) -> Iterator[None]:
    """While the agent is away, so that it can't take up its watch where it was."""
    with cut_for_a_while(scene):
        yield
        scene.etcd.ctl("compact", str(scene.cloud.store.scan("").revision))


@pytest.mark.parametrize("trouble", [cut, silent, slow, cancelled, compacted])
def test_what_is_asked_while_the_agents_link_is_in_trouble_is_done_afterwards(scene: Scene, trouble: Trouble) -> None:
    first = scene.place(3)
    scene.wait_until_converged(first)
    with trouble(scene):
        second = scene.place(3)
        scene.destroy([first[0], second[0]])
    scene.wait_until_converged(first + second)
    third = scene.place(1)
    scene.destroy([first[1]])
    scene.wait_until_converged(first + second + third)


def restarted(scene: Scene) -> None:
    scene.etcd.restart()


def away(scene: Scene) -> None:
    lost = scene.lost_watch()
    scene.etcd.kill()
    until(lost, "the agent has noticed")
    scene.etcd.start()


def paused(scene: Scene) -> None:
    lost, end = scene.lost_watch(), time.monotonic() + PAUSE_S
    scene.etcd.pause()
    until(lambda: lost() and time.monotonic() >= end, "the pause is over, and the agent has noticed")
    scene.etcd.resume()


@pytest.mark.parametrize("trouble", [restarted, away, paused])
def test_what_is_asked_while_etcd_is_in_trouble_is_done_afterwards(
    cloud: TestCloud, machine: CountingMachine, etcd: Etcd, link: Link, trouble: Callable[[Scene], None]
) -> None:
    machine.lease_ttl_s = 3  # the agent's lease ends, and has to be taken anew
    with machine.agent() as node, ThreadPoolExecutor(1) as pool:
        scene = Scene(cloud, machine, etcd, link, node)
        first = scene.place(3)
        scene.wait_until_converged(first)

        def ask() -> list[str]:
            placed: list[str] = []
            for number in range(3):
                placed += scene.place(2)
                scene.destroy([first[number]])
            return placed

        asking = pool.submit(ask)
        trouble(scene)
        scene.wait_until_converged(first + asking.result(CONVERGED_S))


def let_it_know(machine: FakeMachine, node: Node, revision: int) -> None:
    """Have the agent look until it knows that etcd was at a revision."""

    def is_known() -> bool:
        node.agent._auditor.hurry()
        return int(json.loads((machine.state_dir / "known-etcd.json").read_bytes())["revision"]) >= revision

    until(is_known, "the agent knows etcd's revision")


def audited(node: Node) -> None:
    """Have the agent audit itself from now on, to the end."""
    auditor = node.agent._auditor
    for _ in range(2):  # one may have been under way
        auditor.hurry()
        until(lambda: auditor._due > time.monotonic(), "the audit is done")


@pytest.mark.parametrize("cluster", ["etcd-cluster", "another"])
def test_an_etcd_restored_under_a_running_agent_halts_its_repairs_until_doctor_is_told_to_go_on(
    scene: Scene, command: ScheduleCommand, tmp_path: Path, cluster: str
) -> None:
    cloud, machine, node = scene.cloud, scene.machine, scene.node
    kept = scene.place(1)
    scene.wait_until_converged(kept)
    backup = scene.etcd.snapshot(tmp_path / "backup")
    lost = scene.place(2)
    scene.wait_until_converged(kept + lost)
    let_it_know(machine, node, cloud.store.scan("").revision)
    scene.etcd.restore(backup, cluster)
    until(lambda: node.agent._auditor._sweep._known.doubt, "the agent doubts this etcd")
    leaked = new_uuid()
    held = {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
    assert cloud.claims.claim(leaked, Candidate({node.id: held}, {"": [node.id]}, {}))
    audited(node)
    assert cloud.held(leaked), "nothing is mended"
    strays = {("stray", instance, False) for instance in lost}
    doubted = {("other-etcd", node.id, False), ("leaked-allocation", leaked, False), *strays}
    code, found = command.doctor()
    assert code == FOUND and set(found) == doubted
    assert {domain.power for domain in machine.hypervisor.domains.values()} == {Power.RUNNING}
    code, found = command.doctor("--fix")
    assert (code, set(found)) == (FIXED, {(kind, subject, True) for kind, subject, _ in doubted})
    scene.wait_until_converged(kept + lost)
    assert scene.specs() == {*kept, *lost} and cloud.held(leaked) == {}
    assert command.doctor() == (0, [])
    scene.destroy(kept)
    scene.wait_until_converged(lost + scene.place(1))


def test_a_node_is_alive_again_soon_after_an_outage_even_if_etcd_forgot_it_but_not_its_lease(
    cloud: TestCloud, machine: CountingMachine, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the next time that it would look after its key in any case."""
    monkeypatch.setattr("placet.heartbeat.SEEN_EVERY_S", 3600.0)
    machine.lease_ttl_s = 9  # it beats every three seconds
    with machine.agent() as node:
        until(lambda: cloud.store.get(keys.alive(node.id)), "alive")
        link.refuse()
        until(lambda: node.agent._heartbeat._failing, "a beat fails")
        cloud.store.transact([], [Delete(keys.alive(node.id))])
        link.heal()
        until(lambda: cloud.store.get(keys.alive(node.id)), "alive again")


def test_an_agent_stops_while_etcd_does_not_answer_and_its_guests_keep_running(scene: Scene) -> None:
    instances = scene.place(1)
    scene.wait_until_converged(instances)
    scene.link.silence()
    scene.machine._end()
    assert scene.machine.hypervisor.domains[instances[0]].power is Power.RUNNING
