"""What nodes write of themselves and of their instances: records with the codec of placet/model.py. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from placet.lifecycle import Power, Stage, State


@dataclass(frozen=True)
class Address:
    """An IP of an instance. `confirmed_by` is `lease` or `agent`; None while it is only reserved."""

    ip: str
    mac: str
    network: str = "default"
    confirmed_by: str | None = None


@dataclass(frozen=True)
class FaultRecord:
    """Why an instance is in ERROR: a stable word, the stage it was at, a line for people."""

    code: str
    stage: str
    message: str


@dataclass(frozen=True)
class Status:
    """What an instance is, as its node reports it: `nodes/<node>/status/<instance>`. `restarts` are the times of late
    at which its policy started it again; `warning` is what an instance that runs lacks by now."""

    instance: str
    node: str
    state: State
    stage: Stage
    stages: dict[str, float]
    updated_at: float
    power: Power = Power.ABSENT
    task: str | None = None
    addresses: tuple[Address, ...] = ()
    fault: FaultRecord | None = None
    warning: str | None = None
    restarts: tuple[float, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """What a guest has told of itself by its metadata service: `published/<node>/<instance>`. Not trusted."""

    instance: str
    updated_at: float
    ready_at: float | None = None
    data: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alive:
    """A node's heartbeat: `alive/<node>`, under its lease. Capacity, use (in Placement's units) and traits are a digest
    of what Placement knows: a hint, never a decision."""

    node: str
    name: str
    address: str
    hypervisor: str
    driver: str
    virt_type: str
    started_at: float
    capacity: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    agent_version: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """Which hypervisor a node is bound to: `nodes/<node>/identity`, written once."""

    node: str
    name: str
    hypervisor: str
    created_at: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """When a node last said that it was up: `nodes/<node>/seen`, outside any lease so that it outlives the node."""

    node: str
    at: float
    stopped: bool = False


@dataclass(frozen=True)
class Subnet:
    """Which node owns a /24 of the cloud's range: `subnets/<number>`, claimed once by compare-and-swap."""

    number: int
    node: str
