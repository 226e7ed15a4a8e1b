"""The words for what an instance is and how far its boot has come. Pure; every part uses these names."""

from __future__ import annotations

from enum import Enum

RESTARTS = ("never", "on-failure", "always")  # what is done when an instance ends by itself


class State(str, Enum):
    """What an instance is. `UNKNOWN` is never stored: it is what is shown while the node is silent."""

    BUILD = "BUILD"
    ACTIVE = "ACTIVE"
    SHUTOFF = "SHUTOFF"
    PAUSED = "PAUSED"
    SUSPENDED = "SUSPENDED"
    ERROR = "ERROR"
    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"


class Stage(str, Enum):
    """How far a boot has come, in this order; the status keeps the time each was reached."""

    CLAIMED = "claimed"
    IMAGE = "image"
    DEFINED = "defined"
    STARTED = "started"
    IP = "ip"
    AGENT = "agent"
    READY = "ready"


class Power(str, Enum):
    """What a hypervisor says of a domain."""

    ABSENT = "absent"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
