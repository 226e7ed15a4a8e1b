"""doctor with real etcd and Placement: what nodes and doctor find, what they mend, what they leave to people."""

from __future__ import annotations

import json

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.cli.doctor import FIXED, FOUND
from placet.errors import Unreachable
from placet.lifecycle import Power, State
from placet.model import ImageRef, Index, Mark, Spec, decode, encode
from placet.node import Node
from placet.placement import Placement
from placet.registration import register_provider
from placet.store import Delete, Put
from placet.store.etcd import EtcdStore
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine, until

HELD = {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}


def leak(cloud: TestCloud, node: str) -> str:
    """An allocation that nobody speaks for."""
    instance = new_uuid()
    assert cloud.claims.claim(instance, Candidate({node: HELD}, {"": [node]}, {}))
    return instance


def spec_of(node: str, instance: str, machine: FakeMachine) -> Spec:
    image = ImageRef(str(machine.image))
    return Spec(instance, node, "forged", image, {node: {"VCPU": 1}}, (), 1.0, new_uuid())


def put(cloud: TestCloud, key: str, value: bytes) -> None:
    assert cloud.store.transact([], [Put(key, value)])


def test_a_cloud_in_which_all_agrees_is_clean(command: ScheduleCommand, node: Node) -> None:
    command.place("web")
    told = command("doctor")
    assert (told.code, told.out, told.err) == (0, "clean: Placement, etcd and the hypervisors agree\n", "")
    assert command("doctor", "--fix").code == 0
    assert command.doctor() == (0, [])


def test_a_leaked_allocation_is_found_then_fixed_then_gone(
    command: ScheduleCommand, cloud: TestCloud, node: Node
) -> None:
    instance = leak(cloud, node.id)
    assert command.doctor() == (FOUND, [("leaked-allocation", instance, False)])
    assert cloud.held(instance) == {node.id: HELD}
    assert command.doctor("--fix") == (FIXED, [("leaked-allocation", instance, True)])
    assert cloud.held(instance) == {}
    assert command.doctor() == (0, [])
    assert cloud.leftovers(instance) == []


def test_a_node_releases_what_is_leaked_without_being_asked(cloud: TestCloud, node: Node) -> None:
    instance = leak(cloud, node.id)
    node.agent._auditor.hurry()
    until(lambda: not cloud.held(instance), "it is released")
    until(lambda: not cloud.leftovers(instance), "its own intent is gone")
    events = [entry.value for entry in cloud.store.scan(keys.events(instance)).entries]
    assert any(b"leaked-allocation" in event for event in events)


def test_what_an_intent_or_another_cloud_speaks_for_is_not_leaked(
    command: ScheduleCommand, cloud: TestCloud, node: Node
) -> None:
    mine, theirs = leak(cloud, node.id), new_uuid()
    put(cloud, keys.intent(mine), b"{}")
    cloud.placement.claim(theirs, Candidate({node.id: HELD}, {"": [node.id]}, {}), new_uuid(), None)
    assert command.doctor("--fix") == (0, [])
    assert cloud.held(mine) and cloud.held(theirs)


def test_a_lost_allocation_is_claimed_again(command: ScheduleCommand, cloud: TestCloud, node: Node) -> None:
    instance = command.place("web")
    before = cloud.held(instance)
    cloud.claims.release(instance)
    assert command.doctor() == (FOUND, [("lost-allocation", instance, False)])
    node.agent._auditor.hurry()
    until(lambda: cloud.held(instance) == before, "its node claims it again")
    assert command.doctor() == (0, [])


def test_a_lost_allocation_for_which_there_is_no_room_any_more_is_told(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web")
    cloud.claims.release(instance)
    intruder = new_uuid()
    everything = Candidate({node.id: {"VCPU": machine.vcpus}}, {"": [node.id]}, {})
    cloud.placement.claim(intruder, everything, new_uuid(), None)
    assert command.doctor("--fix") == (FOUND, [("lost-allocation", instance, False)])
    assert machine.hypervisor.domains[instance].power is Power.RUNNING
    assert "--fix could not: claim it again" in command("doctor", "--fix").out


def test_other_amounts_in_placement_are_told_and_left(command: ScheduleCommand, cloud: TestCloud, node: Node) -> None:
    instance = command.place("web")
    cloud.claims.release(instance)
    assert cloud.claims.claim(instance, Candidate({node.id: HELD}, {"": [node.id]}, {}))
    assert command.doctor("--fix") == (FOUND, [("other-allocation", instance, False)])
    assert cloud.held(instance) == {node.id: HELD}


def test_a_forged_spec_is_never_booted_and_told_and_can_be_destroyed_though_no_index_has_it(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    forged = new_uuid()
    put(cloud, keys.spec(node.id, forged), encode(spec_of(node.id, forged, machine)))
    web = command.place("web")
    until(lambda: "no-allocation" in command("events", forged).out, "its fault is an event")
    assert set(machine.hypervisor.domains) == {web}
    assert command.doctor() == (FOUND, [("orphan-spec", forged, False), ("unclaimed-spec", forged, False)])
    assert command("destroy", forged).code == 0
    assert cloud.leftovers(forged) == []
    assert command.doctor() == (0, [])
    assert machine.hypervisor.domains[web].power is Power.RUNNING


@pytest.mark.parametrize(
    "value",
    [b"{", b'{"version": 9}', b"x" * 300_000, b'{"version": 1, "instance": 7}', None],
    ids=["not JSON", "an unknown version", "too large", "malformed", "of another UUID"],
)
def test_a_spec_that_cannot_be_read_is_a_bad_record_and_can_be_destroyed(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node, value: bytes | None
) -> None:
    bad, other = new_uuid(), new_uuid()
    put(cloud, keys.spec(node.id, bad), value or encode(spec_of(node.id, other, machine)))
    assert command.doctor("--fix") == (FOUND, [("bad-record", bad, False)])
    command.place("web")
    assert command("destroy", bad).code == 0
    assert cloud.leftovers(bad) == cloud.leftovers(other) == []
    assert command.doctor() == (0, [])


def test_a_stray_keeps_running_and_holding_until_doctor_writes_its_spec_again(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web")
    held = cloud.held(instance)
    gone = [keys.spec(node.id, instance), keys.instance(instance), keys.name("default", "web")]
    cloud.store.transact([], [Delete(key) for key in gone])
    node.agent._auditor.hurry()
    until(lambda: "stray" in command("events", instance).out, "its node tells of it")
    assert command.doctor() == (FOUND, [("stray", instance, False)])
    assert cloud.held(instance) == held and machine.hypervisor.domains[instance].power is Power.RUNNING
    assert command.doctor("--fix") == (FIXED, [("stray", instance, True)])
    until(lambda: cloud.instances.get(instance).state is State.ACTIVE, "it is ACTIVE again")
    assert command("ip", "web").code == 0
    assert command.doctor() == (0, [])
    assert command("destroy", "web").code == 0
    assert machine.hypervisor.domains == {} and machine.hypervisor.disks == set()
    assert [key for key in cloud.leftovers(instance) if not key.startswith(keys.INSTANCES)] == []
    assert list((machine.state_dir / "specs").iterdir()) == []


def test_a_lost_spec_alone_is_one_finding_and_one_fix(command: ScheduleCommand, cloud: TestCloud, node: Node) -> None:
    instance = command.place("web")
    cloud.store.transact([], [Delete(keys.spec(node.id, instance)), Delete(keys.status(node.id, instance))])
    assert command.doctor("--fix") == (FIXED, [("stray", instance, True)])
    until(lambda: cloud.instances.get(instance).state is State.ACTIVE, "it is ACTIVE again")
    assert command.doctor() == (0, [])


def test_a_guest_that_nobody_remembers_keeps_running_and_is_left_to_people(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = command.place("web")
    cloud.store.transact([], [Delete(keys.spec(node.id, instance)), Delete(keys.instance(instance))])
    (machine.state_dir / "specs" / f"{instance}.json").unlink()
    code, told = command.doctor("--fix")
    assert (code, told[-1]) == (FOUND, ("unknown-guest", instance, False))
    assert cloud.held(instance) and machine.hypervisor.domains[instance].power is Power.RUNNING


def test_many_strays_are_more_than_one_answer_holds_and_one_fix_takes_them_all(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placet.sweep.ANSWER_BYTES", 1000)
    strays = {command.place(f"web-{number}") for number in range(4)}
    cloud.store.transact([], [Delete(keys.spec(node.id, instance)) for instance in strays])
    code, told = command.doctor()
    assert code == FOUND and ("more-findings", node.id, False) in told
    code, told = command.doctor("--fix")
    assert code == FIXED and {subject for kind, subject, _ in told if kind == "stray"} == strays
    assert command.doctor() == (0, [])


def test_what_the_index_has_and_no_node_is_closed(command: ScheduleCommand, cloud: TestCloud, node: Node) -> None:
    ghost = new_uuid()
    index = Index(ghost, node.id, "ghost", "default", new_uuid(), "", 1.0)
    put(cloud, keys.instance(ghost), encode(index))
    put(cloud, keys.name("default", "ghost"), encode(Mark("test", 1.0, ghost)))
    assert command.doctor("--fix") == (FIXED, [("orphan-index", ghost, True)])
    entry = cloud.store.get(keys.instance(ghost))
    assert entry and decode(Index, entry.value, "").deleted_at
    assert cloud.store.get(keys.name("default", "ghost")) is None
    assert command.doctor() == (0, [])


def test_an_index_that_is_lost_is_written_again(command: ScheduleCommand, cloud: TestCloud, node: Node) -> None:
    instance = command.place("web")
    cloud.store.transact([], [Delete(keys.instance(instance)), Delete(keys.name("default", "web"))])
    assert command.doctor("--fix") == (FIXED, [("orphan-spec", instance, True)])
    assert command("ip", "web").code == 0
    assert command.doctor() == (0, [])


def test_a_name_whose_instance_is_gone_is_freed(command: ScheduleCommand, cloud: TestCloud, node: Node) -> None:
    command.place("web")
    key = keys.name("default", "old")
    put(cloud, key, encode(Mark("test", 1.0, new_uuid())))
    assert command.doctor("--fix") == (FIXED, [("orphan-name", key, True)])
    assert cloud.store.get(key) is None and command("ip", "web").code == 0


def test_what_is_placed_while_doctor_reads_is_no_orphan(
    command: ScheduleCommand, cloud: TestCloud, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: between doctor's reading of the index and of the names."""
    scan = EtcdStore.scan
    placed: list[str] = []

    def scan_late(store: EtcdStore, prefix: str) -> object:
        if prefix == keys.NAMES and not placed:
            placed.append("")  # the scheduler scans, too
            placed[0] = cloud.scheduler().create(request(name="late")).instance
        return scan(store, prefix)

    monkeypatch.setattr(EtcdStore, "scan", scan_late)
    assert command.doctor("--fix") == (0, [])
    assert placed[0] and cloud.store.get(keys.name("default", "late"))


@pytest.mark.parametrize("key", [keys.instance(new_uuid()), keys.name("default", "web")])
def test_records_that_cannot_be_read_are_told_and_left(
    command: ScheduleCommand, cloud: TestCloud, node: Node, key: str
) -> None:
    put(cloud, key, b"{")
    assert command.doctor("--fix") == (FOUND, [("bad-record", key, False)])
    assert cloud.store.get(key)


def test_a_provider_that_etcd_knows_nothing_of_is_told_and_forgotten_on_demand(
    command: ScheduleCommand, cloud: TestCloud, node: Node
) -> None:
    lost, strange = new_uuid(), new_uuid()
    register_provider(cloud.placement, lost, new_uuid())
    cloud.placement.create_provider(strange, "somebody-elses-compute-node")
    assert command.doctor() == (FOUND, [("unknown-provider", lost, False)])
    rows = json.loads(command("nodes", "-f", "json").out)
    assert {(row["uuid"], row["state"]) for row in rows} == {(node.id, "up"), (lost, "orphan")}
    refused = command("node", "forget", strange)
    assert refused.code == 5 and "somebody-elses-compute-node" in refused.err
    assert command("node", "forget", lost).code == 0
    assert command.doctor() == (0, [])
    assert {found.uuid for found in cloud.placement.providers()} == {node.id, strange}


def test_a_node_that_is_silent_is_told_with_how_much_is_there(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        command.place("web")
    assert command.doctor("--fix") == (FOUND, [("silent-node", node.id, False)])
    assert "1 instance there can't be checked" in command("doctor").out


def test_a_node_that_is_alive_and_does_not_answer_is_deaf(
    command: ScheduleCommand, cloud: TestCloud, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placet.doctor.ANSWER_S", 3.0)
    deaf = cloud.add_node("n9")
    code, told = command.doctor()
    assert (code, [each for each in told if each[0] == "deaf-node"]) == (FOUND, [("deaf-node", deaf, False)])


def test_a_node_that_cannot_see_its_guests_mends_nothing(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine, node: Node
) -> None:
    instance = leak(cloud, node.id)
    node.driver._config.fail["instances.unreachable"] = 1.0  # type: ignore[attr-defined]
    assert command.doctor("--fix") == (FOUND, [("blind-node", node.id, False)])
    assert cloud.held(instance)
    node.driver._config.fail.clear()  # type: ignore[attr-defined]
    assert command.doctor("--fix") == (FIXED, [("leaked-allocation", instance, True)])


def test_a_repair_that_fails_does_not_keep_the_others_from_being_done(
    command: ScheduleCommand, cloud: TestCloud, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted((leak(cloud, node.id), leak(cloud, node.id)))
    release = Placement.release

    def refuse_first(placement: Placement, consumer: str, held: object) -> bool:
        if consumer == first:
            raise Unreachable("Placement answers no more")
        return release(placement, consumer, held)  # type: ignore[arg-type]

    monkeypatch.setattr(Placement, "release", refuse_first)
    code, told = command.doctor("--fix")
    assert code == FOUND
    assert told == [("leaked-allocation", first, False), ("leaked-allocation", second, True)]


def test_every_form_of_doctors_answer_fits_where_it_goes(
    command: ScheduleCommand, cloud: TestCloud, node: Node
) -> None:
    instance = leak(cloud, node.id)
    table = command("doctor")
    assert max(map(len, table.out.splitlines())) <= 80 and instance in table.out and node.id in table.out
    assert table.err == "1 found, 0 fixed, 1 left\n"
    assert command("doctor", "-f", "value", "-c", "subject").out == f"{instance}\n"
