"""A node's life with real etcd and Placement: it registers, builds, reports, destroys, restarts."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.compute_config import FakeConfig
from placet.errors import Conflict, NothingFits, NotYet, PlacetError
from placet.lifecycle import Power, Stage, State
from placet.model import ImageRef, Mark, Spec, decode, encode
from placet.node_records import Identity
from placet.placement import Claim
from placet.query import DISABLED_TRAIT
from placet.registration import bind_identity
from placet.request import Request
from placet.resources import Inventory
from placet.store import Delete, Put
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.nodes import PATIENCE_S, FakeMachine, until
from tests.support.services import Etcd, PlacementServer


def wish(machine: FakeMachine, query: str = "resources=VCPU:1", image: str | None = None) -> Request:
    return replace(request(query), image=ImageRef(image or str(machine.image)))


def assert_nothing_left(cloud: TestCloud, machine: FakeMachine, instance: str) -> None:
    assert machine.hypervisor.domains == {} and machine.hypervisor.disks == set()
    assert cloud.held(instance) == {}
    assert [key for key in cloud.leftovers(instance) if not key.startswith("instances/")] == []


def test_a_node_registers_with_inventory_traits_and_a_heartbeat(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        inventories, _ = cloud.placement.inventories(node.id)
        assert {name: found.capacity for name, found in inventories.items()} == {
            "VCPU": 8,
            "MEMORY_MB": 8192,
            "DISK_GB": 100,
        }
        until(lambda: cloud.store.get(keys.alive(node.id)), "alive")
        assert DISABLED_TRAIT not in cloud.placement.traits(node.id)[0]


def test_a_placed_instance_boots_and_its_ip_comes_back(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        status = cloud.instances.wait_for(asked.instance, Stage.AGENT, PATIENCE_S)
        assert status.state is State.ACTIVE
        assert cloud.instances.ip(asked.instance) == status.addresses[0].ip
        assert list(status.stages) == ["claimed", "image", "defined", "started", "ip", "agent"]


def test_a_destroyed_instance_leaves_nothing_and_its_name_is_free(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        assert cloud.destroyer.destroy(asked.instance, "test", PATIENCE_S)
        assert_nothing_left(cloud, machine, asked.instance)
        assert not cloud.destroyer.destroy(asked.instance, "test", PATIENCE_S), "the second destroy finds it gone"
        again = replace(wish(machine), name=asked.name)
        assert cloud.scheduler().create(again)


def test_fifty_at_once_are_all_built_and_all_destroyed(cloud: TestCloud, machine: FakeMachine) -> None:
    machine.vcpus = 50
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        wishes = [wish(machine, "resources=VCPU:1,MEMORY_MB:64") for _ in range(50)]
        for asked in wishes:
            cloud.scheduler().create(asked)
        ips = {cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S).addresses[0].ip for asked in wishes}
        assert len(ips) == 50
        with pytest.raises(NothingFits):
            cloud.scheduler().create(wish(machine))
        for asked in wishes:
            cloud.destroyer.destroy(asked.instance, "test", PATIENCE_S)
        assert machine.hypervisor.domains == {}


def test_many_restarts_are_one_provider(cloud: TestCloud, machine: FakeMachine) -> None:
    ids = set()
    for _ in range(10):
        with machine.agent() as node:
            ids.add(node.id)
    assert len(ids) == 1
    assert [found.uuid for found in cloud.placement.providers()] == list(ids)


def test_a_stopped_node_gets_nothing_and_its_guests_keep_running(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
    assert machine.hypervisor.domains[asked.instance].power is Power.RUNNING
    assert cloud.instances.get(asked.instance).state is State.UNKNOWN
    with pytest.raises(NothingFits, match="1 down"):
        cloud.scheduler().create(wish(machine))
    with machine.agent():
        until(lambda: cloud.instances.get(asked.instance).state is State.ACTIVE, "it is ACTIVE again")


def test_a_destroy_while_the_node_is_down_is_carried_out_before_it_is_alive(
    cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
    with pytest.raises(NotYet, match=r"goes when its node .* is back"):
        cloud.destroyer.destroy(asked.instance, "test", 0.2)
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        assert machine.hypervisor.domains == {} and cloud.held(asked.instance) == {}
        assert cloud.instances.all() == []
        assert cloud.scheduler().create(replace(wish(machine), name=asked.name)), "its name is free"


def test_a_spec_that_nobody_claimed_is_never_booted(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        forged = Spec(
            new_uuid(), node.id, "evil", ImageRef(str(machine.image)), {node.id: {"VCPU": 1}}, (), 1.0, new_uuid()
        )
        cloud.store.transact([], [Put(keys.spec(node.id, forged.instance), encode(forged))])
        key = keys.status(node.id, forged.instance)
        until(lambda: b"no-allocation" in getattr(cloud.store.get(key), "value", b""), "the fault")
        assert machine.hypervisor.domains == {}


def test_a_spec_with_other_amounts_than_claimed_is_never_booted(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        machine.fake = FakeConfig()
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        entry = cloud.store.get(keys.spec(node.id, asked.instance))
        assert entry
        spec = decode(Spec, entry.value, "")
        bigger = replace(spec, instance=new_uuid(), allocations={node.id: {"VCPU": 8}})
        cloud.store.transact([], [Put(keys.spec(node.id, bigger.instance), encode(bigger))])
        key = keys.status(node.id, bigger.instance)
        until(lambda: cloud.store.get(key), "a status")
        assert set(machine.hypervisor.domains) == {asked.instance}


@pytest.mark.parametrize("value", [b"{", b'{"version": 9}', b'{"version": 1}', b"x" * 300_000])
def test_a_malformed_spec_is_reported_and_stops_nothing_else(
    cloud: TestCloud, machine: FakeMachine, value: bytes
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        bad = new_uuid()
        cloud.store.transact([], [Put(keys.spec(node.id, bad), value)])
        until(lambda: b"bad-spec" in getattr(cloud.store.get(keys.status(node.id, bad)), "value", b""), "the fault")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        assert cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)


def test_a_spec_that_vanishes_destroys_nothing(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        cloud.store.transact([], [Delete(keys.spec(node.id, asked.instance))])
        other = wish(machine)
        cloud.scheduler().create(other)
        cloud.instances.wait_for(other.instance, Stage.IP, PATIENCE_S)
        assert machine.hypervisor.domains[asked.instance].power is Power.RUNNING


def test_a_guest_that_etcd_forgot_is_not_taken_for_a_new_one_of_its_uuid(
    cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.AGENT, PATIENCE_S)
        cloud.store.transact([], [Delete(keys.spec(node.id, asked.instance))])
        again = replace(wish(machine), instance=asked.instance, name="again")
        cloud.scheduler().create(again)
        key = keys.status(node.id, asked.instance)
        until(lambda: b"other-guest" in getattr(cloud.store.get(key), "value", b""), "the fault")
        assert machine.hypervisor.domains[asked.instance].power is Power.RUNNING
        cloud.destroyer.destroy(asked.instance, "test", PATIENCE_S)
        assert machine.hypervisor.domains == {} and machine.hypervisor.disks == set()
        assert cloud.held(asked.instance) == {}


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("/nowhere/else.qcow2", "image-refused"),
        ("{images}/none.qcow2", "image-not-found"),
        ("{images}/no.qcow2", "image-invalid"),
    ],
)
def test_a_bad_image_is_an_error_that_a_destroy_clears(
    cloud: TestCloud, machine: FakeMachine, image: str, code: str
) -> None:
    images = machine.state_dir / "images"
    (images / "no.qcow2").write_text("<html>not found</html>")
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine, image=image.format(images=images))
        cloud.scheduler().create(asked)
        with pytest.raises(PlacetError, match=code):
            cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        assert cloud.instances.get(asked.instance).state is State.ERROR
        assert cloud.destroyer.destroy(asked.instance, "test", PATIENCE_S)
        assert_nothing_left(cloud, machine, asked.instance)


def test_what_may_work_later_is_tried_until_it_does(cloud: TestCloud, machine: FakeMachine) -> None:
    failing = {"create_disk.lost": 1.0}
    machine.fake = FakeConfig(fail=failing)
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        for step, next_one in (("create_disk", "define.unreachable"), ("define", "start.lost"), ("start", "none")):
            until(lambda step=step: f"{step}:" in str(task(cloud, asked.instance)), f"{step} fails")  # type: ignore[misc]
            failing.clear()
            failing[next_one] = 1.0
        assert cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S).state is State.ACTIVE
        assert list(machine.hypervisor.domains) == [asked.instance]


def test_a_guest_that_powers_itself_off_is_shutoff(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        node.driver.stop(asked.instance)
        until(lambda: cloud.instances.get(asked.instance).state is State.SHUTOFF, "SHUTOFF")


def test_a_copied_identity_is_refused_with_the_others_name(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        copy = Identity(node.id, "copy", new_uuid(), 1.0)
        with pytest.raises(Conflict, match="is already 'n1'"):
            bind_identity(cloud.store, copy)


def test_a_second_agent_on_one_hypervisor_is_refused_with_the_others_id(
    cloud: TestCloud, machine: FakeMachine, etcd: Etcd, placement: PlacementServer, tmp_path: Path
) -> None:
    other = FakeMachine(etcd, placement, machine.etcd_prefix, tmp_path / "n2", "n2")
    other.hypervisor = machine.hypervisor
    with machine.agent() as node:
        with pytest.raises(Conflict, match=node.id):
            with other.agent():
                pass


def test_two_nodes_have_two_subnets(
    cloud: TestCloud, machine: FakeMachine, etcd: Etcd, placement: PlacementServer, tmp_path: Path
) -> None:
    other = FakeMachine(etcd, placement, machine.etcd_prefix, tmp_path / "n2", "n2")
    with machine.agent(), other.agent():
        assert len(cloud.store.scan(keys.SUBNETS).entries) == 2


def test_an_inventory_class_that_someone_added_is_kept(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        found, generation = cloud.placement.inventories(node.id)
        assert cloud.placement.put_inventories(node.id, {**found, "PCI_DEVICE": Inventory(2)}, generation)
    with machine.agent() as node:
        assert "PCI_DEVICE" in cloud.placement.inventories(node.id)[0]


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """A URL of a server on loopback that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/image.qcow2"


def test_downloads_that_hang_hold_up_neither_other_builds_nor_a_destroy(cloud: TestCloud, machine: FakeMachine) -> None:
    with silent_server() as url, machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        hanging = [wish(machine, image=f"{url}?{number}") for number in range(6)]
        for asked in hanging:
            cloud.scheduler().create(asked)
        quick = wish(machine)
        cloud.scheduler().create(quick)
        assert cloud.instances.wait_for(quick.instance, Stage.IP, PATIENCE_S)
        with pytest.raises(NotYet, match=r"fetching http://127\.0\.0\.1"):
            until(lambda: "fetching" in str(task(cloud, hanging[0].instance)), "it says what it waits for")
            cloud.instances.ip(hanging[0].instance)
        for asked in hanging:
            assert cloud.destroyer.destroy(asked.instance, "test", PATIENCE_S)


def task(cloud: TestCloud, instance: str) -> str | None:
    status = cloud.instances.get(instance).status
    return status.task if status else None


def test_what_is_another_clouds_allocation_does_not_keep_a_spec_from_going(
    cloud: TestCloud, machine: FakeMachine
) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        forged = Spec(
            new_uuid(), node.id, "evil", ImageRef(str(machine.image)), {node.id: {"VCPU": 1}}, (), 1.0, new_uuid()
        )
        theirs = Candidate(forged.allocations, {"": [node.id]}, {})
        assert cloud.placement.claim(forged.instance, theirs, new_uuid(), None) is Claim.DONE
        cloud.store.transact([], [Put(keys.spec(node.id, forged.instance), encode(forged))])
        cloud.store.transact([], [Put(keys.destroy(node.id, forged.instance), encode(Mark("test", 1.0)))])
        until(lambda: not cloud.store.get(keys.destroy(node.id, forged.instance)), "the destroy is done")
        assert cloud.store.get(keys.spec(node.id, forged.instance)) is None
        assert cloud.held(forged.instance) == forged.allocations


def test_a_guest_never_boots_without_its_metadata(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        shutil.rmtree(machine.state_dir / "metadata")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        with pytest.raises(PlacetError, match="node-files"):
            cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        assert machine.hypervisor.domains[asked.instance].power is Power.SHUTOFF


def test_a_hypervisor_that_does_not_answer_is_told_to_who_asks(cloud: TestCloud, machine: FakeMachine) -> None:
    machine.fake = FakeConfig(fail={"define.unreachable": 1.0})
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        until(lambda: "does not answer" in str(task(cloud, asked.instance)), "the task says it")
        with pytest.raises(NotYet, match="does not answer"):
            cloud.instances.ip(asked.instance)


def test_an_instance_on_this_node_without_a_spec_keeps_running(cloud: TestCloud, machine: FakeMachine) -> None:
    with machine.agent() as node:
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = wish(machine)
        cloud.scheduler().create(asked)
        cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)
        cloud.store.transact([], [Delete(keys.spec(node.id, asked.instance))])
    with machine.agent():
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        assert machine.hypervisor.domains[asked.instance].power is Power.RUNNING
