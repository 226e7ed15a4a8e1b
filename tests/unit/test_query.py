"""The query string: Placement's words pass, typos are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.config import MAX_AMOUNT
from placet.errors import BadQuery
from placet.query import for_placement, in_aggregate, parse_query, with_traits

AGGREGATE = "7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10"
OTHER = "0e2f6f6f-6d1f-4c7e-9a55-7b0c6a3e3a10"
DEFAULTS = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}


def test_classes_left_out_come_from_the_defaults() -> None:
    query = parse_query("resources=VCPU:2", DEFAULTS)
    assert query.parameters == (("resources", "VCPU:2,MEMORY_MB:256,DISK_GB:1"),)
    assert query.amounts == {"VCPU": 2, "MEMORY_MB": 256, "DISK_GB": 1}


def test_a_class_in_a_granular_group_is_not_asked_for_twice() -> None:
    query = parse_query("resources1=VCPU:1,MEMORY_MB:64&resources2=DISK_GB:5&group_policy=none", DEFAULTS)
    assert query.amounts == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 5}
    assert [name for name, _ in query.parameters] == ["resources1", "resources2", "group_policy"]


def test_amounts_of_groups_add_up() -> None:
    assert parse_query("resources=DISK_GB:1&resources1=DISK_GB:2", {}).amounts == {"DISK_GB": 3}


def test_placements_other_words_pass_through() -> None:
    text = (
        f"resources=VCPU:1&required=HW_CPU_X86_AVX&member_of=in:{AGGREGATE},{OTHER}&in_tree={OTHER}"
        "&resources_A=DISK_GB:1&required_B=in:CUSTOM_A,CUSTOM_B&same_subtree=_A,_B&group_policy=none"
    )
    sent = for_placement(parse_query(text, {}))
    assert sent[:-1] == [(name, value) for name, _, value in (pair.partition("=") for pair in text.split("&"))]


def test_what_placement_would_take_and_never_match_is_brought_into_its_form() -> None:
    text = f"resources=VCPU:1&member_of=!in:{AGGREGATE.upper()},{OTHER.replace('-', '')}&required= CUSTOM_A , !CUSTOM_B"
    sent = for_placement(parse_query(text, {}))
    assert ("member_of", f"!in:{AGGREGATE},{OTHER}") in sent
    assert ("required", "CUSTOM_A,!CUSTOM_B") in sent


def test_traits_are_asked_of_the_unsuffixed_resources_or_else_of_the_node() -> None:
    plain = with_traits(parse_query("resources=VCPU:1&resources1=DISK_GB:1", {}), ["CUSTOM_A"], ["CUSTOM_B"])
    assert plain.parameters[-1] == ("required", "!CUSTOM_B,CUSTOM_A")
    granular = with_traits(parse_query("resources1=VCPU:1&root_required=CUSTOM_C", {}), ["CUSTOM_A"], ["CUSTOM_B"])
    assert granular.parameters == (("resources1", "VCPU:1"), ("root_required", "CUSTOM_C,!CUSTOM_B,CUSTOM_A"))


def test_a_trait_that_is_asked_for_already_is_not_asked_for_twice() -> None:
    query = parse_query("resources=VCPU:1&required=CUSTOM_A,!CUSTOM_B", {})
    assert with_traits(query, ["CUSTOM_A"], ["CUSTOM_B"]) == query


def test_the_opposite_of_a_trait_that_is_asked_for_is_told() -> None:
    with pytest.raises(BadQuery, match="CUSTOM_A is required and forbidden"):
        with_traits(parse_query("resources=VCPU:1&required=CUSTOM_A", {}), [], ["CUSTOM_A"])


def test_an_aggregate_is_asked_of_the_unsuffixed_resources_or_else_of_every_group() -> None:
    assert in_aggregate(parse_query("resources=VCPU:1", {}), AGGREGATE).parameters[-1] == ("member_of", AGGREGATE)
    query = parse_query("resources1=VCPU:1&resources_X=DISK_GB:1&group_policy=none", {})
    assert in_aggregate(query, AGGREGATE).parameters[-2:] == (("member_of1", AGGREGATE), ("member_of_X", AGGREGATE))


def test_nodes_that_are_shutting_down_are_left_out_beside_the_users_own_wish() -> None:
    sent = dict(for_placement(parse_query("resources=VCPU:1&root_required=CUSTOM_A", {})))
    assert sent["root_required"] == "CUSTOM_A,!COMPUTE_STATUS_DISABLED"


def test_a_limit_is_applied_here_and_not_sent() -> None:
    query = parse_query("resources=VCPU:1&limit=3", {})
    assert query.limit == 3
    assert "limit" not in dict(for_placement(query))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resources=VCPU", "'VCPU' is not CLASS:AMOUNT"),
        ("resources=vcpu:1", "'vcpu:1' is not CLASS:AMOUNT"),
        ("resources=VCPU:0", "from 1 to"),
        ("resources=VCPU:-1", "from 1 to"),
        ("resources=VCPU:1.5", "from 1 to"),
        (f"resources=VCPU:{MAX_AMOUNT + 1}", "from 1 to"),
        ("resources=VCPU:1,VCPU:2", "VCPU is named twice"),
        ("resources=", "says nothing"),
        ("resorces=VCPU:1", "did you mean 'resources'"),
        ("required=HW_CPU_X86_AVX", "asks for no resources"),
        ("resources=VCPU:1&limit=0", "limit=0"),
        ("resources=VCPU:1&limit=" + "9" * 5000, "no whole number"),
        ("resources=VCPU:2&resources=MEMORY_MB:64", "resources= is there twice"),
        ("resources=VCPU:1&flavor=big", "no parameter"),
        ("=", "no parameter"),
        ("resources=VCPU:1&resources%00=VCPU:1", "no parameter"),
        ("resources=VCPU:1&required=%00", "control characters"),
        ("resources=VCPU:1&limit=1%0A", "control characters"),
        ("resources=VCPU:1&group_policy=none%0A", "control characters"),
        ("resources=VCPU:1%0A", "control characters"),
        ("resources=VCPU:%D9%A1", "from 1 to"),
        ("resources=VCPU:1&limit=%D9%A1", "no whole number"),
        ("resources=VCPU:1&required=CUSTOM_%C3%A9", "no trait"),
        ("resources=VCPU:1&required=in:CUSTOM_A,!CUSTOM_B", "'!CUSTOM_B' is no trait"),
        ("resources=VCPU:1&required=!in:CUSTOM_A", "'in:CUSTOM_A' is no trait"),
        ("resources=VCPU:1&root_required=in:CUSTOM_A", "'in:CUSTOM_A' is no trait"),
        ("resources=VCPU:1&required=CUSTOM_A,", "'' is no trait"),
        ("resources=VCPU:1&required=CUSTOM_A&required=!CUSTOM_A", "required and forbidden"),
        ("resources1=VCPU:1,MEMORY_MB:1,DISK_GB:1&required1=CUSTOM_A,!CUSTOM_A", "required1: CUSTOM_A"),
        ("resources=VCPU:1&root_required=CUSTOM_A,!CUSTOM_A", "root_required: CUSTOM_A"),
        ("resources=VCPU:1&required1=CUSTOM_A", "required1= is said of no resources"),
        ("resources1=VCPU:1,MEMORY_MB:1,DISK_GB:1&required=CUSTOM_A", "required= is said of no resources"),
        ("resources=VCPU:1&member_of=zone-a", "'zone-a' is no UUID"),
        (f"resources=VCPU:1&member_of=in:{AGGREGATE},", "'' is no UUID"),
        ("resources=VCPU:1&in_tree=node1", "'node1' is no UUID"),
        ("resources=VCPU:1&group_policy=isolated", "neither 'none' nor 'isolate'"),
        ("resources1=VCPU:1&resources2=VCPU:1", "group_policy=none"),
        ("resources=VCPU:1&same_subtree=_A", "no group '_A'"),
        ("resources=VCPU:1&resources_A=VCPU:1&same_subtree=_A,_B", "no group '_B'; known: _A"),
        ("resources=VCPU:1&resources_A=VCPU:1&same_subtree=,", "empty group"),
        ("resources=" + "A" * 300 + ":1", "is not CLASS:AMOUNT"),
        ("resources=VCPU:1&" + "x" * 9000, "over the 8192"),
    ],
)
def test_what_is_malformed_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(text, DEFAULTS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text(max_size=200))
def test_any_text_is_a_query_or_a_bad_query(text: str) -> None:
    try:
        query = parse_query(text, DEFAULTS)
    except BadQuery:
        return
    assert all(amount > 0 for amount in query.amounts.values())
