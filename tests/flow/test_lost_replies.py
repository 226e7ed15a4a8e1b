"""Creating an instance when any of its calls is lost, late, or the last one: every number of call with every fate.

All is in memory (tests/support/placement_model.py, placet/store/memory.py), so that thousands of runs take seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.compute_config import FakeConfig
from placet.drivers.fake import FakeDomain, FakeDriver, FakeHypervisor
from placet.errors import Conflict, NotYet, Unreachable
from placet.hypervisor import Network, Owner
from placet.known_etcd import KnownEtcd
from placet.lifecycle import Stage
from placet.model import INTENT_TTL_S, Index, Mark, Spec, decode, encode
from placet.placement import Claim
from placet.placing import Placed
from placet.reconcile import at_stage, new_status
from placet.request import Request
from placet.spec_files import SpecFiles
from placet.store import Delete, Put
from placet.sweep import Sweep
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.lost import Fate, FlakyPlacement, FlakyStore, Killed, Plan, Wire

NOW = 1_800_000_000.0
Fates = Mapping[int, Fate]
HARM = [fate for fate in Fate if fate is not Fate.PASS]


@pytest.fixture(autouse=True)
def empty_placement() -> None:
    """In place of the flow tests' own: there is no real Placement to be emptied."""


@pytest.fixture(autouse=True, scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What nodes keep for themselves: nothing, here."""
    Scene.directory = tmp_path_factory.mktemp("node")


@dataclass
class Scene:
    """Two nodes with an instance and a stranger's allocation on them, and a request whose calls will be disturbed."""

    directory: ClassVar[Path]
    now: float = NOW
    asked: Request = field(default_factory=request)

    def __post_init__(self) -> None:
        self.cloud = TestCloud.on_models(lambda: self.now)
        self.nodes = [self.cloud.add_node(name) for name in ("n1", "n2")]
        self.neighbour = self.cloud.scheduler().create(request()).instance
        self.stranger = new_uuid()
        theirs = Candidate({self.nodes[0]: {"VCPU": 1}}, {"": [self.nodes[0]]}, {})
        assert self.cloud.placement.claim(self.stranger, theirs, new_uuid(), None) is Claim.DONE
        self.others = self._others()

    def create(
        self, fates: Fates | Plan, late_after: int | None = None, restart: bool = False
    ) -> tuple[Wire, Placed | None]:
        """Let the request go over a wire with these fates; None when it failed or died. `restart`: the nodes restart
        between choice and commit, so that the first claim is released again."""
        wire = Wire(self._plan(fates, restart), late_after)
        placement, store = FlakyPlacement(self.cloud.placement, wire), FlakyStore(self.cloud.store, wire)
        try:
            return wire, self.cloud.scheduler(placement, store).create(self.asked)
        except (Unreachable, Conflict, NotYet, Killed):
            return wire, None

    def _plan(self, fates: Fates | Plan, restart: bool) -> Plan:
        claims = 0

        def decide(name: str, number: int) -> Fate:
            nonlocal claims
            claims += name == "placement.claim"
            if restart and name == "placement.claim" and claims == 1:
                for node in self.nodes:
                    self.cloud.revive(node)
            return fates(name, number) if callable(fates) else fates.get(number, Fate.PASS)

        return decide

    def create_again(self) -> Placed:
        """The user's repetition, over a wire that is whole: at once, and if need be when the intent has ended."""
        try:
            return self.cloud.scheduler().create(self.asked)
        except Conflict:
            self.wait_out_intent()
            return self.cloud.scheduler().create(self.asked)

    def wait_out_intent(self) -> None:
        self.now += INTENT_TTL_S + 1

    def destroy_by_hand(self) -> None:
        """As a node does it: the keys, then the allocation."""
        found = set(self.cloud.leftovers(self.asked.instance)) - {"allocation"}
        assert self.cloud.store.transact([], [Delete(key) for key in sorted(found)])
        self.cloud.claims.release(self.asked.instance)

    def audit(self) -> None:
        """What the instance's node does every minute once the guest runs there."""
        for spec in self._specs():
            status = at_stage(new_status(spec.instance, spec.node, self.now), Stage.DEFINED, self.now)
            self.cloud.store.transact([], [Put(keys.status(spec.node, spec.instance), encode(status))])
            node_sweep(self.cloud, spec, self.directory).run()

    def assert_placed(self) -> None:
        """One spec, index, name and allocation, which say the same, and no intent."""
        instance, store = self.asked.instance, self.cloud.store
        (spec,) = self._specs()
        index = store.get(keys.instance(instance))
        name = store.get(keys.name(self.asked.project, self.asked.name))
        assert index and name
        assert decode(Index, index.value, "").node == spec.node
        assert decode(Mark, name.value, "").instance == instance
        assert self.cloud.held(instance) == spec.allocations
        assert list(spec.allocations) == [spec.node]
        assert store.get(keys.intent(instance)) is None

    def assert_nothing_but_an_allocation(self) -> None:
        """What stays, if anything, is an allocation that nothing in etcd speaks for: a sweep can tell it."""
        assert set(self.cloud.leftovers(self.asked.instance)) <= {"allocation"}

    def assert_others_untouched(self) -> None:
        assert self._others() == self.others
        for node in self.nodes:
            holders = self.cloud.placement.provider_allocations(node).keys()
            assert holders <= {self.neighbour, self.stranger, self.asked.instance}

    def _specs(self) -> list[Spec]:
        found = [self.cloud.store.get(keys.spec(node, self.asked.instance)) for node in self.nodes]
        return [decode(Spec, entry.value, "") for entry in found if entry]

    def _others(self) -> object:
        known = (self.neighbour, self.stranger)
        return [(self.cloud.placement.allocation(each), self.cloud.leftovers(each)) for each in known]


def the_rewrite_is_late() -> Plan:
    """The third claim, which writes over what the first has left, arrives late, and what follows it is lost."""
    claims: list[int] = []

    def decide(name: str, number: int) -> Fate:
        if name == "placement.claim":
            claims.append(number)
        if claims[2:] == [number]:
            return Fate.LATE
        return Fate.LOST_REQUEST if claims[2:] == [number - 1] else Fate.PASS

    return decide


def runs(restart: bool = False, late_after: int | None = None) -> Iterator[Fates]:
    """Every call of an undisturbed run with every fate."""
    wire, placed = Scene().create({}, restart=restart)
    assert placed
    for number in range(1, len(wire.calls) + 1):
        for fate in HARM if late_after is None else [Fate.LATE]:
            yield {number: fate}


def runs_with_two(restart: bool = False) -> Iterator[Fates]:
    """Every call of an undisturbed run with every fate, and then every later call of what that run becomes."""
    for first in runs(restart):
        wire, _ = Scene().create(first, restart=restart)
        for number in range(max(first) + 1, len(wire.calls) + 1):
            for fate in HARM:
                yield {**first, number: fate}


def runs_with_an_outage(restart: bool) -> Iterator[Fates]:
    """From every call of an undisturbed run on, several in a row have the same fate."""
    wire, _ = Scene().create({}, restart=restart)
    for number in range(1, len(wire.calls) + 1):
        for length in (3, 4, 5, 6, 8, 16, 64):
            for fate in (Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE):
                yield dict.fromkeys(range(number, number + length), fate)


def check(fates: Fates, restart: bool, late_after: int | None, settle_first: bool) -> None:
    """Disturbed, repeated, and destroyed again; what is late arrives before the repetition or after it."""
    scene = Scene()
    wire, placed = scene.create(fates, late_after, restart)
    with told(wire, fates):
        if settle_first:
            wire.settle()
        again = scene.create_again()
        wire.settle()
        assert placed is None or again == Placed(placed.instance, placed.node, repeated=True)
        if restart:
            scene.audit()
        scene.assert_placed()
        scene.assert_others_untouched()
        scene.destroy_by_hand()
        assert scene.cloud.leftovers(scene.asked.instance) == []
        scene.assert_others_untouched()


def check_without_repetition(fates: Fates, restart: bool, late_after: int | None) -> None:
    scene = Scene()
    wire, placed = scene.create(fates, late_after, restart)
    with told(wire, fates):
        wire.settle()
        scene.wait_out_intent()
        if placed or scene.cloud.store.get(keys.instance(scene.asked.instance)):
            if restart:
                scene.audit()
            scene.assert_placed()
        else:
            scene.assert_nothing_but_an_allocation()
        scene.assert_others_untouched()


@contextlib.contextmanager
def told(wire: Wire, fates: Fates) -> Iterator[None]:
    """Say which calls had which fate."""
    met = [(number, call, fates[number]) for number, call in enumerate(wire.calls, 1) if number in fates]
    try:
        yield
    except AssertionError as problem:
        story = ", ".join(f"{number} {call} {fate.name}" for number, call, fate in met)
        raise AssertionError(f"{story}: {problem}") from problem


def node_sweep(cloud: TestCloud, spec: Spec, directory: Path) -> Sweep:
    """The audit of a node on which `spec` runs."""
    owner = Owner(cloud.id, spec.node)
    machine = FakeHypervisor(new_uuid(), {spec.instance: FakeDomain(owner, spec.nics)}, {spec.instance})
    network = Network("placet", "placet0", IPv4Network("198.19.0.0/24"))
    return Sweep(
        spec.node,
        cloud.id,
        cloud.store,
        cloud.placement,
        cloud.claims,
        FakeDriver(machine, owner, network, FakeConfig(), Random(1)),
        KnownEtcd(directory / "known-etcd.json"),
        SpecFiles(directory / "specs"),
        cloud.story(cloud.store),
        lambda: None,
        cloud.clock,
        cloud.clock,
    )


@pytest.mark.parametrize("late_after", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("restart", [False, True])
def test_whichever_call_is_lost_the_same_request_again_is_one_instance(restart: bool, late_after: int | None) -> None:
    for fates in runs(restart, late_after):
        for settle_first in (True, False):
            check(fates, restart, late_after, settle_first)


@pytest.mark.parametrize("late_after", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("restart", [False, True])
def test_whichever_call_is_lost_nothing_stays_that_a_sweep_could_not_tell(
    restart: bool, late_after: int | None
) -> None:
    for fates in runs(restart, late_after):
        check_without_repetition(fates, restart, late_after)


@pytest.mark.parametrize("restart", [False, True])
def test_whichever_two_calls_are_lost_the_same_request_again_is_one_instance(restart: bool) -> None:
    for fates in runs_with_two(restart):
        for settle_first in (True, False):
            check(fates, restart, None, settle_first)


@pytest.mark.parametrize("restart", [False, True])
def test_whichever_two_calls_are_lost_nothing_stays_that_a_sweep_could_not_tell(restart: bool) -> None:
    for fates in runs_with_two(restart):
        check_without_repetition(fates, restart, None)


@pytest.mark.parametrize("restart", [False, True])
def test_however_long_an_outage_the_same_request_again_is_one_instance(restart: bool) -> None:
    for fates in runs_with_an_outage(restart):
        for settle_first in (True, False):
            check(fates, restart, None, settle_first)


@pytest.mark.parametrize("restart", [False, True])
def test_however_long_an_outage_nothing_stays_that_a_sweep_could_not_tell(restart: bool) -> None:
    for fates in runs_with_an_outage(restart):
        check_without_repetition(fates, restart, None)


def test_a_claim_that_arrives_after_the_uuid_was_claimed_anew_is_set_right_by_the_nodes_audit() -> None:
    """Placement counts the generations of a consumer that comes back from 1 again, so that what was meant for the
    earlier one fits the new one. Then a guest runs whose allocation is on another node, until its own looks."""
    scene = Scene()
    wire, placed = scene.create(the_rewrite_is_late(), restart=True)
    assert placed is None
    scene.create_again()
    wire.settle()
    with pytest.raises(AssertionError):
        scene.assert_placed()

    scene.audit()

    scene.assert_placed()
