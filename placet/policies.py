"""Which of several nodes that fit is the best, and how members of a group lie. To add a policy of the first kind, add a
line. Step 1 of a request's way; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

GROUP_POLICIES = ("anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity")

# from the share (0 to 1) that a node's scarcest resource would have left, to a score: the highest wins
POLICIES: Mapping[str, Callable[[float], float]] = {
    "spread": lambda left: left,
    "pack": lambda left: -left,
    "random": lambda _left: 0.0,
}
