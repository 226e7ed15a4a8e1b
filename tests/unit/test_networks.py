"""Which MAC and which address an instance gets."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import Fault
from placet.networks import (
    address6_of,
    gateway_of,
    mac_of,
    pick_address,
    placeholder_of,
    range6_of,
    subnet6_of,
)

SUBNET = IPv4Network("198.19.7.0/28")
FOR_GUESTS = frozenset(SUBNET.hosts()) - {gateway_of(SUBNET), placeholder_of(SUBNET)}

addresses = st.sampled_from(sorted(FOR_GUESTS))
reservations = st.frozensets(addresses)
leases = st.dictionaries(addresses, st.floats(0, 1e9))


@given(st.uuids())
def test_a_mac_is_the_same_each_time_and_one_of_qemus(instance: object) -> None:
    assert mac_of(str(instance)) == mac_of(str(instance))
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac_of(str(instance)))


@given(st.uuids())
def test_a_second_nic_has_another_mac(instance: object) -> None:
    assert mac_of(str(instance), nic=1) != mac_of(str(instance))


@given(reservations, leases, st.text())
def test_what_is_picked_is_free_and_for_guests(
    reserved: frozenset[IPv4Address], leased: dict[IPv4Address, float], hint: str
) -> None:
    if reserved == FOR_GUESTS:
        with pytest.raises(Fault) as caught:
            pick_address(SUBNET, reserved, leased, hint)
        assert caught.value.code == "no-address"
    else:
        assert pick_address(SUBNET, reserved, leased, hint) in FOR_GUESTS - reserved


@given(reservations, leases, st.text())
def test_an_address_that_a_guest_still_holds_is_the_last_choice(
    reserved: frozenset[IPv4Address], leased: dict[IPv4Address, float], hint: str
) -> None:
    free = FOR_GUESTS - reserved
    if not free:
        return
    picked = pick_address(SUBNET, reserved, leased, hint)

    if free - set(leased):
        assert picked not in leased
    else:
        assert leased[picked] == min(leased[address] for address in free)


@given(st.text())
def test_a_hint_leads_to_the_same_address_each_time(hint: str) -> None:
    assert pick_address(SUBNET, set(), {}, hint) == pick_address(SUBNET, set(), {}, hint)


@given(st.lists(st.uuids(), unique=True, min_size=len(FOR_GUESTS), max_size=len(FOR_GUESTS)))
def test_a_subnet_can_be_filled_to_the_last_address(instances: list[object]) -> None:
    reserved: set[IPv4Address] = set()
    for instance in instances:
        reserved.add(pick_address(SUBNET, reserved, {}, str(instance)))

    assert reserved == FOR_GUESTS


UUIDS = st.uuids().map(str)
RANGE = IPv4Network("198.19.0.0/16")


@given(UUIDS, UUIDS)
def test_a_cloud_has_a_unique_local_48_of_its_own(cloud: str, another: str) -> None:
    found = range6_of("auto", cloud)

    assert found == range6_of("auto", cloud)
    assert found is not None and found.prefixlen == 48 and found.subnet_of(IPv6Network("fd00::/8"))
    assert cloud == another or found != range6_of("auto", another)


def test_a_range_of_ipv6_can_be_given_or_done_without() -> None:
    assert range6_of("2001:db8:7::/48", "the-cloud") == IPv6Network("2001:db8:7::/48")
    assert range6_of("none", "the-cloud") is None


@given(UUIDS, st.integers(0, 255), st.integers(0, 255))
def test_each_node_has_a_64_of_its_own_in_the_clouds_48(cloud: str, number: int, another: int) -> None:
    range6 = range6_of("auto", cloud)
    assert range6 is not None
    subnet, other = (IPv4Network(f"198.19.{each}.0/24") for each in (number, another))

    found = subnet6_of(range6, RANGE, subnet)
    assert found.prefixlen == 64 and found.subnet_of(range6)
    assert (found == subnet6_of(range6, RANGE, other)) == (subnet == other)


def test_ipv6_follows_from_ipv4_in_a_way_that_people_can_follow() -> None:
    subnet6 = subnet6_of(IPv6Network("2001:db8:7::/48"), RANGE, IPv4Network("198.19.18.0/24"))

    assert subnet6 == IPv6Network("2001:db8:7:12::/64")
    assert address6_of(subnet6, IPv4Address("198.19.18.171")) == IPv6Address("2001:db8:7:12::ab")
