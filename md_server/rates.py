"""How often each guest may do what costs the node something: a token bucket each. Pure."""

from __future__ import annotations

MANY = 1000


class Rates:
    """`burst` at once, then `per_s` a second. Times are monotonic seconds."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, who: str, now: float) -> bool:
        """Whether `who` may do it once more, now."""
        left = self._left(who, now)
        if left < 1:
            return False
        if len(self._buckets) > MANY:
            self._buckets = {one: bucket for one, bucket in self._buckets.items() if self._left(one, now) < self._burst}
        self._buckets[who] = (left - 1, now)
        return True

    def _left(self, who: str, now: float) -> float:
        left, at = self._buckets.get(who, (float(self._burst), now))
        return min(float(self._burst), left + (now - at) * self._per_s)
