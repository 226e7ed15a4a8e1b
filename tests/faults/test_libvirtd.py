"""libvirtd is killed at bad times, and guests end by themselves or are killed."""

from __future__ import annotations

from tests.faults.asking import (
    BOOT_S,
    domain_count,
    fault,
    kill_qemu,
    place,
    qemu,
    qemu_pid,
    reached,
    shut_down,
    status,
    story,
)
from tests.faults.conftest import sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.nodes import until


def test_guests_outlive_libvirtd_and_what_was_under_way_goes_on(cloud: Lab, first: LabNode) -> None:
    """It is killed right after a spec is placed, and again right after a destroy is asked; one guest just runs."""
    idle = place(cloud, first, "--wait")
    pid = qemu_pid(idle)
    building = place(cloud, first)
    first.host.kill_libvirtd()
    first.host.start_libvirtd()
    sound(cloud)
    assert qemu_pid(idle) == pid
    assert domain_count(cloud, building) == 1

    assert cloud.schedule("destroy", building, "--wait-timeout", "0").code in (0, 4)
    first.host.kill_libvirtd()
    told = cloud.schedule("show", idle)
    assert told.code == 0, "nobody needs libvirtd to look"
    first.host.start_libvirtd()
    sound(cloud)
    assert qemu_pid(idle) == pid
    assert domain_count(cloud, building) == 0 and qemu(building) is None


def test_work_that_is_asked_for_while_libvirtd_is_away_is_done_when_it_is_back(cloud: Lab, first: LabNode) -> None:
    going = place(cloud, first, "--wait")
    first.host.kill_libvirtd()
    coming = place(cloud, first)
    told = cloud.schedule("destroy", going, "--wait-timeout", "1")
    assert told.code == 4 and told.err.count("\n") == 1, told
    until(lambda: "libvirt" in str(status(cloud, first, coming).get("task")), "it says what it waits for")
    first.host.start_libvirtd()
    sound(cloud)
    assert (domain_count(cloud, coming), domain_count(cloud, going)) == (1, 0)


def test_a_guest_that_ends_stays_so_by_default(cloud: Lab, first: LabNode) -> None:
    """One powers itself off, one is killed; each is told by its status and an event."""
    off, killed = place(cloud, first), place(cloud, first)
    shut_down(cloud, first, off)
    until(lambda: status(cloud, first, off)["state"] == "SHUTOFF", "it is off")
    until(lambda: reached(cloud, first, killed, "ip"), "the other runs", BOOT_S)
    kill_qemu(killed)
    until(lambda: fault(cloud, first, killed) == "guest-crashed", "it crashed")
    assert any(what == "state" and "SHUTOFF" in reason for what, reason in story(cloud, off))
    assert any(what == "fault" and reason.startswith("guest-crashed") for what, reason in story(cloud, killed))
    assert qemu(off) is None and qemu(killed) is None


def test_a_guests_own_policy_starts_it_again(cloud: Lab, first: LabNode) -> None:
    crashing = place(cloud, first, "--restart", "on-failure")
    leaving = place(cloud, first, "--restart", "always")
    until(lambda: reached(cloud, first, leaving, "agent"), "the one that will leave is up", BOOT_S)
    until(lambda: reached(cloud, first, crashing, "ip"), "the other runs", BOOT_S)
    pids = [qemu_pid(crashing), qemu_pid(leaving)]
    kill_qemu(crashing)
    shut_down(cloud, first, leaving)
    for instance in (crashing, leaving):
        until(lambda instance=instance: status(cloud, first, instance)["restarts"], "it is started again")  # type: ignore[misc]
    sound(cloud)
    for instance, pid in zip((crashing, leaving), pids, strict=True):
        assert status(cloud, first, instance)["state"] == "ACTIVE" and qemu_pid(instance) != pid
        assert any(what == "restarted" for what, _ in story(cloud, instance))
