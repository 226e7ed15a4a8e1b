"""Leases whose numbers follow from the hour: everybody finds the same one, nobody meets another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from placet.leases import HOUR_S, Kept, lease_of, ttl_of

times = st.floats(0, 4e9)
kinds = st.sampled_from(Kept)


@given(kinds, times)
def test_what_is_kept_lives_its_time_even_if_written_at_the_last_moment_of_the_hour(kept: Kept, now: float) -> None:
    granted_at = now // HOUR_S * HOUR_S  # at the earliest: by whoever first wrote in this hour
    ttl_s = ttl_of(lease_of(kept, now))
    assert ttl_s is not None and granted_at + ttl_s >= now + kept.value


@given(kinds, times, kinds, times)
def test_two_have_one_lease_exactly_if_kind_and_hour_are_one(one: Kept, at: float, other: Kept, then: float) -> None:
    same = (one, at // HOUR_S) == (other, then // HOUR_S)
    assert (lease_of(one, at) == lease_of(other, then)) is same


@given(kinds, times)
def test_the_numbers_are_positive_as_etcd_wants_them(kept: Kept, now: float) -> None:
    assert 0 < lease_of(kept, now) < 2**63


@given(st.integers(0, 0x71ACE7 << 35) | st.integers(0x71ACE8 << 36, 2**63))
def test_a_lease_that_is_none_of_ours_has_no_time_of_ours(lease: int) -> None:
    assert ttl_of(lease) is None
