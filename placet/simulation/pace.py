"""How often each simulated node does what, so that all together ask etcd and Placement no more than so much. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from placet.auditor import EVERY_S, NODES_PER_SECOND
from placet.watching import RELIST_S

BEATS_PER_S = 100
LISTS_PER_S = 50
BEATS_PER_LEASE = 3  # placet.heartbeat: chances within a lease's time


@dataclass(frozen=True)
class Pace:
    """For so many nodes at once; a node's own pace where that is slower."""

    nodes: int
    node_ttl_s: int

    @property
    def ttl_s(self) -> int:
        """A lease's time: 10,000 that are renewed every 5 s would be 2,000 exchanges a second."""
        return max(self.node_ttl_s, math.ceil(BEATS_PER_LEASE * self.nodes / BEATS_PER_S))

    @property
    def relist_s(self) -> float:
        """From one list of a node's to its next; after a lost stream all list within this time."""
        return max(RELIST_S, self.nodes / LISTS_PER_S)

    @property
    def audit_s(self) -> float:
        """From one audit to the next, as real nodes have it."""
        return max(EVERY_S, self.nodes / NODES_PER_SECOND)

    def turn(self, number: int) -> float:
        """Where in a round, from 0 to 1, the node of this number (from 1) has its turn."""
        return number / self.nodes
