"""What placing would come to: create's --dry-run and fits, on real Placement and etcd. None of them writes."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random

import pytest

from placet import keys
from placet.model import Group, Mark, encode
from placet.previewing import Previews
from placet.resources import Inventory
from placet.store import Put
from tests.support.clouds import TestCloud, new_uuid, request
from tests.support.commands import ScheduleCommand
from tests.support.offers import SMALL, drain, everything, offer, report, rows
from tests.support.providers import nested_provider, shared_pool


def test_a_dry_run_shows_the_best_places_and_changes_nothing(command: ScheduleCommand, cloud: TestCloud) -> None:
    report(cloud, cloud.add_node("small"), "small", VCPU=4, MEMORY_MB=4096, DISK_GB=100)
    big = cloud.add_node("big", vcpus=64, memory_mb=65536, disk_gb=1000)
    report(cloud, big, "big", VCPU=64, MEMORY_MB=65536, DISK_GB=1000)
    drain(cloud, cloud.add_node("closed"))
    before = everything(cloud)
    told = command(SMALL, "--dry-run", "--group", "db", "--policy", "affinity")
    assert [line.split() for line in told.out.splitlines()] == [
        ["NODE", "LEFT", "VCPU", "MEMORY_MB", "DISK_GB"],
        ["big", "98%", "64", "65536", "1000"],
        ["small", "75%", "4", "4096", "100"],
    ]
    assert told.err == "it would go to big, the best of 2 nodes where it fits; nothing was claimed\n"
    found = rows(command(SMALL, "--dry-run", "-f", "json"))
    assert (found[1]["node"], found[1]["left"]) == ("small", 0.75)
    assert command("explain", SMALL).code == command("fits", SMALL).code == 0
    assert everything(cloud) == before
    assert found[0]["uuid"] == big and f"TARGET, {big}," in command(SMALL).out


def test_a_dry_run_of_what_fits_nowhere_says_so(command: ScheduleCommand, cloud: TestCloud) -> None:
    cloud.add_node("n")
    before = everything(cloud)
    told = command("resources=VCPU:9", "--dry-run")
    assert (told.code, told.out) == (3, "NO ALLOCATIONS LEFT\n")
    assert told.err.endswith("fits with VCPU:4\n")
    assert command("resources=VCPU:9", "--dry-run", "-f", "json").out == "[]\n"
    assert everything(cloud) == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((SMALL, "--dry-run", "--count", "2"), "`schedule.py fits` says how many"),
        ((SMALL, "--dry-run", "--wait"), "nothing that could be waited for"),
        ((SMALL, "-f", "json"), "-f and -c say how --dry-run"),
        (("fits", SMALL, "--count", "-1"), "invalid count value"),
        (("explain", SMALL, "nope"), "image 'nope' is unknown"),
        (("explain", "resources=VCPU:0"), "VCPU:0"),
        (("fits", "resources=NO_SUCH_CLASS:1"), "NO_SUCH_CLASS"),
        (("explain", "resources=VCPU:1&required=HW_NO_SUCH"), "HW_NO_SUCH"),
        (("explain", SMALL, "-c", "reasn"), "no column 'reasn'"),
    ],
)
def test_bad_words_are_told(command: ScheduleCommand, cloud: TestCloud, words: tuple[str, ...], text: str) -> None:
    cloud.add_node("n")
    told = command(*words)
    assert (told.code, text in told.err) == (2, True), told


def test_fits_is_exact_as_many_are_placed_and_one_more_is_not(command: ScheduleCommand, cloud: TestCloud) -> None:
    cloud.add_node("a", vcpus=3, memory_mb=4096)
    cloud.add_node("b", vcpus=9, memory_mb=3500)
    offer(cloud, cloud.add_node("c"), MEMORY_MB=Inventory(2000, 100, 1.5, max_unit=1024))
    assert command(SMALL, "--host", "a").code == 0
    told = command("fits", SMALL)
    in_all = rows(command("fits", SMALL, "-f", "json"))
    assert told.code == 0 and told.out.splitlines()[0].split() == ["NODE", "FITS", "RUNS_OUT"]
    by_name = {row["node"]: (row["fits"], row["runs_out"]) for row in in_all}
    assert by_name == {"a": (2, ["VCPU"]), "b": (3, ["MEMORY_MB"]), "c": (2, ["MEMORY_MB"]), None: (7, [])}
    for _ in range(7):
        assert command(SMALL).code == 0
    assert command(SMALL).code == 3
    none = command("fits", SMALL)
    assert none.code == 3 and none.out.splitlines()[1].split()[:2] == ["(all)", "0"]


def test_fits_counts_what_a_group_lets_in(command: ScheduleCommand, cloud: TestCloud) -> None:
    for name in ("a", "b"):
        cloud.add_node(name)
    apart = ("--group", "db", "--policy", "anti-affinity")
    assert rows(command("fits", SMALL, *apart, "-f", "json"))[-1]["fits"] == 2
    assert command(SMALL, *apart).code == 0
    assert rows(command("fits", SMALL, *apart, "-f", "json"))[-1]["fits"] == 1
    together = ("--group", "web", "--policy", "affinity")
    assert rows(command("fits", SMALL, *together, "-f", "json"))[-1]["fits"] == 4
    told = command("fits", SMALL, *apart, "--count", "2")
    assert (told.code, told.err) == (3, "schedule.py: 1 of 2 fit\n")
    assert command("fits", SMALL, "--group", "db", "--policy", "affinity").code == 5
    assert command("fits", SMALL, "--group", "new").code == 2


def test_of_a_shared_pool_what_one_node_takes_the_others_lack(command: ScheduleCommand, cloud: TestCloud) -> None:
    nodes = [cloud.add_node(name, vcpus=8, memory_mb=65536) for name in ("a", "b")]
    shared_pool(cloud.placement, nodes, "pool", {"DISK_GB": Inventory(10)})
    for node in nodes:
        offered, generation = cloud.placement.inventories(node)
        del offered["DISK_GB"]
        assert cloud.placement.put_inventories(node, offered, generation)
    found = rows(command("fits", SMALL, "-f", "json"))
    assert [row["fits"] for row in found] == [8, 8, 10]
    for _ in range(10):
        assert command(SMALL).code == 0
    told = command(SMALL)
    assert told.code == 3 and told.err == "schedule.py: 2 nodes: 2 do not match the rest of the query\n"


def test_of_children_of_a_node_each_is_counted_and_none_is_explained_away(
    command: ScheduleCommand, cloud: TestCloud
) -> None:
    node = cloud.add_node("n1", vcpus=16, memory_mb=65536)
    for name in ("gpu-a", "gpu-b"):
        nested_provider(cloud.placement, node, name, {"CUSTOM_GPU": Inventory(3, max_unit=2)})
    asked = f"{SMALL},CUSTOM_GPU:"
    assert [row["fits"] for row in rows(command("fits", f"{asked}1", "-f", "json"))] == [6, 6]
    assert rows(command("fits", f"{asked}2", "-f", "json"))[0] == {
        "node": "n1",
        "uuid": node,
        "fits": 2,
        "runs_out": ["CUSTOM_GPU"],
    }
    told = command(f"{asked}3")
    assert (told.code, told.err) == (3, "schedule.py: 1 node: 1 do not match the rest of the query\n")
    told = command("resources=VCPU:1,MEMORY_MB:99999,CUSTOM_GPU:1")
    assert told.err.endswith("(largest free 65536, asked 99999); may fit with MEMORY_MB:65536\n")


def test_an_empty_group_counts_no_members_whose_instance_is_gone(cloud: TestCloud) -> None:
    node = cloud.add_node("n1")
    group = Group("db", "anti-affinity", 1.0)
    member = keys.group_member("default", "db", node, new_uuid())
    cloud.store.transact([], [Put(keys.group("default", "db"), encode(group)), Put(member, encode(Mark("test", 1.0)))])
    before = everything(cloud)
    asked = replace(request(SMALL), group="db")
    assert Previews(cloud.store, cloud.placement, Random(1), "spread", time.time).fits(asked).total == 1
    assert everything(cloud) == before
