"""Why a request fits nowhere, and what would: by the same facts, what is suggested fits, and nothing smaller does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from placet.conditions import Change, Condition, HasAmount, conditions_of
from placet.config import BASE_CLASSES
from placet.errors import BadQuery
from placet.node_facts import DOWN, DRAINED, SHUTTING_DOWN, UP, Elsewhere, NodeFacts
from placet.query import parse_query
from placet.reasons import all_lacks, fallen, fit_apart, hint, smallest_changes, worth_asking
from placet.resources import Inventory

REST = "do not match the rest of the query"
AVX = "HW_CPU_X86_AVX512F"
ZONE = "11111111-1111-4111-8111-111111111111"


def node(name: str, memory_mb: int = 4096, vcpus: int = 4, state: str = UP, **facts: object) -> NodeFacts:
    offers = {"VCPU": Inventory(vcpus), "MEMORY_MB": Inventory(memory_mb), "DISK_GB": Inventory(100)}
    return NodeFacts(name, name, state, **{"offers": offers, **facts})  # type: ignore[arg-type]


def asked(query: str, kept_out: tuple[str, ...] = (), zones: dict[str, str] | None = None) -> list[Condition]:
    return conditions_of(parse_query(query, {}), kept_out, zones or {}, Elsewhere())[0]


def told(conditions: Sequence[Condition], nodes: Sequence[NodeFacts]) -> str:
    return f"{len(nodes)} nodes: {fallen(conditions, nodes, REST)}{hint(conditions, nodes, nodes)}"


def test_each_node_counts_for_its_first_reason_and_the_nearest_is_told() -> None:
    small = [node(f"n{size}", memory_mb=size, traits=frozenset({AVX})) for size in (1024, 3072, 2048)]
    plain, down = [node("p1"), node("p2")], [node("d1", state=DOWN)]
    assert told(asked(f"resources=MEMORY_MB:4096&required={AVX}"), [*small, *plain, *down]) == (
        f"6 nodes: 3 lack MEMORY_MB (largest free 3072, asked 4096); 2 lack trait {AVX}; 1 down; "
        f"each of these is there, but no node has all of them; fits with MEMORY_MB:3072, or without required={AVX}"
    )


@pytest.mark.parametrize(
    ("query", "facts", "words"),
    [
        ("resources=CUSTOM_GPU:1,VCPU:1", {}, "1 offer no CUSTOM_GPU; fits without CUSTOM_GPU"),
        ("resources=VCPU:1", {"state": DRAINED}, "1 drained; fits after `schedule.py undrain n`"),
        ("resources=VCPU:1", {"state": DOWN}, "1 down; fits once n is up again"),
        ("resources=VCPU:1", {"state": SHUTTING_DOWN}, "1 shutting down; fits once n is up again"),
        (
            "resources=VCPU:16",
            {"offers": {"VCPU": Inventory(8, 0, 16.0, max_unit=8)}},
            "1 take less VCPU at once (largest max_unit 8, asked 16); fits with VCPU:8",
        ),
        (
            "resources=VCPU:1",
            {"offers": {"VCPU": Inventory(8, min_unit=4)}},
            "1 take more VCPU at once (smallest min_unit 4, asked 1); fits with VCPU:4",
        ),
        (
            "resources=VCPU:3",
            {"offers": {"VCPU": Inventory(8, step_size=4)}},
            "1 take other steps of VCPU (smallest step_size 4, asked 3); fits with VCPU:4",
        ),
        (f"resources=VCPU:1&required={AVX}", {}, f"1 lack trait {AVX}; fits without required={AVX}"),
        ("resources=VCPU:1&required=in:A,B", {}, "1 have none of A, B; fits without required=in:A,B"),
        (
            "resources=VCPU:1&required=!A",
            {"traits": frozenset({"A"})},
            "1 have the forbidden trait A; fits without required=!A",
        ),
        (f"resources=VCPU:1&member_of={ZONE}", {}, "1 not in zone east; fits without --zone east"),
        (f"resources=VCPU:1&member_of=!{ZONE}", {}, f"1 not member_of=!{ZONE}; fits without member_of=!{ZONE}"),
        (f"resources=VCPU:1&in_tree={ZONE}", {}, f"1 not in_tree={ZONE}; fits without in_tree={ZONE}"),
        ("resources=VCPU:1", {"kept_out": ("--avoid n",)}, "1 excluded by --avoid; fits without --avoid n"),
        ("resources=VCPU:5,MEMORY_MB:9000", {}, "1 lack VCPU (largest free 4, asked 5); fits with"),
        ("resources=VCPU:1", {"used": {"VCPU": 9}}, "1 lack VCPU (largest free 0, asked 1)"),
        ("resources=VCPU:1", {}, f"1 {REST}"),
    ],
)
def test_each_reason_has_its_words_and_its_remedy(query: str, facts: dict[str, object], words: str) -> None:
    conditions = asked(query, ("--avoid",), {ZONE: "east"})
    assert told(conditions, [node("n", **facts)]).startswith(f"1 nodes: {words}")  # type: ignore[arg-type]


def test_what_lacks_on_one_node_together_is_changed_together() -> None:
    conditions = asked("resources=VCPU:8,MEMORY_MB:8192")
    nodes = [node("n1"), node("n2", memory_mb=1024)]
    assert hint(conditions, nodes, nodes) == "; fits with VCPU:4 and with MEMORY_MB:4096"


def test_nodes_that_the_user_keeps_out_do_not_have_what_is_lacking() -> None:
    conditions = asked("resources=VCPU:1,MEMORY_MB:4096", ("--host",))
    nodes = [node("a", kept_out=("--host b",)), node("b", memory_mb=512)]
    assert told(conditions, nodes) == (
        "2 nodes: 1 excluded by --host; 1 lack MEMORY_MB (largest free 512, asked 4096); fits with MEMORY_MB:512, or "
        "without --host b"
    )


def test_of_many_nodes_those_are_asked_about_that_come_nearest_in_each_way() -> None:
    conditions = asked(f"resources=MEMORY_MB:4096&required={AVX}")
    near = [node(f"m{size}", memory_mb=size, traits=frozenset({AVX})) for size in range(100, 1000, 100)]
    others = [node("plain"), node("gone", state=DOWN, offers=None), node("fits", traits=frozenset({AVX}))]
    found = [each.name for each in worth_asking(conditions, [*near, *others], 20)]
    assert found == ["fits", "m900", "m800", "m700", "m600", "m500", "plain"]
    assert len(worth_asking(conditions, [*near, *others], 3)) == 3


def test_one_node_shows_all_that_it_lacks_in_the_singular() -> None:
    conditions = asked(f"resources=VCPU:8,MEMORY_MB:8192&required={AVX}")
    assert [lack.alone for lack in all_lacks(conditions, node("n", state=DRAINED))] == [
        "drained",
        f"lacks trait {AVX}",
        "lacks VCPU (free 4, asked 8)",
        "lacks MEMORY_MB (free 4096, asked 8192)",
    ]


def test_what_a_provider_beside_the_nodes_may_give_is_not_held_against_a_node() -> None:
    pool = Elsewhere(frozenset({"pool"}), frozenset({"DISK_GB"}), frozenset({"MISC_SHARES_VIA_AGGREGATE"}))
    query = parse_query("resources=VCPU:1,DISK_GB:5000", {})
    conditions, is_whole = conditions_of(query, (), {}, pool)
    assert fallen(conditions, [node("n")], REST) == f"1 {REST}" and not is_whole
    conditions, is_whole = conditions_of(parse_query("resources=VCPU:8", {}), (), {}, pool)
    assert fallen(conditions, [node("n")], REST) == "1 lack VCPU (largest free 4, asked 8)" and is_whole


def test_of_granular_groups_nothing_is_claimed_to_be_known() -> None:
    query = parse_query("resources=VCPU:1&resources1=CUSTOM_GPU:1&required1=A", {})
    conditions, is_whole = conditions_of(query, (), {}, Elsewhere())
    assert not is_whole and fallen(conditions, [node("n")], REST) == f"1 {REST}"
    full = [node("n", used={"VCPU": 4}), node("m", vcpus=2, used={"VCPU": 1}, state=DRAINED)]
    assert hint(conditions, full, full, is_whole) == "; may fit after `schedule.py undrain m`"


TRAITS = ("A", "B", "C")
INVENTORIES = st.builds(
    Inventory,
    total=st.integers(1, 12),
    reserved=st.just(0),
    allocation_ratio=st.sampled_from([1.0, 2.0]),
    max_unit=st.one_of(st.none(), st.integers(1, 12)),
    min_unit=st.integers(1, 4),
    step_size=st.integers(1, 4),
)
NODES = st.lists(
    st.builds(
        NodeFacts,
        uuid=st.sampled_from(["n1", "n2"]),
        name=st.sampled_from(["n1", "n2"]),
        state=st.sampled_from([UP, UP, UP, DRAINED, DOWN]),
        offers=st.dictionaries(st.sampled_from(["VCPU", "CUSTOM_GPU"]), INVENTORIES),
        used=st.dictionaries(st.sampled_from(["VCPU", "CUSTOM_GPU"]), st.integers(0, 14)),
        traits=st.frozensets(st.sampled_from(TRAITS)),
        within=st.frozensets(st.just(ZONE)),
        kept_out=st.sampled_from([(), (), ("--avoid n1",), ("--group db",)]),
    ),
    max_size=5,
)
QUERIES = st.lists(
    st.sampled_from(
        [f"required={trait}" for trait in TRAITS]
        + ["required=!A,B", "required=in:B,C", "root_required=!C", f"member_of={ZONE}", f"member_of=!{ZONE}"]
    ),
    max_size=3,
    unique=True,
).flatmap(
    lambda words: st.tuples(st.integers(1, 20), st.one_of(st.none(), st.integers(1, 20))).map(
        lambda amounts: "&".join(
            [f"resources=VCPU:{amounts[0]}" + (f",CUSTOM_GPU:{amounts[1]}" if amounts[1] else ""), *words]
        )
    )
)


def changed(conditions: Sequence[Condition], way: Sequence[Change]) -> list[Condition]:
    """The request as it is after what was suggested."""
    made = {change.condition: change.replacement for change in way}
    return [new for each in conditions if (new := made.get(each, each)) is not None]


def fits(conditions: Sequence[Condition], nodes: Sequence[NodeFacts]) -> bool:
    return any(not any(condition.lack(each) for condition in conditions) for each in nodes)


def read(query: str) -> list[Condition]:
    try:
        return asked(query, ("--avoid", "--group"))
    except BadQuery:  # it contradicts itself
        reject()


@given(QUERIES, NODES)
def test_what_is_suggested_fits_and_no_smaller_change_of_one_thing_does(query: str, nodes: list[NodeFacts]) -> None:
    conditions = read(query)
    if fits(conditions, nodes):
        return
    ways = smallest_changes(conditions, nodes)
    for way in ways:
        assert fits(changed(conditions, way), nodes)
    alone = {change.condition: change for change in (way[0] for way in ways if len(way) == 1)}
    for condition in conditions:
        if isinstance(condition, HasAmount):
            suggested = alone[condition].replacement if condition in alone else None
            nearest = suggested.asked if isinstance(suggested, HasAmount) else None
            for amount in range(1, 30):
                if nearest is None or abs(amount - condition.asked) < abs(nearest - condition.asked):
                    other = HasAmount(condition.resource_class, amount)
                    replaced = [other if each == condition else each for each in conditions]
                    assert not fits(replaced, nodes), f"{condition} as {amount}"


@given(QUERIES, NODES)
def test_several_things_are_changed_only_where_no_single_one_helps(query: str, nodes: list[NodeFacts]) -> None:
    conditions = read(query)
    ways = smallest_changes(conditions, nodes)
    if fits(conditions, nodes) or not ways or len(ways[0]) == 1:
        return
    assert len(ways) == 1
    for condition in conditions:
        if not (isinstance(condition, HasAmount) and condition.resource_class in BASE_CLASSES):
            assert not fits([each for each in conditions if each != condition], nodes)


@given(QUERIES, NODES)
def test_every_node_is_counted_once(query: str, nodes: list[NodeFacts]) -> None:
    counted = fallen(read(query), nodes, REST)
    assert sum(int(part.split()[0]) for part in counted.split("; ") if part) == len(nodes)


@given(QUERIES, NODES)
def test_that_all_is_there_apart_is_said_only_where_it_is(query: str, nodes: list[NodeFacts]) -> None:
    conditions = read(query)
    able = [each for each in nodes if each.state == UP]
    if fit_apart(conditions, nodes):
        assert not fits(conditions, nodes)
        assert all(fits([condition], able) for condition in conditions)
