"""The query string: Placement's words pass, typos are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import BadQuery
from placet.query import MAX_AMOUNT, for_placement, parse_query

DEFAULTS = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}


def test_classes_left_out_come_from_the_defaults() -> None:
    query = parse_query("resources=VCPU:2", DEFAULTS)
    assert query.parameters == (("resources", "VCPU:2,MEMORY_MB:256,DISK_GB:1"),)
    assert query.amounts == {"VCPU": 2, "MEMORY_MB": 256, "DISK_GB": 1}


def test_a_class_in_a_granular_group_is_not_asked_for_twice() -> None:
    query = parse_query("resources1=VCPU:1,MEMORY_MB:64&resources2=DISK_GB:5", DEFAULTS)
    assert query.amounts == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 5}
    assert [name for name, _ in query.parameters] == ["resources1", "resources2"]


def test_amounts_of_groups_add_up() -> None:
    assert parse_query("resources=DISK_GB:1&resources1=DISK_GB:2", {}).amounts == {"DISK_GB": 3}


def test_placements_other_words_pass_through() -> None:
    text = "resources=VCPU:1&required=HW_CPU_X86_AVX&member_of=in:a,b&in_tree=x&group_policy=none&same_subtree=_A,_B"
    sent = for_placement(parse_query(text, {}))
    assert ("required", "HW_CPU_X86_AVX") in sent
    assert ("member_of", "in:a,b") in sent


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
        ("resources=VCPU:1&" + "x" * 9000, "over the 8192"),
    ],
)
def test_what_is_malformed_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(text, DEFAULTS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_query_or_a_bad_query(text: str) -> None:
    try:
        query = parse_query(text, DEFAULTS)
    except BadQuery:
        return
    assert all(amount > 0 for amount in query.amounts.values())
