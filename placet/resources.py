"""What a provider offers of a resource class, in Placement's terms. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Inventory:
    """One resource class of a provider. Capacity is (total - reserved) * allocation_ratio."""

    total: int
    reserved: int = 0
    allocation_ratio: float = 1.0
    max_unit: int | None = None
    min_unit: int = 1
    step_size: int = 1

    @property
    def capacity(self) -> int:
        return int((self.total - self.reserved) * self.allocation_ratio)
