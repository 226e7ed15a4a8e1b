"""What an image's properties ask of a node, and how that goes together with what its user asks for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import Usage
from placet.image_checks import check_properties
from placet.image_requirements import Requirements, parse_requirements, query_for_image
from placet.model import ImageRecord
from placet.query import Query, parse_query

DEFAULTS = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}
GPU = {"resources:CUSTOM_GPU": "1", "trait:HW_CPU_X86_AVX2": "required", "trait:CUSTOM_SLOW": "forbidden"}


def asked(text: str, properties: Mapping[str, str]) -> Query:
    return query_for_image(text, DEFAULTS, ImageRecord("deb", "/deb.qcow2", properties=dict(properties)))


def test_requirements_are_read_and_other_properties_passed_over() -> None:
    found = parse_requirements({**GPU, "kind": "plain", "resource": "x", "traits:x": "y"})
    assert found == Requirements({"CUSTOM_GPU": 1}, frozenset({"HW_CPU_X86_AVX2"}), frozenset({"CUSTOM_SLOW"}))


def test_what_an_image_needs_is_asked_for_beside_what_its_user_asks_for() -> None:
    query = asked("resources=VCPU:2", GPU)
    assert query.amounts == {"VCPU": 2, "MEMORY_MB": 256, "DISK_GB": 1, "CUSTOM_GPU": 1}
    assert query.text == ("resources=VCPU:2,MEMORY_MB:256,DISK_GB:1,CUSTOM_GPU:1&required=!CUSTOM_SLOW,HW_CPU_X86_AVX2")


def test_an_image_without_requirements_changes_nothing() -> None:
    plain = parse_query("resources=VCPU:2", DEFAULTS)
    assert asked("resources=VCPU:2", {"kind": "mini"}) == plain == query_for_image("resources=VCPU:2", DEFAULTS, None)


def test_defaults_grow_with_the_image_and_what_the_user_asks_for_stands() -> None:
    needs = {"resources:MEMORY_MB": "1024"}
    assert asked("resources=VCPU:1", needs).amounts["MEMORY_MB"] == 1024
    assert asked("resources=VCPU:1,MEMORY_MB:2048", needs).amounts["MEMORY_MB"] == 2048
    assert asked("resources1=MEMORY_MB:2048&resources=VCPU:1", needs).text.count("MEMORY_MB") == 1
    with pytest.raises(Usage, match="image 'deb' needs MEMORY_MB:1024, asked for 512"):
        asked("resources=MEMORY_MB:512", needs)


def test_a_default_that_is_larger_than_what_the_image_needs_stands() -> None:
    assert asked("resources=VCPU:1", {"resources:MEMORY_MB": "64"}).amounts["MEMORY_MB"] == 256


def test_a_trait_that_both_ask_for_is_asked_for_once() -> None:
    query = asked("resources=VCPU:1&required=HW_CPU_X86_AVX2", {"trait:HW_CPU_X86_AVX2": "required"})
    assert query.text.count("HW_CPU_X86_AVX2") == 1


def test_an_image_and_a_user_who_contradict_each_other_are_told() -> None:
    with pytest.raises(Usage, match=r"image 'deb' and the query .* CUSTOM_SLOW is required and forbidden"):
        asked("resources=VCPU:1&required=CUSTOM_SLOW", GPU)


MALFORMED = [
    ({"resources:CUSTOM_GPU": "0"}, "'resources:CUSTOM_GPU=0'"),
    ({"resources:CUSTOM_GPU": "-1"}, "from 1 to"),
    ({"resources:CUSTOM_GPU": "many"}, "from 1 to"),
    ({"resources:CUSTOM_GPU": "1,VCPU:2"}, "expected one amount"),
    ({"resources:CUSTOM_GPU": ""}, "from 1 to"),
    ({"resources:gpu": "1"}, "is not CLASS:AMOUNT"),
    ({"resources:": "1"}, "is not CLASS:AMOUNT"),
    ({"trait:HW_CPU_X86_AVX2": "requird"}, "expected required or forbidden (did you mean 'required'?)"),
    ({"trait:": "required"}, "no trait"),
    ({"trait:!CUSTOM_A": "required"}, "no trait"),
    ({"trait:CUSTOM_A,CUSTOM_B": "required"}, "no trait"),
]


@pytest.mark.parametrize(("properties", "words"), MALFORMED)
def test_a_malformed_requirement_is_told_when_it_is_recorded_and_when_it_is_used(
    properties: dict[str, str], words: str
) -> None:
    with pytest.raises(Usage) as recorded:
        check_properties(properties)
    with pytest.raises(Usage, match="image 'deb' is recorded wrongly") as used:
        asked("resources=VCPU:1", properties)
    for caught in (recorded, used):
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["resources:", "trait:", ""]))
def test_any_property_is_a_requirement_none_or_a_usage_error(name: str, value: str, prefix: str) -> None:
    try:
        query = asked("resources=VCPU:1", {prefix + name: value})
    except Usage as problem:
        assert "\n" not in str(problem)
        return
    assert query.amounts["VCPU"] >= 1
