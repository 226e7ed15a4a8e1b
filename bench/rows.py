"""What a bench finds: rows with a goal, shown as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure. `goal` is a bound in words (`<= 1.1`, `>= 0.9`), None where a figure is only reported."""

    name: str
    value: float
    unit: str
    goal: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met."""
        if self.goal is None:
            return None
        sign, bound = self.goal.split()
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


def show(rows: Sequence[Row], form: str) -> None:
    """Print them."""
    if form == "json":
        print(json.dumps([{**asdict(row), "holds": row.holds} for row in rows], indent=2))
        return
    width = max(len(row.name) for row in rows)
    for row in rows:
        verdict = {True: "holds", False: "MISSED", None: ""}[row.holds]
        print(f"{row.name:<{width}}  {row.value:>9.3f} {row.unit:<4} {row.goal or '':<8} {verdict}".rstrip())
