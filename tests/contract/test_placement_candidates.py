"""What may be claimed, as both Placements say: the real one as up.sh serves it, and the model."""

from __future__ import annotations

from random import Random
from urllib.parse import parse_qsl

import pytest

from placet.candidates import Candidate, ProviderSummary
from placet.config import PlacementConfig
from placet.errors import BadQuery
from placet.placement import Claim, Placement
from placet.query import DISABLED_TRAIT
from placet.resources import Inventory
from placet.schema import changed
from tests.support.placements import ARM, CLOUD, FOUR, SSD, X86, new, nodes, of, offer
from tests.support.providers import nested_provider
from tests.support.services import PlacementServer


def test_a_candidate_carries_what_to_claim_and_all_that_is_known_of_its_provider(subject: Placement) -> None:
    provider = offer(subject, {"VCPU": Inventory(4, 1, 1.5), "DISK_GB": FOUR}, X86, SSD)
    assert subject.claim(new(), of(provider, VCPU=1), CLOUD, None) is Claim.DONE
    (found,) = subject.candidates([("resources", "VCPU:2")])
    summary = ProviderSummary(provider, {"VCPU": (4, 1), "DISK_GB": (4, 0)}, frozenset({X86, SSD}))
    assert found == Candidate({provider: {"VCPU": 2}}, {"": [provider]}, {provider: summary})
    assert subject.claim(new(), found, CLOUD, None) is Claim.DONE


def test_candidates_have_every_class_the_required_traits_and_no_forbidden_one(subject: Placement) -> None:
    x86 = offer(subject, {"VCPU": FOUR, "DISK_GB": FOUR}, X86)
    fast = offer(subject, {"VCPU": FOUR}, X86, SSD)
    arm = offer(subject, {"VCPU": FOUR}, ARM)
    stopping = offer(subject, {"VCPU": FOUR}, X86, DISABLED_TRAIT)
    wanted = {
        "": {x86, fast, arm},
        f"required={X86}": {x86, fast},
        f"required={X86},{SSD}": {fast},
        f"required={X86}&required=!{SSD}": {x86},
        f"required=!{X86}": {arm},
        f"required=in:{ARM},{SSD}": {fast, arm},
        f"root_required={SSD}": {fast},
        f"in_tree={arm}": {arm},
        f"in_tree={stopping}": set(),
        f"in_tree={new()}": set(),
    }
    for words, expected in wanted.items():
        assert nodes(subject, f"resources=VCPU:1&{words}".strip("&")) == expected, words
    assert nodes(subject, "resources=VCPU:1", DISK_GB=1) == {x86}
    assert {found.node for found in subject.candidates([("resources", "VCPU:1")])} == {x86, fast, arm, stopping}


def test_a_limit_cuts_the_answer(subject: Placement) -> None:
    offered = {offer(subject, {"VCPU": FOUR}) for _ in range(3)}
    found = subject.candidates([("resources", "VCPU:1"), ("limit", "2")])
    assert len({each.node for each in found} & offered) == len(found) == 2


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("resources=CUSTOM_UNKNOWN:1", "CUSTOM_UNKNOWN"),
        ("resources=VCPU:1&required=HW_NO_SUCH", "HW_NO_SUCH"),
        ("resources=VCPU:1&root_required=HW_NO_SUCH", "HW_NO_SUCH"),
        (f"resources=VCPU:1&required={X86}&required=!{X86}", "(?i)conflicting"),
        (f"resources=VCPU:1&required=in:{X86},!{ARM}", ARM),
        (f"resources=VCPU:1&root_required=in:{X86},{ARM}", ARM),
    ],
)
def test_a_query_that_makes_no_sense_is_told(subject: Placement, query: str, said: str) -> None:
    offer(subject, {"VCPU": FOUR}, X86)
    with pytest.raises(BadQuery, match=said):
        subject.candidates(parse_qsl(query))


def test_a_query_of_no_form_is_refused_each_time(placement: PlacementServer) -> None:
    """gunicorn_conf.py has Placement check each of its schemas once, requests by them always."""
    real = Placement(PlacementConfig(placement.endpoint))
    for words, said in (([("resources", "VCPU:1"), ("limit", "x")], "limit"), ([("resource", "VCPU:1")], "resource")):
        for _ in range(3):
            with pytest.raises(BadQuery, match=said):
                real.candidates(words)
    assert real.candidates([("resources", "VCPU:1")]) == []


def test_where_no_root_has_what_it_must_the_rest_of_a_query_is_not_looked_at(subject: Placement) -> None:
    offer(subject, {"VCPU": FOUR})
    assert nodes(subject, f"resources=CUSTOM_UNKNOWN:1&root_required={X86}") == set()


def test_candidates_of_one_node_are_those_of_all_that_are_there(placement: PlacementServer) -> None:
    """gunicorn_conf.py has Placement sum up the use of one tree alone: children and neighbours, full and empty."""
    real, random = Placement(PlacementConfig(placement.endpoint)), Random(7)
    roots = [offer(real, {"VCPU": FOUR, "DISK_GB": FOUR}) for _ in range(4)]
    children = [nested_provider(real, root, f"child-{root}", {"MEMORY_MB": FOUR}) for root in roots]
    tree = dict(zip(roots, children, strict=True))
    consumers = []
    for root in roots * 6:
        amounts = {root: {"VCPU": random.randint(1, 2)}, tree[root]: {"MEMORY_MB": random.randint(1, 2)}}
        consumer = new()
        if real.claim(consumer, Candidate(amounts, {"": list(amounts)}, {}), CLOUD, None) is Claim.DONE:
            consumers.append(consumer)
    for asked in ("VCPU:1", "MEMORY_MB:1", "VCPU:1,MEMORY_MB:1", "VCPU:2,DISK_GB:4", "MEMORY_MB:2,DISK_GB:1"):
        everywhere = real.candidates([("resources", asked)])
        for root, child in tree.items():
            there = [_within(each, {root, child}) for each in everywhere if each.own <= {root, child}]
            found = real.candidates([("resources", asked), ("in_tree", root)])
            assert [_within(each, {root, child}) for each in found] == there, asked
    assert 4 < len(consumers) < 24, "some nodes are full, some are not"
    for consumer in consumers:
        assert real.release(consumer, real.allocation(consumer))
    for provider in (*children, *roots):
        assert real.delete_provider(provider)


def _within(found: Candidate, tree: set[str]) -> Candidate:
    """With what is known of the tree's providers only."""
    return changed(found, providers={uuid: found.providers[uuid] for uuid in tree})
