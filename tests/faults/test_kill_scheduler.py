"""kill -9 of schedule.py at each named point of a placement; then it is asked again, or nobody ever asks again."""

from __future__ import annotations

import signal
from pathlib import Path

from placet import keys
from tests.faults.asking import QUERY, domain_count, on, schedule_by
from tests.faults.conftest import sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import Told
from tests.support.faulty_http import Rule, faulty_http
from tests.support.nodes import until

LEASE_AND_SWEEP_S = 240.0


def kill_at(point: str, cloud: Lab, node: LabNode) -> str:
    """The UUID of an instance whose placement ended at a point."""
    instance = new_uuid()
    told = cloud.schedule(on(node), "--uuid", instance, env={"PLACET_FAILPOINT": point})
    assert (told.code, told.out) == (-signal.SIGKILL, ""), told
    return instance


def lose_placement(cloud: Lab, node: LabNode, directory: Path) -> str:
    """The UUID of an instance whose claim took effect, and then Placement did not answer any more."""
    instance = new_uuid()
    with faulty_http(cloud.placement_endpoint) as proxy:
        proxy.inject(Rule("PUT", "/allocations/.*", 500, applied=True))
        proxy.inject(Rule("GET", "/allocations/.*", 500, times=99))
        told = schedule_by(cloud, directory / "schedule.yaml", on(node), "--uuid", instance, endpoint=proxy.endpoint)
    assert (told.code, told.out) == (1, "") and "abort-incomplete" in told.err, told
    return instance


def intent_is_gone(cloud: Lab, instance: str) -> bool:
    return cloud.store.get(keys.intent(instance)) is None


def ask_again(cloud: Lab, node: LabNode, instance: str) -> Told:
    return cloud.schedule(on(node), "--uuid", instance)


def test_a_killed_scheduler_leaks_nothing_and_asking_again_gives_one_vm(
    cloud: Lab, first: LabNode, tmp_path: Path
) -> None:
    """All at once: the intent's lease of a minute, and then the sweep, are waited for once.

    One scheduler lives on, and cannot tidy up: it has claimed, and then Placement answers no more.
    """
    authorities = TestCloud.make(cloud.store, cloud.placement_endpoint)
    intended = kill_at("create.intent-written", cloud, first)
    assert not authorities.held(intended)
    claimed = kill_at("create.claimed", cloud, first)
    told = ask_again(cloud, first, claimed)  # before anything else: that minute passes
    assert told.code == 5 and "ask again in a minute" in told.err and told.err.count("\n") == 1, told
    abandoned = kill_at("create.claimed", cloud, first)
    assert authorities.held(abandoned)
    blind = lose_placement(cloud, first, tmp_path)
    assert authorities.held(blind)

    committed = kill_at("create.committed", cloud, first)
    told = ask_again(cloud, first, committed)
    assert told == Told(0, f"NOTIFIED TARGET, {first.uuid}, OF INSTANCE {committed}\n", "")
    for instance in (intended, claimed):
        until(lambda instance=instance: intent_is_gone(cloud, instance), "its lease ends", LEASE_AND_SWEEP_S)  # type: ignore[misc]
        assert ask_again(cloud, first, instance).code == 0
        assert ask_again(cloud, first, instance).code == 0, "the same answer again"
    for instance in (intended, claimed, committed):
        told = cloud.schedule(f"{QUERY}&in_tree={first.uuid}", "--uuid", instance, "--name", "other")
        assert (told.code, told.out, told.err.count("\n")) == (5, "", 1), told

    for instance in (abandoned, blind):
        until(lambda instance=instance: not authorities.held(instance), "a sweep releases it", LEASE_AND_SWEEP_S)  # type: ignore[misc]
    sound(cloud)
    assert [domain_count(cloud, each) for each in (intended, claimed, committed, abandoned, blind)] == [1, 1, 1, 0, 0]
    assert cloud.schedule("ip", abandoned).code == 1
