"""Choosing among candidates: what counts as a node, and which comes first."""

from __future__ import annotations

from random import Random

from placet.candidates import SHARING_TRAIT, Candidate, ProviderSummary, rank


def candidate(node: str, free: int, **more: str) -> Candidate:
    """One VCPU of a node that has `free` of 10 left; `more` are further providers with their roots."""
    providers = {node: ProviderSummary(node, {"VCPU": (10, 10 - free)}, frozenset())}
    providers |= {uuid: ProviderSummary(root, {}, frozenset()) for uuid, root in more.items()}
    return Candidate({uuid: {"VCPU": 1} for uuid in providers}, {}, providers)


def test_the_emptiest_usable_node_comes_first() -> None:
    found = rank([candidate("a", 2), candidate("b", 9), candidate("c", 5)], {"a", "c"}, Random(1))
    assert [each.node for each in found] == ["c", "a"]


def test_a_nested_provider_counts_as_its_root() -> None:
    assert candidate("a", 5, child="a").node == "a"


def test_two_roots_are_no_node() -> None:
    assert candidate("a", 5, b="b").node is None


def test_a_sharing_provider_is_not_the_node() -> None:
    pool = ProviderSummary("pool", {}, frozenset({SHARING_TRAIT}))
    node = ProviderSummary("a", {}, frozenset())
    assert Candidate({"a": {"VCPU": 1}, "pool": {"DISK_GB": 1}}, {}, {"a": node, "pool": pool}).node == "a"


def test_how_full_a_node_is_its_own_providers_say_and_no_shared_pool() -> None:
    pool = ProviderSummary("pool", {"DISK_GB": (100, 99)}, frozenset({SHARING_TRAIT}))
    node, gpu = (ProviderSummary("a", resources, frozenset()) for resources in ({"VCPU": (10, 0)}, {"GPU": (2, 0)}))
    own = Candidate({"a": {"VCPU": 1}, "pool": {"DISK_GB": 1}}, {}, {"a": node, "pool": pool})
    assert (own.free_share, own.own) == (0.9, frozenset({"a"}))
    nested = Candidate({"a": {"VCPU": 1}, "gpu": {"GPU": 1}}, {}, {"a": node, "gpu": gpu})
    assert (nested.free_share, nested.own) == (0.5, frozenset({"a", "gpu"}))


def test_equals_are_shuffled_so_that_schedulers_do_not_all_begin_with_the_same() -> None:
    found = [candidate(name, 5) for name in "abcdef"]
    firsts = {rank(found, set("abcdef"), Random(seed))[0].node for seed in range(50)}
    assert len(firsts) > 3
