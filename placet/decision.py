"""What was looked at for one request, and what became of it: kept in the index, shown by `schedule.py why`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from placet.digests import Digest

NODES_KEPT = 8
IN_WORDS = {"spread": "the emptiest", "pack": "the fullest", "random": "one"}


@dataclass
class Decision:
    """`looked` tells at how many of the `alive` nodes it looked, `looked_at` whether those were a `sample` or `all`;
    `nodes` maps each that was asked about to its name, the share that its scarcest resource would have left, and what
    came of it; `lost` are those whose claim or commit others were faster with."""

    policy: str
    looked_at: str = "all"
    looked: int = 0
    alive: int = 0
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    group: dict[str, str] | None = None

    def look(self, looked: int, alive: int) -> None:
        """At so many of all nodes."""
        self.looked, self.alive = looked, alive
        self.looked_at = "sample" if looked < alive else "all"

    def note(self, digest: Digest, left: float, outcome: str) -> None:
        """What came of a node: `chosen`, `no fit`, `taken by others`, `refused`, `not tried`."""
        if digest.node in self.nodes or len(self.nodes) < NODES_KEPT or outcome == "chosen":
            self.nodes[digest.node] = {"name": digest.name, "left": round(left, 4), "outcome": outcome}

    def lose(self, digest: Digest, left: float, outcome: str) -> None:
        """The next one has to be tried."""
        self.note(digest, left, outcome)
        self.lost.append(digest.node)

    def record(self) -> dict[str, object]:
        """The form in which the index keeps it."""
        nodes = [{"node": node, **found} for node, found in self.nodes.items()]
        found: dict[str, object] = {
            "policy": self.policy,
            "looked_at": self.looked_at,
            "looked": self.looked,
            "alive": self.alive,
            "nodes": nodes,
            "lost": self.lost,
        }
        return {**found, "group": self.group} if self.group else found

    @property
    def words(self) -> str:
        """The same, shortest, for the story."""
        of = "of a sample that fits" if self.looked_at == "sample" else "that fits"
        after = f", after {len(self.lost)} that others took" if self.lost else ""
        return f"{IN_WORDS[self.policy]} {of}{after}"
