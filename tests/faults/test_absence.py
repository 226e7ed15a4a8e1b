"""Things that are gone: etcd's keys, an allocation, a disk. Absence never destroys: only a destroy takes a VM away."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from placet import keys
from placet.store.etcd import EtcdStore
from tests.faults.asking import (
    domain_count,
    fault,
    found,
    is_alive,
    place,
    qemu,
    qemu_pid,
    shown,
    shut_down,
    state,
    status,
)
from tests.faults.conftest import healthy, restart, sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud
from tests.support.nodes import until


def fixed(cloud: Lab) -> None:
    """doctor --fix mends all there is."""
    told = cloud.schedule("doctor", "--fix")
    assert told.code == 7, told.out + told.err
    healthy(cloud)


def all_alive(cloud: Lab) -> bool:
    return all(is_alive(cloud, node) for node in cloud.nodes)


def disk_of(node: LabNode, instance: str) -> Path:
    return node.state_dir / "instances" / instance / "disk.qcow2"


def subnets(cloud: Lab) -> dict[str, str]:
    """Which node has which /24 of the cloud's range, by its number."""
    entries = cloud.store.scan(keys.SUBNETS).entries
    return {json.loads(entry.value)["node"]: keys.last(entry.key) for entry in entries}


def test_an_emptied_etcd_stops_no_guest_and_a_doctor_writes_it_again(cloud: Lab) -> None:
    """One of the agents is restarted while etcd is empty: that whose subnet is not the first there is."""
    owners = subnets(cloud)
    first, second = sorted(cloud.nodes, key=lambda node: owners[node.uuid])
    instance = place(cloud, first, "--name", "web", "--wait")
    other = place(cloud, second, "--wait")
    pids = [qemu_pid(instance), qemu_pid(other)]
    ips = [shown(cloud, instance)["ip"], shown(cloud, other)["ip"]]

    cloud.control.empty_etcd()
    until(lambda: all_alive(cloud), "the nodes are alive in the empty etcd")
    restart(second)
    until(lambda: all_alive(cloud), "both are")
    seen = found(cloud)
    assert {("lost-cloud", "cloud"), ("other-etcd", first.uuid), ("stray", instance), ("stray", other)} <= seen, seen
    assert [qemu_pid(instance), qemu_pid(other)] == pids
    assert cloud.schedule("ip", instance).code == 1, "nobody knows it"

    fixed(cloud)
    sound(cloud)
    assert [qemu_pid(instance), qemu_pid(other)] == pids
    assert [cloud.schedule("ip", each).out.strip() for each in ("web", other)] == ips
    assert subnets(cloud) == owners, "each has its own again"


def test_a_restored_backup_stops_no_guest_and_boots_none_again(cloud: Lab, first: LabNode, second: LabNode) -> None:
    kept = place(cloud, first)
    gone = place(cloud, second)
    sound(cloud)
    backup = cloud.control.snapshot_etcd()
    assert cloud.schedule("destroy", gone).code == 0
    fresh = place(cloud, first, "--name", "fresh", "--wait")
    pids = [qemu_pid(kept), qemu_pid(fresh)]

    cloud.control.restore_etcd(backup)
    until(lambda: fault(cloud, second, gone) == "disk-missing", "the destroyed one is an error")
    until(lambda: ("other-etcd", first.uuid) in found(cloud), "the node doubts")
    assert ("stray", fresh) in found(cloud)
    told = cloud.schedule("doctor", "--fix")
    assert told.code == 6 and "unclaimed-spec" in told.out and "stray" in told.out, told
    assert domain_count(cloud, gone) == 0 and not disk_of(second, gone).exists()
    assert cloud.schedule("destroy", gone).code == 0
    healthy(cloud)
    sound(cloud)
    assert [qemu_pid(kept), qemu_pid(fresh)] == pids
    assert state(cloud, "fresh") == "ACTIVE"


def test_a_wrong_prefix_stops_no_guest(cloud: Lab, first: LabNode) -> None:
    instance = place(cloud, first, "--wait")
    pid = qemu_pid(instance)
    first.stop_agent()
    first.start_agent(settings={"etcd_prefix": "/wrong"})
    with contextlib.closing(EtcdStore(cloud.etcd_client, "/wrong")) as wrong:
        until(lambda: wrong.get(keys.alive(first.uuid)), "the node is alive elsewhere")
    assert state(cloud, instance) == "UNKNOWN"
    restart(first, etcd_prefix="/placet")
    sound(cloud)
    healthy(cloud)
    assert (state(cloud, instance), qemu_pid(instance)) == ("ACTIVE", pid)


def test_a_missing_disk_is_an_error_that_stops_and_rebuilds_nothing(cloud: Lab, first: LabNode) -> None:
    running, off = place(cloud, first), place(cloud, first)
    sound(cloud)
    shut_down(cloud, first, off)
    until(lambda: status(cloud, first, off)["state"] == "SHUTOFF", "it is off")
    pid = qemu_pid(running)
    for instance in (running, off):
        disk_of(first, instance).unlink()
    first.kill_agent()
    first.start_agent()
    first.wait_ready()
    for instance in (running, off):
        until(lambda instance=instance: fault(cloud, first, instance) == "disk-missing", "ERROR")  # type: ignore[misc]
        assert not disk_of(first, instance).exists(), "it was not made again"
        assert "restore it from a backup" in cloud.schedule("ip", instance).err
    assert qemu_pid(running) == pid
    assert qemu(off) is None


def test_a_lost_allocation_is_claimed_again_and_stops_nothing(cloud: Lab, first: LabNode) -> None:
    instance = place(cloud, first, "--wait")
    pid = qemu_pid(instance)
    authorities = TestCloud.make(cloud.store, cloud.placement_endpoint)
    held = authorities.held(instance)
    authorities.claims.release(instance)
    assert held and not authorities.held(instance)
    assert found(cloud) == {("lost-allocation", instance)}
    fixed(cloud)
    assert authorities.held(instance) == held
    assert (state(cloud, instance), qemu_pid(instance)) == ("ACTIVE", pid)
