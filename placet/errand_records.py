"""What a node is asked to do once, and its answers: records with the codec of placet/model.py. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from placet.model import ImageRef, Spec
from placet.node_records import FaultRecord


@dataclass(frozen=True)
class Errand:
    """Something that a node is asked to do once: `nodes/<node>/operations/<id>`, leased to its deadline.

    Of kind `audit` it asks to compare and answer with an AuditReport, mending what is safe to if `repair`; of kind
    `image` to bring `image` to the node and answer with ImageReports; of kind `console` to answer with a ConsoleText
    of `instance`: the last `lines` when `offset` is None, else what came after it.
    """

    id: str
    kind: str
    by: str
    repair: bool = False
    image: ImageRef | None = None
    instance: str | None = None
    lines: int = 0
    offset: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One disagreement between Placement, etcd and a hypervisor; placet/findings.py has the kinds."""

    kind: str
    subject: str
    detail: str
    node: str | None = None
    repaired: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditReport:
    """A node's answer to an audit: `nodes/<node>/results/<id>`. `strays` are the specs that it remembers of guests
    that etcd knows nothing of; `left_out` is how many findings there are beyond what fits into one record."""

    node: str
    cloud: str
    at: float
    findings: tuple[Finding, ...] = ()
    strays: tuple[Spec, ...] = ()
    left_out: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageReport:
    """How far a node has come with an image: `nodes/<node>/results/<id>`, written again as it goes on.

    `task` says what it is at; once `done`, `fault` or all of the rest is there. Sizes are bytes, `digest` is
    `sha256:` and 64 hex digits; both, and `format`, are of what the source gave, `virtual_size` is the disk's.
    """

    node: str
    at: float
    done: bool = False
    task: str | None = None
    fault: FaultRecord | None = None
    digest: str | None = None
    format: str | None = None
    virtual_size: int = 0
    size: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConsoleText:
    """A piece of a guest's console log: `nodes/<node>/results/<id>`. `text` is what the guest wrote, undecodable bytes
    replaced; `offset` names where the next piece begins, in a way that is the driver's own; `fault` says why there is
    none."""

    node: str
    instance: str
    at: float
    text: str = ""
    offset: int = 0
    fault: FaultRecord | None = None
    extra: dict[str, Any] = field(default_factory=dict)
