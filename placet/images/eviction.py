"""Which images leave the cache when others need their room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

RECENT_S = 600.0  # a disk may be about to be made of what was just fetched


@dataclass(frozen=True)
class Entry:
    """One image of the cache: what it takes of the disk, and when it was last fetched or asked for (epoch seconds)."""

    path: Path
    size: int
    used_at: float


def victims(entries: Iterable[Entry], needed: int, limit: int, in_use: Set[str], now: float) -> list[Entry]:
    """Those to remove so that `needed` more bytes stay within `limit`, the longest unused first.

    An image whose name is `in_use`, or that was asked for lately, is never among them: what is left may be over the
    limit.
    """
    ordered = sorted(entries, key=lambda entry: (entry.used_at, entry.path))
    over = sum(entry.size for entry in ordered) + needed - limit
    found = []
    for entry in ordered:
        if over <= 0:
            break
        if entry.path.name not in in_use and entry.used_at < now - RECENT_S:
            found.append(entry)
            over -= entry.size
    return found
