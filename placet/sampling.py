"""A random sample of the nodes that are alive, at the same cost whatever their number. Step 1 of a request's way.

Node UUIDs are random: those that follow a random one in the order of keys are a random sample. etcd looks at every key
of a range, whatever its limit (3.4): so first only at a part of all, which says as well about how many there are.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from placet import keys
from placet.digests import Digest, digest_of
from placet.store import Found, Range, Store

PARTS = 16  # one of them is looked at, unless the nodes are so few that it hardly holds a sample
ALL = 2**128
FRESH_S = 2.0


class Sample(NamedTuple):
    """What nodes say of themselves, in random order, and how many are alive, counted or reckoned from a part."""

    digests: list[Digest]
    alive: int


@dataclass(frozen=True)
class Draw:
    """What to read for a sample of `size`, from one of so many `parts`."""

    size: int
    parts: int
    reads: tuple[Range, ...]


class Sampling:
    """Safe to use from many threads. `monotonic` gives seconds."""

    def __init__(self, store: Store, random: Random, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._random = random
        self._monotonic = monotonic
        self._alive: int | None = None
        self._left: deque[tuple[float, Sample]] = deque(maxlen=2)

    def take(self, size: int) -> Sample:
        """Up to `size` nodes, all of them if there are no more."""
        draw = self.draw(size)
        return self.drawn(draw, self._store.read(*draw.reads))

    def draw(self, size: int) -> Draw:
        """The same in two steps, for who has more to read: this, and `drawn` for what was found."""
        is_enough = self._alive is None or self._alive >= 2 * size * PARTS  # whoever does not know yet tries
        return self._draw(size, PARTS if is_enough else 1)

    def drawn(self, draw: Draw, found: Sequence[Found]) -> Sample:
        """From what was found; where a part held too few, from all there are, which are read now."""
        if draw.parts > 1 and sum(each.count for each in found) < draw.size:
            draw = self._draw(draw.size, 1)
            found = self._store.read(*draw.reads)
        self._alive = draw.parts * sum(each.count for each in found)
        entries = [entry for each in found for entry in each.entries][: draw.size]
        self._random.shuffle(entries)
        return Sample([digest_of(entry) for entry in entries], self._alive)

    def leave(self, sample: Sample) -> None:
        """For the next request."""
        self._left.append((self._monotonic(), sample))

    def left(self) -> Sample | None:
        """What an earlier request has left, a moment ago; each is had once."""
        try:
            at, sample = self._left.pop()
        except IndexError:
            return None
        return sample if self._monotonic() - at < FRESH_S else None

    def _draw(self, size: int, parts: int) -> Draw:
        """One of so many parts, which begins anywhere; behind the last key comes the first."""
        width = ALL // parts
        start = self._random.randrange(ALL)
        reads = [Range(keys.ALIVE, _key(start), size, _key(start + width))]
        if start + width >= ALL:
            reads.append(Range(keys.ALIVE, "", size, _key(start + width - ALL)))
        return Draw(size, parts, tuple(reads))


def _key(number: int) -> str:
    """That of the node with this UUID; "" for the end of all."""
    return keys.alive(str(uuid.UUID(int=number))) if number < ALL else ""
