"""What nodes say of themselves: read leniently, and good for an order only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.digests import Digest, digest_of, required_by
from placet.model import encode
from placet.node_records import Alive
from placet.query import parse_query
from placet.store import Entry


def entry(value: bytes) -> Entry:
    return Entry("alive/node-1", value, 7, 9)


def digest(capacity: dict[str, int], used: dict[str, int] | None = None, traits: tuple[str, ...] = ()) -> Digest:
    return Digest("n", "n", 1, capacity, used or {}, frozenset(traits))


def test_a_record_is_read() -> None:
    alive = Alive("node-1", "n1", "10.0.0.1", "h", "fake", "qemu", 1.0, {"VCPU": 8}, {"VCPU": 2}, ("HW_A",))
    assert digest_of(entry(encode(alive))) == Digest("node-1", "n1", 7, {"VCPU": 8}, {"VCPU": 2}, frozenset({"HW_A"}))


@given(
    st.binary()
    | st.builds(
        lambda found: json.dumps(found).encode(),
        st.recursive(
            st.none() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["name", "capacity", "used", "traits", "x"]), inner)
            ),
        ),
    )
)
def test_whatever_cannot_be_read_is_no_hint(value: bytes) -> None:
    found = digest_of(entry(value))
    assert (found.node, found.revision) == ("node-1", 7)
    assert all(isinstance(amount, int) for amount in [*found.capacity.values(), *found.used.values()])


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"VCPU": 2}, 0.25),
        ({"VCPU": 4, "MEMORY_MB": 100}, 0.0),
        ({"VCPU": 5}, -0.125),
        ({"MEMORY_MB": 500}, 0.5),
        ({"CUSTOM_GPU": 1}, 0.0),
        ({"VCPU": 2, "CUSTOM_GPU": 1}, 0.25),
    ],
)
def test_the_scarcest_resource_counts_and_unknown_ones_do_not(asked: dict[str, int], left: float) -> None:
    assert digest({"VCPU": 8, "MEMORY_MB": 1000}, {"VCPU": 4}).left(asked) == pytest.approx(left)


def test_a_node_without_room_or_a_required_trait_is_not_worth_asking() -> None:
    one = digest({"VCPU": 8}, {"VCPU": 4}, ("HW_A",))
    assert one.may_suit({"VCPU": 4}, frozenset({"HW_A"}))
    assert not one.may_suit({"VCPU": 5}, frozenset())
    assert not one.may_suit({"VCPU": 1}, frozenset({"HW_B"}))
    assert digest({}).may_suit({"VCPU": 1}, frozenset({"HW_B"})), "one that says nothing may"


def test_plainly_required_traits_are_told_from_the_rest() -> None:
    query = "resources=VCPU:1&required=HW_A,!HW_B&required=in:HW_C,HW_D&required_GPU=HW_E&resources_GPU=CUSTOM_GPU:1"
    assert required_by(parse_query(query, {})) == {"HW_A"}


def test_negative_and_absurd_amounts_do_no_harm() -> None:
    lies: dict[str, Any] = {
        "name": "x",
        "capacity": {"VCPU": -5, "MEMORY_MB": 0, "DISK_GB": 10**30},
        "used": {"VCPU": -1},
    }
    found = digest_of(entry(json.dumps(lies).encode()))
    assert found.left({"VCPU": 1, "MEMORY_MB": 1, "DISK_GB": 1}) == pytest.approx(1.0)
