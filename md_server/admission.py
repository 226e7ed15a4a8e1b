"""Who is connected, and how many connections there may be: so that no guest takes the places of the others. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Drop = Callable[[], None]


@dataclass
class Limits:
    """Of one server. `request_s` is what a client has for each next request, from silence to the last byte taken."""

    connections: int = 256
    connections_a_source: int = 32
    request_s: float = 10.0
    head_bytes: int = 16 * 1024
    body_bytes: int = 8 * 1024


@dataclass
class Admission:
    """The open connections of each source, oldest first, each as what ends it."""

    limits: Limits
    open: dict[str, dict[Drop, None]] = field(default_factory=dict)

    def enter(self, source: str, drop: Drop) -> bool:
        """Whether one more may come. When all places are taken, who has most loses its oldest to who has fewer."""
        mine = len(self.open.get(source, ()))
        if mine >= self.limits.connections_a_source:
            return False
        if sum(map(len, self.open.values())) >= self.limits.connections:
            most = max(self.open, key=lambda other: len(self.open[other]))
            if len(self.open[most]) <= mine + 1:
                return False
            oldest = next(iter(self.open[most]))
            self.leave(most, oldest)
            oldest()
        self.open.setdefault(source, {})[drop] = None
        return True

    def leave(self, source: str, drop: Drop) -> None:
        """One has ended; twice is no error."""
        mine = self.open.get(source, {})
        mine.pop(drop, None)
        if not mine:
            self.open.pop(source, None)
