"""What a node holds to be a disagreement between etcd, Placement and its hypervisor, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placet.audit import DESTROY_TIME_S, NodeFacts, audit
from placet.errand_records import Finding
from placet.findings import KINDS
from placet.model import Spec
from placet.node_records import Status
from placet.reconcile import new_status, with_fault
from tests.unit.test_model import SPEC as MODEL

HELD = {"VCPU": 2}
SPEC = replace(MODEL, instance="vm", node="n", allocations={"n": HELD})
FRESH = new_status("vm", "n", 1.0)
BUILT = replace(FRESH, stages={"claimed": 1.0, "defined": 2.0})
FAILED = with_fault(FRESH, "no-allocation", "nobody claimed it", 2.0)

# one instance that is as it should be: wanted, claimed, built
RIGHT = NodeFacts(
    node="n",
    specs={"vm": SPEC},
    statuses={"vm": BUILT},
    destroys={},
    held={"vm": {"n": HELD}},
    placed=frozenset(),
    present=frozenset({"vm"}),
    remembered={"vm": SPEC},
)
NOTHING = NodeFacts("n", {}, {}, {}, {}, frozenset(), frozenset())


def kinds(facts: NodeFacts) -> list[tuple[str, str]]:
    return [(found.kind, found.subject) for found in audit(facts)]


def only(facts: NodeFacts) -> Finding:
    (found,) = audit(facts)
    return found


def test_what_agrees_is_no_finding() -> None:
    assert audit(RIGHT) == []
    assert audit(NOTHING) == []


def test_an_allocation_that_nobody_speaks_for_is_leaked() -> None:
    found = only(replace(NOTHING, held={"vm": {"n": {"VCPU": 2, "DISK_GB": 1}}}))
    assert (found.kind, found.subject, found.node) == ("leaked-allocation", "vm", "n")
    assert "DISK_GB:1,VCPU:2" in found.detail


@pytest.mark.parametrize(
    "spoken_for",
    [
        {"specs": {"vm": SPEC}},
        {"specs": {"vm": SPEC}, "statuses": {"vm": BUILT}},
        {"destroys": {"vm": 1.0}},
        {"placed": frozenset({"vm"})},
    ],
    ids=["a new spec", "a spec", "a destroy", "an intent or an index"],
)
def test_an_allocation_is_not_leaked_while_something_speaks_for_it(spoken_for: dict[str, object]) -> None:
    assert audit(replace(NOTHING, held={"vm": {"n": HELD}}, **spoken_for)) == []  # type: ignore[arg-type]


def test_the_allocation_of_a_guest_whose_spec_is_lost_is_not_leaked() -> None:
    assert kinds(replace(RIGHT, specs={}, statuses={})) == [("stray", "vm")]


def test_a_guest_that_nobody_remembers_is_told_apart_from_one_that_can_be_adopted() -> None:
    assert kinds(replace(RIGHT, specs={}, remembered={})) == [("unknown-guest", "vm")]


def test_a_guest_that_is_being_destroyed_is_no_stray() -> None:
    assert audit(replace(RIGHT, specs={}, destroys={"vm": 1.0})) == []


def test_what_exists_and_holds_nothing_lost_its_allocation() -> None:
    assert kinds(replace(RIGHT, held={})) == [("lost-allocation", "vm")]


@pytest.mark.parametrize(
    ("statuses", "present"),
    [({}, {"vm"}), ({"vm": FRESH}, {"vm"}), ({"vm": BUILT}, set()), ({"vm": BUILT}, None)],
    ids=["no status", "not built yet", "not there", "not seen"],
)
def test_nothing_is_claimed_again_for_what_the_node_has_not_built(
    statuses: dict[str, Status], present: set[str] | None
) -> None:
    seen = None if present is None else frozenset(present)
    assert audit(replace(RIGHT, held={}, statuses=statuses, present=seen)) == []


def test_a_spec_that_failed_and_holds_nothing_was_never_claimed() -> None:
    found = only(replace(RIGHT, held={}, statuses={"vm": FAILED}, present=frozenset()))
    assert (found.kind, found.subject) == ("unclaimed-spec", "vm")


def test_a_spec_that_failed_and_holds_what_it_says_is_none() -> None:
    assert audit(replace(RIGHT, statuses={"vm": FAILED}, present=frozenset())) == []


def test_other_amounts_in_placement_are_told_with_both() -> None:
    found = only(replace(RIGHT, held={"vm": {"n": {"VCPU": 1}}}))
    assert (found.kind, found.subject) == ("other-allocation", "vm")
    assert "VCPU:1" in found.detail and "VCPU:2" in found.detail


def test_a_spec_of_other_providers_only_is_another_allocation() -> None:
    elsewhere = replace(SPEC, allocations={"pool": {"DISK_GB": 1}})
    found = only(replace(RIGHT, specs={"vm": elsewhere}))
    assert (found.kind, "its spec says nothing" in found.detail) == ("other-allocation", True)


def test_a_spec_that_cannot_be_read_is_told_with_its_key() -> None:
    found = only(replace(RIGHT, specs={"vm": None}))
    assert (found.kind, found.subject) == ("bad-record", "vm")
    assert "nodes/n/specs/vm" in found.detail


def test_a_destroy_is_unfinished_only_after_its_time() -> None:
    assert audit(replace(RIGHT, destroys={"vm": DESTROY_TIME_S})) == []
    found = only(replace(RIGHT, destroys={"vm": DESTROY_TIME_S + 1}))
    assert (found.kind, found.subject, "121 s" in found.detail) == ("unfinished-destroy", "vm", True)


instances = st.sampled_from(["a", "b", "c"])
some = st.frozensets(instances)
amounts = st.sampled_from([{"n": HELD}, {"n": {"VCPU": 1}}, {}])
anything = st.builds(
    NodeFacts,
    node=st.just("n"),
    specs=st.dictionaries(instances, st.sampled_from([None, SPEC])),
    statuses=st.dictionaries(instances, st.sampled_from([FRESH, BUILT, FAILED])),
    destroys=st.dictionaries(instances, st.sampled_from([0.0, 1000.0])),
    held=st.dictionaries(instances, amounts),
    placed=some,
    present=st.none() | some,
    remembered=st.dictionaries(instances, st.just(SPEC)),
)


@given(anything)
def test_nothing_that_anybody_speaks_for_or_that_runs_is_ever_called_leaked(facts: NodeFacts) -> None:
    leaked = {found.subject for found in audit(facts) if found.kind == "leaked-allocation"}
    assert leaked <= facts.held.keys()
    assert not leaked & (facts.specs.keys() | facts.destroys.keys() | facts.placed | (facts.present or frozenset()))


@given(anything)
def test_a_node_that_cannot_see_its_guests_calls_nothing_leaked_lost_or_stray(facts: NodeFacts) -> None:
    blind = {found.kind for found in audit(replace(facts, present=None))}
    assert not blind & {"leaked-allocation", "lost-allocation", "stray", "unknown-guest"}


@given(anything)
def test_findings_are_known_sorted_and_one_of_a_kind(facts: NodeFacts) -> None:
    found = kinds(facts)
    assert {kind for kind, _ in found} <= KINDS.keys()
    assert [subject for _, subject in found] == sorted(subject for _, subject in found)
    assert len(set(found)) == len(found)


@given(anything)
def test_whatever_runs_without_a_spec_is_told(facts: NodeFacts) -> None:
    told = {subject for kind, subject in kinds(facts) if kind in ("stray", "unknown-guest")}
    assert told == (facts.present or frozenset()) - facts.specs.keys() - facts.destroys.keys()


def test_the_strategies_reach_every_kind() -> None:
    """So that the properties above are about something."""
    seen: set[str] = set()

    @settings(max_examples=1000)
    @given(anything)
    def look(facts: NodeFacts) -> None:
        seen.update(found.kind for found in audit(facts))

    look()
    of_nodes = {"leaked-allocation", "lost-allocation", "other-allocation", "unclaimed-spec", "stray", "unknown-guest"}
    assert seen == of_nodes | {"bad-record", "unfinished-destroy"}


def test_specs_are_compared_for_this_node_alone() -> None:
    shared: Spec = replace(SPEC, allocations={"n": HELD, "pool": {"DISK_GB": 5}})
    assert audit(replace(RIGHT, specs={"vm": shared})) == []


def test_what_a_spec_has_of_a_nested_provider_is_compared_as_well() -> None:
    nested: Spec = replace(SPEC, allocations={"n": HELD, "gpu": {"CUSTOM_GPU": 1}, "pool": {"DISK_GB": 5}})
    facts = replace(RIGHT, specs={"vm": nested}, tree=frozenset({"n", "gpu"}))
    assert audit(replace(facts, held={"vm": {"n": HELD, "gpu": {"CUSTOM_GPU": 1}}})) == []
    found = only(facts)
    assert (found.kind, found.detail) == (
        "other-allocation",
        "Placement holds VCPU:2, its spec says CUSTOM_GPU:1,VCPU:2",
    )


def test_an_allocation_of_a_nested_provider_alone_is_compared_and_may_be_leaked() -> None:
    held = {"vm": {"gpu": {"CUSTOM_GPU": 1}}}
    tree = frozenset({"n", "gpu"})
    spec: Spec = replace(SPEC, allocations={"gpu": {"CUSTOM_GPU": 1}})
    assert audit(replace(RIGHT, specs={"vm": spec}, held=held, tree=tree)) == []
    assert only(replace(NOTHING, held=held, tree=tree)).kind == "leaked-allocation"
