"""Both Placements are held to the same behaviour: the real one, and the model that stands in for it."""

from __future__ import annotations

import pytest

from placet.errors import Refused
from placet.placement import Allocation, Claim, Placement, Provider
from placet.resources import Inventory
from tests.support.placement_model import ModelPlacement
from tests.support.placements import ARM, CLOUD, FOUR, X86, generation, new, nodes, of, offer


def test_the_model_inherits_no_method_that_would_talk_http() -> None:
    public = {name for name in vars(Placement) if not name.startswith("_")}
    assert public <= vars(ModelPlacement).keys()


def test_a_provider_is_found_by_its_uuid_and_listed(subject: Placement) -> None:
    uuid_, other = new(), new()
    assert subject.create_provider(uuid_, "a")
    assert subject.create_provider(other, "b")
    assert subject.provider(uuid_) == Provider(uuid_, "a", 0)
    assert subject.provider(new()) is None
    assert {found.uuid for found in subject.providers()} == {uuid_, other}


def test_a_uuid_or_a_name_that_is_taken_makes_no_second_provider(subject: Placement) -> None:
    uuid_ = new()
    assert subject.create_provider(uuid_, "a")
    assert not subject.create_provider(uuid_, "b")
    assert not subject.create_provider(new(), "a")
    assert subject.providers() == [Provider(uuid_, "a", 0)]


def test_a_provider_without_allocations_is_deleted_with_inventory_and_traits(subject: Placement) -> None:
    provider = offer(subject, {"VCPU": FOUR}, X86)
    assert subject.delete_provider(provider)
    assert subject.provider(provider) is None
    assert subject.delete_provider(provider)
    assert subject.create_provider(provider, "again")
    assert (subject.inventories(provider), subject.traits(provider)) == (({}, 0), (frozenset(), 0))


def test_a_provider_with_allocations_is_not_deleted(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, None) is Claim.DONE
    assert not subject.delete_provider(provider)
    assert subject.inventories(provider)[0].keys() == {"VCPU"}
    assert subject.release(consumer, subject.allocation(consumer))
    assert subject.delete_provider(provider)


def test_what_is_read_of_an_unknown_provider_is_refused(subject: Placement) -> None:
    for read in (
        subject.inventories,
        subject.usages,
        subject.traits,
        subject.aggregates,
        subject.provider_allocations,
    ):
        with pytest.raises(Refused, match="404"):
            read(new())
    with pytest.raises(Refused, match="404"):
        subject.put_inventories(new(), {}, 0)
    with pytest.raises(Refused, match="404"):
        subject.put_traits(new(), [], 0)
    with pytest.raises(Refused, match="404"):
        subject.put_aggregates(new(), [], 0)
    assert subject.tree(new()) == []


def test_aggregates_are_written_only_at_the_generation_that_was_read_and_find_their_members(subject: Placement) -> None:
    provider, other, here, there = offer(subject, {}), offer(subject, {}), new(), new()
    found, read = subject.aggregates(provider)
    assert (found, read) == (frozenset(), generation(subject, provider))
    assert subject.put_aggregates(provider, [here, there], read)
    assert not subject.put_aggregates(provider, [], read)
    assert subject.aggregates(provider) == (frozenset({here, there}), read + 1)
    assert subject.put_aggregates(other, [there], generation(subject, other))
    assert [found.uuid for found in subject.providers(member_of=here)] == [provider]
    assert {found.uuid for found in subject.providers(member_of=there)} == {provider, other}
    assert subject.providers(member_of=new()) == []
    assert subject.put_aggregates(provider, [], read + 1)
    assert subject.providers(member_of=here) == []


def test_a_provider_that_nothing_is_nested_in_is_a_tree_of_its_own(subject: Placement) -> None:
    provider, _other = offer(subject, {}), offer(subject, {})
    assert subject.tree(provider) == [provider]


def test_a_custom_trait_and_class_are_made_once_and_serve_then(subject: Placement) -> None:
    trait, resource_class = f"CUSTOM_{new().upper().replace('-', '_')}", f"CUSTOM_{new().upper().replace('-', '_')}"
    assert trait not in subject.known_traits() and resource_class not in subject.resource_classes()
    for _ in range(2):
        subject.create_trait(trait)
        subject.create_resource_class(resource_class)
    assert {trait, X86} <= subject.known_traits() and {resource_class, "VCPU"} <= subject.resource_classes()
    provider = offer(subject, {resource_class: FOUR}, trait)
    assert nodes(subject, f"resources={resource_class}:1&required={trait}") == {provider}
    for name in ("HW_NO_SUCH", "CUSTOM_lower", "VCPU"):
        with pytest.raises(Refused, match="400"):
            subject.create_trait(name)
        with pytest.raises(Refused, match="400"):
            subject.create_resource_class(name)


def test_an_inventory_is_read_back_with_the_total_as_largest_unit(subject: Placement) -> None:
    full = Inventory(8, 2, 1.5, 6, 2, 2)
    provider = offer(subject, {"VCPU": full, "DISK_GB": Inventory(10)})
    found, _ = subject.inventories(provider)
    assert found == {"VCPU": full, "DISK_GB": Inventory(10, max_unit=10)}
    assert subject.usages(provider) == {"VCPU": 0, "DISK_GB": 0}


def test_inventory_and_traits_are_written_only_at_the_generation_that_was_read(subject: Placement) -> None:
    provider = offer(subject, {"VCPU": FOUR}, X86)
    read = generation(subject, provider)
    assert read == 2
    assert not subject.put_inventories(provider, {}, read - 1)
    assert not subject.put_traits(provider, [ARM], read - 1)
    assert (subject.traits(provider), subject.inventories(provider)[1]) == ((frozenset({X86}), read), read)


def test_each_write_moves_a_providers_generation_but_for_traits_that_it_has_already(subject: Placement) -> None:
    provider = offer(subject, {"VCPU": FOUR}, X86)
    assert subject.put_traits(provider, [X86], 2)
    assert generation(subject, provider) == 2
    assert subject.put_inventories(provider, {"VCPU": FOUR}, 2)
    assert subject.put_traits(provider, [ARM], 3)
    assert subject.traits(provider) == (frozenset({ARM}), 4)


@pytest.mark.parametrize(
    "offered",
    [
        {"VCPU": Inventory(0)},
        {"VCPU": Inventory(1, reserved=2)},
        {"VCPU": Inventory(1, reserved=-1)},
        {"VCPU": Inventory(1, step_size=0)},
        {"CUSTOM_UNKNOWN": FOUR},
        {"VCPU": FOUR, "DISK_GB": Inventory(1, min_unit=0)},
    ],
)
def test_an_inventory_that_makes_no_sense_is_refused(subject: Placement, offered: dict[str, Inventory]) -> None:
    provider = offer(subject, {"VCPU": FOUR})
    before = subject.inventories(provider)
    with pytest.raises(Refused, match="400"):
        subject.put_inventories(provider, offered, before[1])
    assert subject.inventories(provider) == before


def test_a_resource_class_that_is_in_use_stays_offered_even_if_by_less_than_is_used(subject: Placement) -> None:
    provider = offer(subject, {"VCPU": FOUR, "DISK_GB": FOUR})
    assert subject.claim(new(), of(provider, VCPU=3), CLOUD, None) is Claim.DONE
    read = generation(subject, provider)
    with pytest.raises(Refused, match="409"):
        subject.put_inventories(provider, {"DISK_GB": FOUR}, read)
    assert subject.put_inventories(provider, {"VCPU": Inventory(1)}, read)
    assert subject.usages(provider) == {"VCPU": 3}


def test_a_trait_that_does_not_exist_is_refused(subject: Placement) -> None:
    provider = offer(subject, {}, X86)
    with pytest.raises(Refused, match="HW_NO_SUCH"):
        subject.put_traits(provider, ["HW_NO_SUCH"], 2)


def test_a_claim_is_read_back_from_the_consumer_and_from_the_provider(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR, "DISK_GB": FOUR}), new()
    before = generation(subject, provider)
    assert subject.claim(consumer, of(provider, VCPU=2, DISK_GB=1), CLOUD, None) is Claim.DONE
    held = {"VCPU": 2, "DISK_GB": 1}
    assert subject.allocation(consumer) == Allocation({provider: held}, 1, CLOUD, "INSTANCE")
    assert subject.provider_allocations(provider) == {consumer: held}
    assert subject.usages(provider) == held
    assert generation(subject, provider) == before + 1


def test_a_claim_needs_the_consumers_generation(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, 0) is Claim.UNSURE
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, None) is Claim.DONE
    for stale in (None, 0, 2):
        assert subject.claim(consumer, of(provider, VCPU=2), CLOUD, stale) is Claim.UNSURE
    assert subject.allocation(consumer).allocations == {provider: {"VCPU": 1}}
    other = new()
    assert subject.claim(consumer, of(provider, VCPU=2), other, 1) is Claim.DONE
    assert subject.allocation(consumer) == Allocation({provider: {"VCPU": 2}}, 2, other, "INSTANCE")


def test_a_claim_elsewhere_moves_all_and_the_generation_of_the_provider_that_is_named(subject: Placement) -> None:
    first, second, consumer = offer(subject, {"VCPU": FOUR}), offer(subject, {"VCPU": FOUR}), new()
    before = generation(subject, first)
    assert subject.claim(consumer, of(first, VCPU=1), CLOUD, None) is Claim.DONE
    assert subject.claim(consumer, of(second, VCPU=1), CLOUD, 1) is Claim.DONE
    assert subject.allocation(consumer).allocations == {second: {"VCPU": 1}}
    assert (generation(subject, first), generation(subject, second)) == (before + 1, before + 1)


@pytest.mark.parametrize(
    ("offered", "fits", "too_much"),
    [
        (Inventory(4), 4, 5),
        (Inventory(4, reserved=3), 1, 2),
        (Inventory(4, reserved=4), None, 1),
        (Inventory(4, allocation_ratio=1.5, max_unit=99), 6, 7),
        (Inventory(3, allocation_ratio=0.5), 1, 2),
        (Inventory(4, allocation_ratio=16.0), 4, 5),
        (Inventory(8, max_unit=2), 2, 3),
        (Inventory(8, min_unit=2), 2, 1),
        (Inventory(8, step_size=3), 3, 4),
    ],
)
def test_candidates_and_claims_agree_on_what_there_is_room_for(
    subject: Placement, offered: Inventory, fits: int | None, too_much: int
) -> None:
    provider = offer(subject, {"VCPU": offered})
    assert nodes(subject, f"resources=VCPU:{too_much}") == set()
    assert subject.claim(new(), of(provider, VCPU=too_much), CLOUD, None) is Claim.NO_ROOM
    if fits:
        assert nodes(subject, f"resources=VCPU:{fits}") == {provider}
        assert subject.claim(new(), of(provider, VCPU=fits), CLOUD, None) is Claim.DONE


def test_a_claim_without_room_leaves_a_consumer_as_it_was(subject: Placement) -> None:
    provider, new_one, old_one = offer(subject, {"VCPU": FOUR}), new(), new()
    assert subject.claim(old_one, of(provider, VCPU=1), CLOUD, None) is Claim.DONE
    before = generation(subject, provider)
    assert subject.claim(old_one, of(provider, VCPU=1, DISK_GB=1), new(), 1) is Claim.NO_ROOM
    assert subject.claim(old_one, of(provider, VCPU=5), CLOUD, 1) is Claim.NO_ROOM
    assert subject.claim(new_one, of(provider, VCPU=4), CLOUD, None) is Claim.NO_ROOM
    assert subject.allocation(old_one) == Allocation({provider: {"VCPU": 1}}, 1, CLOUD, "INSTANCE")
    assert generation(subject, provider) == before
    assert subject.claim(new_one, of(provider, VCPU=3), CLOUD, None) is Claim.DONE


def test_what_a_consumer_holds_already_does_not_stand_in_its_way(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(provider, VCPU=3), CLOUD, None) is Claim.DONE
    assert subject.claim(consumer, of(provider, VCPU=4), CLOUD, 1) is Claim.DONE


def test_over_its_capacity_a_provider_takes_only_what_makes_it_no_worse(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(provider, VCPU=3), CLOUD, None) is Claim.DONE
    assert subject.put_inventories(provider, {"VCPU": Inventory(1, max_unit=4)}, generation(subject, provider))
    assert subject.claim(consumer, of(provider, VCPU=4), CLOUD, 1) is Claim.NO_ROOM
    assert subject.claim(new(), of(provider, VCPU=1), CLOUD, None) is Claim.NO_ROOM
    assert subject.claim(consumer, of(provider, VCPU=2), CLOUD, 1) is Claim.DONE


def test_a_claim_on_an_unknown_provider_is_refused_and_leaves_an_empty_consumer(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(new(), VCPU=1), CLOUD, None) is Claim.REFUSED
    assert subject.allocation(consumer) == Allocation({})
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, None) is Claim.UNSURE
    assert subject.claim(consumer, of(provider, VCPU=9), CLOUD, 0) is Claim.NO_ROOM
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, 0) is Claim.DONE


@pytest.mark.parametrize("amounts", [{"CUSTOM_UNKNOWN": 1}, {"VCPU": 0}, {}])
def test_a_claim_of_what_does_not_exist_is_refused_and_leaves_nothing(
    subject: Placement, amounts: dict[str, int]
) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(provider, **amounts), CLOUD, None) is Claim.REFUSED
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, None) is Claim.DONE


def test_what_is_released_is_free_and_its_consumer_new_again(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    before = generation(subject, provider)
    assert subject.claim(consumer, of(provider, VCPU=4), CLOUD, None) is Claim.DONE
    assert subject.release(consumer, subject.allocation(consumer))
    assert (subject.allocation(consumer), subject.usages(provider)) == (Allocation({}), {"VCPU": 0})
    assert (subject.provider_allocations(provider), generation(subject, provider)) == ({}, before + 2)
    assert subject.claim(consumer, of(provider, VCPU=4), CLOUD, 2) is Claim.UNSURE
    assert subject.claim(consumer, of(provider, VCPU=4), CLOUD, None) is Claim.DONE


def test_a_release_of_what_has_changed_since_it_was_read_does_nothing(subject: Placement) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, None) is Claim.DONE
    read = subject.allocation(consumer)
    assert subject.claim(consumer, of(provider, VCPU=2), CLOUD, 1) is Claim.DONE
    assert not subject.release(consumer, read)
    assert subject.allocation(consumer).allocations == {provider: {"VCPU": 2}}
    assert subject.release(consumer, subject.allocation(consumer))
    assert not subject.release(consumer, read)


def test_a_release_of_nothing_is_refused_without_a_user_and_makes_an_empty_consumer_with_one(
    subject: Placement,
) -> None:
    provider, consumer = offer(subject, {"VCPU": FOUR}), new()
    with pytest.raises(Refused, match="400"):
        subject.release(consumer, subject.allocation(consumer))
    assert subject.release(consumer, Allocation({}, None, CLOUD, "INSTANCE"))
    assert not subject.release(consumer, Allocation({}, None, CLOUD, "INSTANCE"))
    assert subject.release(consumer, Allocation({}, 0, CLOUD, "INSTANCE"))
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, None) is Claim.UNSURE
    assert subject.claim(consumer, of(provider, VCPU=1), CLOUD, 0) is Claim.DONE
