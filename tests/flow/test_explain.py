"""Why a request fits nowhere, and what each node lacks: on real Placement and etcd, by the command line."""

from __future__ import annotations

import pytest

from placet import explaining, keys
from placet.choosing import Bounds
from placet.config import PlacementConfig
from placet.model import Zone, encode
from placet.node_records import Identity
from placet.placement import Placement
from placet.resources import Inventory
from placet.store import Delete, Put
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.commands import ScheduleCommand
from tests.support.offers import SMALL, drain, give_trait, go_down, offer, report, rows

AVX = "HW_CPU_X86_AVX512F"


def test_no_fit_says_how_many_nodes_fell_for_what_and_what_would_fit(
    command: ScheduleCommand, cloud: TestCloud
) -> None:
    for name, memory_mb in (("a", 1024), ("b", 3072)):
        give_trait(cloud, cloud.add_node(name, memory_mb=memory_mb), AVX)
    cloud.add_node("plain", memory_mb=8192)
    go_down(cloud, cloud.add_node("gone"), "gone")
    told = command(f"resources=MEMORY_MB:4096&required={AVX}")
    assert (told.code, told.out) == (3, "NO ALLOCATIONS LEFT\n")
    assert told.err == (
        f"schedule.py: 4 nodes: 2 lack MEMORY_MB (largest free 3072, asked 4096); 1 lack trait {AVX}; 1 down; each of "
        f"these is there, but no node has all of them; fits with MEMORY_MB:3072, or without required={AVX}\n"
    )
    assert command(f"resources=MEMORY_MB:3072&required={AVX}").code == 0
    assert command("resources=MEMORY_MB:4096").code == 0


@pytest.mark.parametrize(
    ("inventory", "asked", "fits"),
    [
        (Inventory(8, 0, 16.0, max_unit=8), 9, 8),
        (Inventory(8, min_unit=4, max_unit=8), 2, 4),
        (Inventory(8, step_size=3, max_unit=8), 8, 6),
        (Inventory(8, step_size=3, max_unit=8), 2, 3),
    ],
)
def test_the_amount_that_is_suggested_is_one_that_placement_takes(
    command: ScheduleCommand, cloud: TestCloud, inventory: Inventory, asked: int, fits: int
) -> None:
    offer(cloud, cloud.add_node("n"), VCPU=inventory)
    told = command("explain", f"resources=VCPU:{asked}")
    assert told.code == 3 and told.err.endswith(f"; fits with VCPU:{fits}\n")
    assert command("explain", f"resources=VCPU:{fits}").code == 0


def test_beyond_forty_nodes_their_own_reports_are_read_and_that_is_said(
    command: ScheduleCommand, cloud: TestCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "MAX_ASKED", 2)
    monkeypatch.setattr(explaining, "MAX_ASKED_OF_MANY", 1)
    for name, memory_mb in (("a", 1024), ("b", 2048), ("c", 8192)):
        node = cloud.add_node(name, memory_mb=memory_mb)
        report(cloud, node, name, VCPU=64, MEMORY_MB=memory_mb, DISK_GB=100)
    told = command("explain", "resources=MEMORY_MB:9000")
    assert told.err == (
        "schedule.py: 3 nodes, by the nodes' own reports: 3 lack MEMORY_MB (largest free 8192, asked 9000); "
        "fits with MEMORY_MB:8192\n"
    )
    told = command("explain", "resources=VCPU:8,MEMORY_MB:4096")  # c reports room for 64: a lie; Placement is asked
    assert "2 lack MEMORY_MB (largest free 2048, asked 4096); 1 lack VCPU (largest free 4, asked 8)" in told.err
    assert told.err.endswith("; fits with VCPU:4\n")
    told = command("explain", SMALL)
    assert (told.code, told.err) == (0, "the figures are those that the nodes report of themselves\n")


def test_whom_the_user_keeps_out_is_said(command: ScheduleCommand, cloud: TestCloud) -> None:
    a, b = cloud.add_node("a"), cloud.add_node("b", memory_mb=512)
    told = command(SMALL, "--avoid", "a")
    assert told.err == (
        "schedule.py: 2 nodes: 1 excluded by --avoid; 1 lack MEMORY_MB (largest free 512, asked 1024); "
        "fits with MEMORY_MB:512, or without --avoid a\n"
    ), (a, b)
    told = command(SMALL, "--host", "b")
    assert "1 excluded by --host" in told.err and told.err.endswith("or without --host b\n")
    assert command(SMALL, "--group", "db", "--policy", "anti-affinity").code == 0
    told = command(SMALL, "--group", "db")
    assert told.code == 3
    assert "1 excluded by --group" in told.err and told.err.endswith("or without --group db\n")


def test_a_zone_is_named_as_the_user_named_it(command: ScheduleCommand, cloud: TestCloud) -> None:
    inside, aggregate = cloud.add_node("inside", memory_mb=512), new_uuid()
    cloud.add_node("outside")
    generation = cloud.placement.aggregates(inside)[1]
    assert cloud.placement.put_aggregates(inside, [aggregate], generation)
    cloud.store.transact([], [Put(keys.zone("east"), encode(Zone("east", aggregate, 1.0)))])
    told = command(SMALL, "--zone", "east")
    assert "1 not in zone east; " in told.err and told.err.endswith("MEMORY_MB:512, or without --zone east\n")


def test_a_drained_node_is_said_to_be_worth_taking_back(command: ScheduleCommand, cloud: TestCloud) -> None:
    drain(cloud, cloud.add_node("n1"))
    told = command(SMALL)
    assert told.err == "schedule.py: 1 node: 1 drained; fits after `schedule.py undrain n1`\n"


def test_granular_groups_are_not_explained_beyond_what_is_known(command: ScheduleCommand, cloud: TestCloud) -> None:
    cloud.add_node("n1")
    told = command("explain", "resources1=VCPU:3&resources2=VCPU:3&group_policy=isolate")
    assert (told.code, told.err) == (3, "schedule.py: 1 node: 1 do not match the rest of the query\n")


def test_explain_shows_every_node_whether_or_not_it_fits(command: ScheduleCommand, cloud: TestCloud) -> None:
    cloud.add_node("big")
    small = cloud.add_node("small", memory_mb=512, vcpus=1)
    drain(cloud, small)
    told = command("explain", "resources=VCPU:2,MEMORY_MB:1024,DISK_GB:1")
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines()[1].split() == ["big", "yes", "4", "4096", "100", "-"]
    assert told.out.splitlines()[2] == "small  no    1     512        100      drained; lacks VCPU; lacks MEMORY_MB"
    found = rows(command("explain", "resources=VCPU:2,MEMORY_MB:1024,DISK_GB:1", "-f", "json"))
    assert found[0] == {
        "node": "big",
        "uuid": found[0]["uuid"],
        "state": "up",
        "fits": True,
        "free": {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 100},
        "reasons": [],
    }
    assert found[1]["reasons"] == ["drained", "lacks VCPU (free 1, asked 2)", "lacks MEMORY_MB (free 512, asked 1024)"]


def test_explain_of_one_node_asks_about_that_one(command: ScheduleCommand, cloud: TestCloud) -> None:
    for name, memory_mb in (("big", 4096), ("small", 512)):
        node = cloud.add_node(name, memory_mb=memory_mb)
        cloud.store.transact([], [Put(keys.identity(node), encode(Identity(node, name, new_uuid(), 1.0)))])
    assert command("explain", SMALL, "--node", "big").code == 0
    told = command("explain", SMALL, "--node", "small")
    assert told.code == 3 and len(told.out.splitlines()) == 2
    assert told.err.startswith("schedule.py: 1 node: 1 lack MEMORY_MB")
    assert command("explain", SMALL, "--node", "smal").code in (1, 2)


def test_that_placement_goes_away_meanwhile_hides_not_that_nothing_fits(cloud: TestCloud) -> None:
    cloud.add_node("n1")
    silent = Placement(PlacementConfig("http://127.0.0.1:1"))
    told = explaining.explain(silent, cloud.store, request("resources=VCPU:9"), Bounds())
    assert told.startswith("nothing fits resources=VCPU:9,") and "127.0.0.1:1 is not reachable" in told


def test_records_that_cannot_be_read_explain_nothing_and_stop_nothing(
    command: ScheduleCommand, cloud: TestCloud
) -> None:
    node, aggregate = cloud.add_node("n1"), new_uuid()
    gone = cloud.add_node("gone")
    cloud.store.transact([], [Put(keys.alive(node), b"[]"), Put(keys.zone("east"), b"7"), Delete(keys.alive(gone))])
    cloud.store.transact([], [Put(keys.identity(gone), b"\xff")])
    told = command("explain", f"{SMALL}&member_of={aggregate}")
    assert f"1 not member_of={aggregate}; 1 down; fits without member_of={aggregate}" in told.err
    assert f"{gone}  no" in told.out


def test_a_name_steers_no_terminal_and_breaks_no_line(command: ScheduleCommand, cloud: TestCloud) -> None:
    drain(cloud, cloud.add_node("n\x1b[31m\n1"))
    told = command(SMALL)
    assert told.err == "schedule.py: 1 node: 1 drained; fits after `schedule.py undrain n?[31m?1`\n"
    assert "\x1b" not in command("explain", SMALL).out
