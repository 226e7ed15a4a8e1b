"""Zones: made, filled, shown and emptied by the command line, with real Placement and etcd."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from random import Random

import pytest

from placet import keys, wiring
from placet.errors import NotFound
from placet.model import Zone, decode
from placet.nodes import Nodes
from placet.placement import Placement
from placet.resources import Inventory
from placet.zones import Zones
from tests.support.clouds import TestCloud
from tests.support.commands import ScheduleCommand, Told
from tests.support.providers import shared_pool

QUERY = "resources=VCPU:1,MEMORY_MB:64,DISK_GB:1"


@pytest.fixture
def nodes(cloud: TestCloud) -> list[str]:
    """n1, n2 and n3."""
    return [cloud.add_node(name) for name in ("n1", "n2", "n3")]


def zones(cloud: TestCloud) -> Zones:
    found = Nodes(cloud.store, cloud.story(cloud.store), cloud.clock)
    return Zones(cloud.store, cloud.placement, found, cloud.clock, wiring.new_uuid)


def listed(command: ScheduleCommand) -> dict[str, list[str]]:
    return {row["name"]: row["members"] for row in json.loads(command("zone", "list", "-f", "json").out)}


def placed_on(told: Told) -> str:
    assert told.code == 0, told.err
    return told.out.split()[2].strip(",")


def aggregates(cloud: TestCloud, node: str) -> frozenset[str]:
    return cloud.placement.aggregates(node)[0]


def test_a_zone_is_where_an_instance_goes(command: ScheduleCommand, nodes: list[str]) -> None:
    assert command("zone", "add", "hall-1", "n2") == Told(0, "", "")
    assert {placed_on(command(QUERY, "--zone", "hall-1")) for _ in range(3)} == {nodes[1]}


def test_all_resources_in_groups_of_their_own_stay_within_a_zone(command: ScheduleCommand, nodes: list[str]) -> None:
    command("zone", "add", "hall-1", "n3")
    query = "resources1=VCPU:1,MEMORY_MB:64&resources2=DISK_GB:1&group_policy=none"
    assert {placed_on(command(query, "--zone", "hall-1")) for _ in range(3)} == {nodes[2]}


def test_zones_are_listed_with_their_nodes_and_how_many_are_up(
    command: ScheduleCommand, cloud: TestCloud, nodes: list[str]
) -> None:
    command("zone", "add", "hall-1", "n1", nodes[1])
    command("zone", "add", "ssd", "n1")
    (hall, ssd) = json.loads(command("zone", "list", "-f", "json").out)
    assert (hall["name"], hall["nodes"], hall["up"], hall["members"]) == ("hall-1", 2, 2, ["n1", "n2"])
    assert (ssd["members"], ssd["uuids"]) == (["n1"], [nodes[0]])
    assert command("zone", "list").out.splitlines()[1].split() == ["hall-1", "2", "2", "n1,", "n2"]
    cloud.placement.delete_provider(nodes[0])
    assert listed(command) == {"hall-1": ["n2"], "ssd": []}


def test_adding_again_changes_nothing(command: ScheduleCommand, cloud: TestCloud, nodes: list[str]) -> None:
    command("zone", "add", "hall-1", "n1")
    before = aggregates(cloud, nodes[0])
    assert command("zone", "add", "hall-1", "n1", "n1") == Told(0, "", "")
    assert aggregates(cloud, nodes[0]) == before


def test_other_aggregates_of_a_node_are_kept(command: ScheduleCommand, cloud: TestCloud, nodes: list[str]) -> None:
    shared_pool(cloud.placement, nodes[:1], "pool", {"DISK_GB": Inventory(10)})
    before = aggregates(cloud, nodes[0])
    command("zone", "add", "hall-1", "n1")
    assert before < aggregates(cloud, nodes[0])
    command("zone", "remove", "hall-1", "n1")
    assert aggregates(cloud, nodes[0]) == before


def test_a_zone_goes_with_its_last_node(command: ScheduleCommand, cloud: TestCloud, nodes: list[str]) -> None:
    command("zone", "add", "hall-1", "n1", "n2")
    assert command("zone", "remove", "hall-1", "n1") == Told(0, "", "")
    assert listed(command) == {"hall-1": ["n2"]}
    assert command("zone", "remove", "hall-1", "n1") == Told(0, "", "n1 was not in zone hall-1\n")
    assert command("zone", "remove", "hall-1", "n2") == Told(0, "", "")
    assert listed(command) == {}
    assert not cloud.store.scan(keys.ZONES).entries


def test_a_zone_is_removed_with_all_its_nodes(command: ScheduleCommand, cloud: TestCloud, nodes: list[str]) -> None:
    command("zone", "add", "hall-1", "n1", "n2")
    assert command("zone", "remove", "hall-1") == Told(0, "", "")
    assert [aggregates(cloud, node) for node in nodes] == [frozenset()] * 3
    told = command("zone", "remove", "hall-1")
    assert (told.code, told.err) == (
        1,
        "schedule.py: no zone 'hall-1'; `schedule.py zone list` shows what there is\n",
    )


def test_a_shared_pool_in_the_zone_serves_its_nodes(
    command: ScheduleCommand, cloud: TestCloud, nodes: list[str]
) -> None:
    shared_pool(cloud.placement, nodes[:1], "fast-pool", {"CUSTOM_FAST_GB": Inventory(10)})
    command("zone", "add", "hall-1", "n1", "n2")
    query = "resources=VCPU:1,CUSTOM_FAST_GB:1"
    assert command(query, "--zone", "hall-1").code == 3
    assert command("zone", "add", "hall-1", "fast-pool").code == 0
    assert placed_on(command(query, "--zone", "hall-1")) in nodes[:2]


NONSENSE: list[tuple[tuple[str, ...], int, str]] = [
    (("zone", "add", "Hall", "n1"), 2, "'Hall' is no name"),
    (("zone", "add", "a/b", "n1"), 2, "'a/b' is no name"),
    (("zone", "add", "hall-1"), 2, "NODE"),
    (("zone", "add", "hall-1", "n9"), 1, "no node 'n9'"),
    (("zone", "remove", "hal-1"), 1, "no zone 'hal-1' (did you mean 'hall-1'?)"),
    (("zone", "remove", "hall-1", "n9"), 1, "no node 'n9'"),
    (("zone",), 2, "DOING"),
    (("zone", "lst"), 2, "did you mean 'list'?"),
    ((QUERY, "--zone", "hal-1"), 2, "no zone 'hal-1' (did you mean 'hall-1'?)"),
    ((QUERY, "--zone", ""), 2, "no zone ''"),
]


def test_bad_words_are_one_line(command: ScheduleCommand, nodes: list[str]) -> None:
    command("zone", "add", "hall-1", "n1")
    for words, code, text in NONSENSE:
        told = command(*words)
        assert (told.code, told.out, text in told.err) == (code, "", True), (words, told)
    assert listed(command) == {"hall-1": ["n1"]}


def test_a_zone_that_many_make_at_once_is_one(cloud: TestCloud, nodes: list[str]) -> None:
    at_once([lambda node=node: zones(cloud).add("hall-1", [node]) for node in nodes * 2])  # type: ignore[misc]
    (entry,) = cloud.store.scan(keys.ZONES).entries
    aggregate = decode(Zone, entry.value, entry.key).aggregate
    assert [aggregates(cloud, node) for node in nodes] == [frozenset({aggregate})] * 3


@pytest.mark.parametrize("seed", range(3))
def test_adding_and_removing_at_once_leaves_no_node_in_a_zone_that_is_gone(
    cloud: TestCloud, nodes: list[str], seed: int
) -> None:
    """Whoever comes last: a provider is in the aggregate of the zone that there is, or in none."""
    random = Random(seed)

    def remove(members: list[str]) -> None:
        try:
            zones(cloud).remove("hall-1", members)
        except NotFound:
            return

    doings: list[Callable[[], object]] = []
    for node in nodes * 2:
        doings.append(lambda node=node: zones(cloud).add("hall-1", [node]))  # type: ignore[misc]
        doings.append(lambda node=node: remove(random.choice([[node], []])))  # type: ignore[misc]
    random.shuffle(doings)
    at_once(doings)
    there = {decode(Zone, entry.value, entry.key).aggregate for entry in cloud.store.scan(keys.ZONES).entries}
    inside = [aggregates(cloud, node) for node in nodes]
    assert all(found <= there for found in inside)
    assert any(inside) == bool(there)


class Interrupted(Placement):
    """Whatever is to happen between two exchanges."""

    def __init__(self, inner: Placement, before_change: Callable[[], object]) -> None:
        self._api, self._endpoint, self._timeout_s = inner._api, inner._endpoint, inner._timeout_s
        self._before_change = before_change

    def put_aggregates(self, provider: str, aggregates: object, generation: int) -> bool:
        doing, self._before_change = self._before_change, lambda: None
        doing()
        return super().put_aggregates(provider, aggregates, generation)  # type: ignore[arg-type]


def test_a_zone_that_is_removed_while_a_node_joins_is_made_anew(cloud: TestCloud, nodes: list[str]) -> None:
    zones(cloud).add("hall-1", [nodes[0]])
    first, second = zones(cloud), zones(cloud)
    first._placement = Interrupted(cloud.placement, lambda: second.remove("hall-1", []))
    first.add("hall-1", [nodes[1]])
    (found,) = second.all()
    assert list(found.members) == [nodes[1]]
    assert [aggregates(cloud, node) for node in nodes] == [frozenset(), {found.zone.aggregate}, frozenset()]


def test_another_change_of_a_provider_meanwhile_is_kept(cloud: TestCloud, nodes: list[str]) -> None:
    def change() -> None:
        traits, generation = cloud.placement.traits(nodes[0])
        assert cloud.placement.put_traits(nodes[0], {*traits, "STORAGE_DISK_SSD"}, generation)

    changed = zones(cloud)
    changed._placement = Interrupted(cloud.placement, change)
    changed.add("hall-1", [nodes[0]])
    assert "STORAGE_DISK_SSD" in cloud.placement.traits(nodes[0])[0]
    assert len(aggregates(cloud, nodes[0])) == 1


def at_once(doings: list[Callable[[], object]]) -> None:
    problems: list[BaseException] = []

    def do(doing: Callable[[], object]) -> None:
        try:
            doing()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=do, args=(doing,)) for doing in doings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
