"""The node that a request will try first, found and asked about while etcd is asked about the instance.

Step 1 of a request's way, for one instance. Each request reads, beside its own index and name, a sample for the next
one; so the next knows at once whom to ask, and Placement answers while etcd does. Whoever has no sample yet uses his
own. Nothing depends on this look but time: it may be a moment old, and what it finds is claimed like any candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from placet.candidates import Candidate
from placet.sampling import Sample, Sampling
from placet.store import Found, Range

FIRST_SAMPLE = 16  # nodes
# To send a question is Python's work, too, and would take turns with what is asked of etcd. Placement then has it for
# several milliseconds, in which etcd has answered anyway.
HEAD_START_S = 0.001


class FirstLook:
    """`likely` tells the best node of a sample, if any; `ask` begins to ask Placement about it."""

    def __init__(
        self,
        sampling: Sampling,
        likely: Callable[[Sample], str | None],
        ask: Callable[[str], Future[list[Candidate]]],
    ) -> None:
        self._sampling = sampling
        self._likely = likely
        self._ask = ask
        self._asked: Future[list[Candidate]] | None = None
        self.node: str | None = None
        self.sample = sampling.left()
        if self.sample is not None:
            self._begin(self.sample)
        self._draw = sampling.draw(FIRST_SAMPLE)
        self._is_read = False

    @property
    def reads(self) -> tuple[Range, ...]:
        """What to read besides; nothing when that was done."""
        return () if self._is_read else self._draw.reads

    def learn(self, found: Sequence[Found]) -> None:
        """What these reads found."""
        if self._is_read:
            return
        self._is_read = True
        sample = self._sampling.drawn(self._draw, found)
        if self.sample is None:
            self.sample = sample
            self._begin(sample)
            if sample.alive > FIRST_SAMPLE:  # the next one is to begin elsewhere
                sample = Sample([each for each in sample.digests if each.node != self.node], sample.alive)
        self._sampling.leave(sample)

    def candidates(self, node: str) -> list[Candidate] | None:
        """Placement's answer, if this is the node, once. Raises as Placement.candidates does."""
        if node != self.node or self._asked is None:
            return None
        asked, self._asked = self._asked, None
        return asked.result()

    def _begin(self, sample: Sample) -> None:
        self.node = self._likely(sample)
        if self.node:
            self._asked = self._ask(self.node)
            wait([self._asked], HEAD_START_S)
