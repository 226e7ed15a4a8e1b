"""Claiming and releasing allocations so that a lost or late answer does no harm. Step 2 of a request's way.

Placement is no mutex for a consumer: two racing first claims of one UUID can both be accepted. Whoever calls this
holds the instance's intent in etcd, which is the mutex.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from placet.candidates import Candidate
from placet.errors import Conflict, Unreachable
from placet.placement import CONSUMER_TYPE, Allocation, Claim, Placement

ATTEMPTS = 7
FIRST_PAUSE_S = 0.01


class Claims:
    """Claims on behalf of one cloud, whose id is the allocations' user: what bears another is never touched."""

    def __init__(self, placement: Placement, cloud: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._placement = placement
        self._cloud = cloud
        self._pause = pause

    def claim(
        self, instance: str, candidate: Candidate, may_replace: Callable[[Allocation], object] = lambda _held: None
    ) -> bool:
        """Whether the instance holds the candidate's allocation now; False means that there was no room for it.

        An answer that leaves it open is settled by reading what is held. Before that is written over, `may_replace`
        raises if it must not be: because the UUID is by now another's to claim (whoever that is claims after this
        read, and so moves the generation), or because of what is held. Raises Conflict when that is someone else's,
        Unreachable when it cannot be settled: then the claim may or may not stand.
        """
        generation: int | None = None
        empty_reads = refusals = 0
        for attempt in range(ATTEMPTS):
            outcome = self._placement.claim(instance, candidate, self._cloud, generation)
            if outcome in (Claim.DONE, Claim.NO_ROOM):
                return outcome is Claim.DONE
            held = self._placement.allocation(instance)
            self._refuse_foreign(instance, held)
            refusals += outcome is Claim.REFUSED
            if refusals > 1 and not held.allocations:
                return False
            if held.allocations:  # ours, perhaps from an earlier holder of the intent: written anew, so that its
                may_replace(held)
                generation = held.generation  # generation moves and that one's late release misses it
            else:  # unknown to Placement (null), or left empty by a refused claim (generation 0): try both in turn
                generation = 0 if empty_reads % 2 else None
                empty_reads += 1
            self._pause(FIRST_PAUSE_S * 2**attempt)
        raise Unreachable(f"Placement did not settle the claim of {instance} in {ATTEMPTS} attempts; try again")

    def claim_many(self, candidates: Mapping[str, Candidate]) -> Claim:
        """New instances' claims in one exchange, all or none; UNSURE is settled by `claim`, one by one."""
        return self._placement.claim_many(candidates, self._cloud)

    def held(self, instance: str) -> Allocation:
        """What the instance holds now."""
        return self._placement.allocation(instance)

    def is_of(self, node: str, held: Allocation) -> bool:
        """Whether any of it is of a node's own tree: its provider, or one nested in that (a GPU), not a shared pool."""
        if node in held.allocations:
            return True
        return bool(held.allocations) and not held.allocations.keys().isdisjoint(self._placement.tree(node))

    def release(self, instance: str, node: str | None = None) -> None:
        """Give back all that the instance holds; nothing held is fine, nor anything of `node`, if that is given: its
        UUID may have been placed anew, elsewhere. Raises Conflict when it is someone else's."""
        for _ in range(ATTEMPTS):
            held = self._placement.allocation(instance)
            if not held.allocations or (node is not None and not self.is_of(node, held)):
                return
            self._refuse_foreign(instance, held)
            if self._placement.release(instance, held):
                return
        raise Unreachable(f"Placement kept changing the allocation of {instance} under us; try again")

    def release_as_read(self, instance: str, held: Allocation) -> None:
        """Give back what was held when it was read; nothing, if somebody has claimed the UUID anew since then."""
        if held.allocations and held.user == self._cloud:
            self._placement.release(instance, held)

    def _refuse_foreign(self, instance: str, held: Allocation) -> None:
        if held.allocations and (held.user != self._cloud or held.consumer_type != CONSUMER_TYPE):
            raise Conflict(f"{instance} is another's consumer in Placement; choose another UUID")
