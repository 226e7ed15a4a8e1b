"""Where an instance may go and what it needs, said on the command line, by its image, and by a node's compute.yaml."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from placet import keys
from placet.compute_config import InventoryConfig
from placet.errors import BadConfig
from placet.model import ImageRecord, decode, encode
from placet.node_records import Alive
from placet.resources import Inventory
from placet.store import Put
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import ScheduleCommand, Told
from tests.support.nodes import FakeMachine, until
from tests.support.offers import offer

QUERY = "resources=VCPU:1,MEMORY_MB:64,DISK_GB:1"
GRANULAR = "resources1=VCPU:1,MEMORY_MB:64,DISK_GB:1"


def placed_on(told: Told) -> str:
    assert told.code == 0, told.err
    return told.out.split()[2].strip(",")


def traces(cloud: TestCloud) -> list[str]:
    """Every key that a request can leave but its events, and every allocation."""
    prefixes = (keys.INTENTS, keys.INSTANCES, keys.NAMES, keys.GROUPS, keys.NODES)
    found = [entry.key for prefix in prefixes for entry in cloud.store.scan(prefix).entries]
    providers = cloud.placement.providers()
    return found + [consumer for each in providers for consumer in cloud.placement.provider_allocations(each.uuid)]


def add_traits(cloud: TestCloud, node: str, *traits: str) -> None:
    found, generation = cloud.placement.traits(node)
    for trait in traits:
        if trait.startswith("CUSTOM_"):
            cloud.placement.create_trait(trait)
    assert cloud.placement.put_traits(node, {*found, *traits}, generation)


@pytest.fixture
def nodes(cloud: TestCloud) -> list[str]:
    """n1, n2 and n3; the first has CUSTOM_SSD, the second CUSTOM_SLOW."""
    found = [cloud.add_node(name) for name in ("n1", "n2", "n3")]
    add_traits(cloud, found[0], "CUSTOM_SSD")
    add_traits(cloud, found[1], "CUSTOM_SLOW")
    return found


def test_a_host_is_the_one_node_that_will_do(command: ScheduleCommand, nodes: list[str]) -> None:
    assert {placed_on(command(QUERY, "--host", "n2")) for _ in range(3)} == {nodes[1]}
    assert placed_on(command(QUERY, "--host", nodes[2])) == nodes[2]
    assert command("resources=VCPU:5", "--host", "n2").code == 3


def test_avoided_nodes_get_nothing(command: ScheduleCommand, nodes: list[str]) -> None:
    assert {placed_on(command(QUERY, "--avoid", "n1", "--avoid", nodes[1])) for _ in range(3)} == {nodes[2]}
    assert command(QUERY, "--avoid", "n1", "--avoid", "n2", "--avoid", "n3").code == 3


@pytest.mark.parametrize("query", [QUERY, GRANULAR])
def test_traits_say_where(command: ScheduleCommand, nodes: list[str], query: str) -> None:
    assert {placed_on(command(query, "--trait", "CUSTOM_SSD")) for _ in range(2)} == {nodes[0]}
    words = ("--not-trait", "CUSTOM_SSD", "--not-trait", "CUSTOM_SLOW")
    assert {placed_on(command(query, *words)) for _ in range(2)} == {nodes[2]}
    assert command(query, "--trait", "CUSTOM_SSD", "--trait", "CUSTOM_SLOW").code == 3


def test_words_of_intent_add_up(command: ScheduleCommand, nodes: list[str]) -> None:
    assert command("zone", "add", "hall-1", "n1", "n2").code == 0
    assert placed_on(command(QUERY, "--zone", "hall-1", "--not-trait", "CUSTOM_SSD")) == nodes[1]
    assert command(QUERY, "--zone", "hall-1", "--host", "n3").code == 3


def test_the_same_intent_again_is_the_same_instance_and_another_a_conflict(
    command: ScheduleCommand, nodes: list[str]
) -> None:
    words = (QUERY, "--uuid", new_uuid(), "--avoid", "n1")
    first = command(*words)
    assert command(*words).out == first.out
    assert command(*words, "--avoid", "n2").code == 5


def test_a_group_is_kept_apart_or_together(command: ScheduleCommand, nodes: list[str]) -> None:
    apart = ("--group", "web", "--policy", "anti-affinity")
    assert {placed_on(command(QUERY, *apart)) for _ in range(3)} == set(nodes)
    assert command(QUERY, "--group", "web").code == 3
    together = ("--group", "db", "--policy", "affinity")
    assert len({placed_on(command(QUERY, *together)) for _ in range(3)}) == 1
    assert command(QUERY, *together, "--avoid", "n1", "--avoid", "n2", "--avoid", "n3").code == 3


NONSENSE_WORDS: list[tuple[tuple[str, ...], str]] = [
    (("--host", "n4"), "--host: no node 'n4'"),
    (("--host", ""), "--host: no node ''"),
    (("--avoid", "nein"), "--avoid: no node 'nein'"),
    (("--avoid", "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"), "--avoid: no node '7b0c6a3e"),
    (("--host", "n1", "--avoid", "n1"), "--host n1 is a node to --avoid as well"),
    (("--trait", "custom_ssd"), "--trait: 'custom_ssd' is no trait"),
    (("--trait", "!CUSTOM_SSD"), "--trait: '!CUSTOM_SSD' is no trait"),
    (("--not-trait", "CUSTOM_A,CUSTOM_B"), "--not-trait: 'CUSTOM_A,CUSTOM_B' is no trait"),
    (("--trait", "CUSTOM_SSD", "--not-trait", "CUSTOM_SSD"), "--trait CUSTOM_SSD contradicts --not-trait"),
    (("--trait", "HW_NO_SUCH"), "HW_NO_SUCH"),
    (("--not-trait", "CUSTOM_NEVER_HEARD_OF"), "CUSTOM_NEVER_HEARD_OF"),
    (("--policy", "affinity"), "--policy is a group's"),
    (("--group", "No Name", "--policy", "affinity"), "'No Name' is no name"),
    (("--group", "web", "--policy", "anti-afinity"), "did you mean 'anti-affinity'?"),
    (("--zone", "hall-9"), "no zone 'hall-9'"),
]


def test_words_that_make_no_sense_are_told_in_one_line_and_leave_nothing(
    command: ScheduleCommand, cloud: TestCloud, nodes: list[str]
) -> None:
    for words, text in NONSENSE_WORDS:
        told = command(QUERY, *words)
        assert (told.code, told.out, text in told.err) == (2, "", True), (words, told)
    assert traces(cloud) == []


AGGREGATE = "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"


NONSENSE_QUERIES = [
    ("resources=VCPU:1&required=HW_NO_SUCH", "No such trait(s): HW_NO_SUCH"),
    ("resources=VCPU:1&required=!CUSTOM_NEVER_HEARD_OF", "CUSTOM_NEVER_HEARD_OF"),
    ("resources=VCPU:1,CUSTOM_NEVER_HEARD_OF:1", "No such resource class CUSTOM_NEVER_HEARD_OF"),
    ("resources=VCPU:1,vCPU:1", "'vCPU:1' is not CLASS:AMOUNT"),
    ("resources=VCPU:0", "from 1 to"),
    ("resources=VCPU:-1", "from 1 to"),
    ("resources=VCPU:99999999999", "from 1 to"),
    ("resources=VCPU:" + "9" * 4000, "from 1 to"),
    ("resources1=VCPU:1&resources2=VCPU:1", "group_policy=none"),
    ("resources=VCPU:1&group_policy=lonely", "neither 'none' nor 'isolate'"),
    ("resources=VCPU:1&group_policy=none&group_policy=isolate", "group_policy= is there twice"),
    ("resources=VCPU:1&required1=CUSTOM_SSD", "required1= is said of no resources"),
    ("resources1=VCPU:1,MEMORY_MB:1,DISK_GB:1&required=CUSTOM_SSD", "required= is said of no resources"),
    ("resources=VCPU:1&resources_A=VCPU:1&same_subtree=_A,_B", "there is no group '_B'"),
    ("resources=VCPU:1&same_subtree=_A,_B", "there is no group '_A'"),
    ("resources=VCPU:1&required=CUSTOM_SSD,!CUSTOM_SSD", "CUSTOM_SSD is required and forbidden"),
    ("resources=VCPU:1&root_required=COMPUTE_STATUS_DISABLED", "root_required"),
    ("resources=VCPU:1&member_of=hall-1", "'hall-1' is no UUID"),
    ("resources=VCPU:1&member_of=in:", "'' is no UUID"),
    ("resources=VCPU:1&in_tree=n1", "'n1' is no UUID"),
    ("resources=VCPU:1&required=%00", "control characters"),
    ("resources=VCPU:1&member_of=" + AGGREGATE + "%0A", "control characters"),
    ("resources=VCPU:1&required=CUSTOM_%C3%9C", "no trait"),
    ("resources=VCPU:1&required=%FF", "no trait"),
    ("resources=VCPU:1\n", "control characters"),
    ("resources=VCPU:1&limit=0", "limit=0"),
    ("resources=VCPU:1&required=" + ",".join(["CUSTOM_SSD"] * 800), "over the 8192"),
    (
        "resources=VCPU:1&required=in:" + ",".join(f"CUSTOM_{number:017}" for number in range(320)),
        "Placement does not take this query",
    ),
    ("resources=VCPU:1&required=" + ",".join(f"CUSTOM_{number}" for number in range(60)), "60 are over the 24"),
    ("resources=VCPU:1&" + "&".join(f"required=CUSTOM_{number}" for number in range(60)), "60 are over the 24"),
    ("=&=", "no parameter"),
]


def test_a_query_that_makes_no_sense_is_told_in_one_line_and_leaves_nothing(
    command: ScheduleCommand, cloud: TestCloud, nodes: list[str]
) -> None:
    for query, text in NONSENSE_QUERIES:
        told = command("create", query)
        assert (told.code, told.out, text in told.err) == (2, "", True), (query, told)
        assert len(told.err) < 400
    assert traces(cloud) == []


FITS_NOWHERE = [
    f"resources=VCPU:1&member_of={AGGREGATE}",
    f"resources=VCPU:1&member_of=in:{AGGREGATE},{AGGREGATE.upper()}",
    f"resources=VCPU:1&in_tree={AGGREGATE}",
    "resources=VCPU:2147483647",
    "resources=VCPU:1,PCPU:1",
    "resources=VCPU:1&required=COMPUTE_STATUS_DISABLED",
    "resources1=VCPU:1&resources2=VCPU:1&group_policy=isolate",
]


def test_what_fits_nowhere_is_told_and_leaves_nothing(
    command: ScheduleCommand, cloud: TestCloud, nodes: list[str]
) -> None:
    for query in FITS_NOWHERE:
        told = command(query)
        assert (told.code, told.out) == (3, "NO ALLOCATIONS LEFT\n"), (query, told)
    assert traces(cloud) == []


ODD_AND_RIGHT = [
    f"{QUERY}&group_policy=isolate",
    f"{GRANULAR}&group_policy=isolate",
    f"{QUERY}&member_of=!{AGGREGATE}",
    "resources_A=VCPU:1,MEMORY_MB:64&resources_B=DISK_GB:1&group_policy=none&same_subtree=_A,_B",
    f"{QUERY}&required= CUSTOM_SSD , !CUSTOM_SLOW",
    f"{QUERY}&limit=1",
    f"{QUERY}&" + "&".join(["required=CUSTOM_SSD"] * 100),
]


def test_what_is_odd_and_right_is_placed(command: ScheduleCommand, cloud: TestCloud, nodes: list[str]) -> None:
    offer(cloud, nodes[0], VCPU=Inventory(64), MEMORY_MB=Inventory(65536))  # all may go there, and two have to
    for query in ODD_AND_RIGHT:
        assert placed_on(command(query)) in nodes, query


def test_a_tree_may_be_named_in_any_form_of_its_uuid(command: ScheduleCommand, nodes: list[str]) -> None:
    for form in (nodes[1], nodes[1].upper(), nodes[1].replace("-", "")):
        assert placed_on(command(f"{QUERY}&in_tree={form}")) == nodes[1]


# what an image needs


def add_image(cloud: TestCloud, **properties: str) -> None:
    record = ImageRecord("deb", "/deb.qcow2", properties=properties)
    cloud.store.transact([], [Put(keys.image("deb"), encode(record))])


def test_an_images_needs_are_met(command: ScheduleCommand, cloud: TestCloud, nodes: list[str]) -> None:
    add_image(cloud, **{"resources:MEMORY_MB": "512", "trait:CUSTOM_SSD": "required", "trait:CUSTOM_SLOW": "forbidden"})
    told = command("resources=VCPU:1", "--image", "deb")
    assert placed_on(told) == nodes[0]
    assert cloud.held(told.out.split()[-1]) == {nodes[0]: {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}


@pytest.mark.parametrize(
    ("properties", "words", "text"),
    [
        ({"resources:MEMORY_MB": "512"}, (QUERY,), "image 'deb' needs MEMORY_MB:512, asked for 64"),
        ({"trait:CUSTOM_SSD": "required"}, (f"{QUERY}&required=!CUSTOM_SSD",), "contradict each other"),
        ({"trait:CUSTOM_SSD": "forbidden"}, (QUERY, "--trait", "CUSTOM_SSD"), "required and forbidden"),
        ({"trait:CUSTOM_SSD": "maybe"}, (QUERY,), "image 'deb' is recorded wrongly"),
        ({"resources:CUSTOM_NEVER_HEARD_OF": "1"}, (QUERY,), "CUSTOM_NEVER_HEARD_OF"),
    ],
)
def test_an_image_and_a_request_that_contradict_each_other_are_told_and_leave_nothing(
    command: ScheduleCommand,
    cloud: TestCloud,
    nodes: list[str],
    properties: dict[str, str],
    words: tuple[str, ...],
    text: str,
) -> None:
    add_image(cloud, **properties)
    told = command(*words, "--image", "deb")
    assert (told.code, told.out) == (2, "")
    assert text in told.err
    assert traces(cloud) == []


def test_an_image_is_not_recorded_with_needs_that_are_malformed(command: ScheduleCommand, cloud: TestCloud) -> None:
    told = command("image", "add", "deb", "/deb.qcow2", "--no-fetch", "--property", "resources:CUSTOM_GPU=none")
    assert (told.code, "'resources:CUSTOM_GPU=none'" in told.err) == (2, True)
    assert cloud.store.get(keys.image("deb")) is None
    good = ("--property", "resources:CUSTOM_GPU=1", "--property", "trait:HW_CPU_X86_AVX2=required")
    assert command("image", "add", "deb", "/deb.qcow2", "--no-fetch", *good).code == 0


# what a node's compute.yaml says


def run_once(machine: FakeMachine) -> str:
    with machine.agent() as node:
        return node.id


def test_classes_and_traits_of_compute_yaml_are_made_offered_and_withdrawn_again(
    cloud: TestCloud, machine: FakeMachine, command: ScheduleCommand
) -> None:
    machine.inventory = {"CUSTOM_GPU_X": InventoryConfig(total=4, max_unit=2), "SRIOV_NET_VF": InventoryConfig(total=1)}
    machine.traits = ("CUSTOM_RACK_7", "STORAGE_DISK_SSD")
    with machine.agent() as node:
        until(lambda: cloud.store.get(keys.alive(node.id)), "alive")
        alive = cloud.store.get(keys.alive(node.id))
        assert alive
        digest = decode(Alive, alive.value, alive.key)
        assert set(machine.traits) <= set(digest.traits)
        assert digest.capacity["CUSTOM_GPU_X"] == 4
        assert placed_on(command("resources=CUSTOM_GPU_X:2", "--trait", "CUSTOM_RACK_7")) == node.id
        assert command("resources=CUSTOM_GPU_X:3").code == 3
        (instance,) = cloud.placement.provider_allocations(node.id)
        assert command("destroy", instance).code == 0
    machine.inventory, machine.traits = {}, ()
    node_id = run_once(machine)
    assert cloud.placement.inventories(node_id)[0].keys() == {"VCPU", "MEMORY_MB", "DISK_GB"}
    assert not {"CUSTOM_RACK_7", "STORAGE_DISK_SSD"} & cloud.placement.traits(node_id)[0]


def test_what_an_operator_set_by_hand_is_kept(cloud: TestCloud, machine: FakeMachine) -> None:
    machine.inventory, machine.traits = {"CUSTOM_GPU_X": InventoryConfig(total=4)}, ("CUSTOM_RACK_7",)
    node = run_once(machine)
    add_traits(cloud, node, "CUSTOM_BY_HAND")
    found, generation = cloud.placement.inventories(node)
    cloud.placement.create_resource_class("CUSTOM_BY_HAND")
    by_hand = {**found, "CUSTOM_BY_HAND": replace(found["VCPU"], total=1, max_unit=1)}
    assert cloud.placement.put_inventories(node, by_hand, generation)
    machine.inventory, machine.traits = {}, ()
    run_once(machine)
    assert {"CUSTOM_BY_HAND", "CUSTOM_RACK_7"} & cloud.placement.traits(node)[0] == {"CUSTOM_BY_HAND"}
    assert {"CUSTOM_BY_HAND", "CUSTOM_GPU_X"} & cloud.placement.inventories(node)[0].keys() == {"CUSTOM_BY_HAND"}


def test_a_class_that_an_instance_holds_is_given_to_nobody_else_and_goes_with_it(
    cloud: TestCloud, machine: FakeMachine, command: ScheduleCommand
) -> None:
    machine.inventory = {"CUSTOM_GPU_X": InventoryConfig(total=4)}
    with machine.agent() as node:
        until(lambda: cloud.store.get(keys.alive(node.id)), "alive")
        instance = command.place("web", "--image", str(machine.image))
        assert command("destroy", instance).code == 0
        told = command("resources=CUSTOM_GPU_X:1", "--wait")
        instance = told.out.split("INSTANCE ")[1][:36]
    machine.inventory = {}
    with machine.agent() as node:
        until(lambda: cloud.store.get(keys.alive(node.id)), "alive")
        assert cloud.held(instance)[node.id]["CUSTOM_GPU_X"] == 1
        assert command("resources=CUSTOM_GPU_X:1").code == 3
        assert command("ip", instance).code == 0
        assert command("destroy", instance).code == 0
    node_id = run_once(machine)
    assert "CUSTOM_GPU_X" not in cloud.placement.inventories(node_id)[0]


def test_an_agent_that_dies_before_it_has_published_remembers_what_it_was_about_to(
    cloud: TestCloud, machine: FakeMachine
) -> None:
    machine.traits = ("CUSTOM_RACK_7",)
    node = run_once(machine)
    written = (machine.state_dir / "offered.json").read_text()
    assert "CUSTOM_RACK_7" in written
    machine.traits = ("CUSTOM_RACK_8", "HW_NO_SUCH")
    with pytest.raises(BadConfig):
        run_once(machine)
    assert {"CUSTOM_RACK_7", "CUSTOM_RACK_8"} <= set(
        json.loads((machine.state_dir / "offered.json").read_text())["traits"]
    )
    machine.traits = ()
    run_once(machine)
    assert "CUSTOM_RACK_7" not in cloud.placement.traits(node)[0]


@pytest.mark.parametrize(
    ("classes", "traits", "text"),
    [
        (
            (),
            ("STORAGE_DISK_SDD",),
            r"traits: Placement knows no STORAGE_DISK_SDD \(did you mean 'STORAGE_DISK_SSD'\?\)",
        ),
        (("PGPUS",), (), r"inventory: Placement knows no PGPUS \(did you mean 'PGPU'\?\)"),
        ((), ("ZZZ_9",), r"traits: Placement knows no ZZZ_9; one of your own begins with CUSTOM_"),
    ],
)
def test_a_standard_class_or_trait_that_does_not_exist_is_told_with_the_nearest(
    machine: FakeMachine, classes: tuple[str, ...], traits: tuple[str, ...], text: str
) -> None:
    machine.inventory, machine.traits = {name: InventoryConfig(total=1) for name in classes}, traits
    with pytest.raises(BadConfig, match=text):
        run_once(machine)


def test_a_node_drained_by_the_short_word_gets_nothing(command: ScheduleCommand, machine: FakeMachine) -> None:
    with machine.agent() as node:
        until(lambda: node.store.get(keys.alive(node.id)), "alive")
        assert command("drain", "n1") == Told(0, "", "")
        assert command("drain", "n1").err == "n1 was drained already\n"
        assert command(QUERY).code == 3
        assert command("undrain", "n1") == Told(0, "", "")
        assert placed_on(command(QUERY)) == node.id
    told = command("drain", "n11")
    assert (told.code, told.err) == (
        1,
        "schedule.py: no node 'n11' (did you mean 'n1'?); `schedule.py nodes` shows what there is\n",
    )
