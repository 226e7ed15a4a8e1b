"""Leases that a whole cloud shares: one an hour and kind, with a number that follows from the hour.

What is put under one lives between its time and an hour more. Nobody has to look a lease up or renew it: whoever finds
it missing grants it (placet.story.Story.transact does).
"""

from __future__ import annotations

from enum import Enum

HOUR_S = 3600
FIRST = 0x71ACE7 << 36  # far from the numbers that etcd gives by itself
PER_KIND = 1 << 32


class Kept(Enum):
    """What is kept for a while, and for how many seconds at least."""

    EVENT = 3 * 24 * HOUR_S
    DELETED = 24 * HOUR_S


def lease_of(kept: Kept, now: float) -> int:
    """The number of the lease for what is written now."""
    return FIRST + list(Kept).index(kept) * PER_KIND + int(now // HOUR_S)


def ttl_of(lease: int) -> int | None:
    """The seconds to grant a lease of this kind for; None when it is no such lease."""
    kind, _ = divmod(lease - FIRST, PER_KIND)
    return list(Kept)[kind].value + HOUR_S if 0 <= kind < len(Kept) else None
