"""The ways in which Placement, etcd and the hypervisors can disagree, and what mends each. Pure.

One table: `doctor` prints from it, nodes and doctor repair what it calls safe, docs/guarantees.md explains it.
"""

from __future__ import annotations

from dataclasses import dataclass

from placet.errand_records import Finding
from placet.schema import changed


@dataclass(frozen=True)
class Kind:
    """`remedy` is what a repair does, or, where none is safe, what a person can do. `{…}` are a Finding's fields."""

    remedy: str
    safe: bool = False


KINDS = {
    "leaked-allocation": Kind("release it in Placement", safe=True),
    "lost-allocation": Kind("claim it again in Placement", safe=True),
    "other-allocation": Kind("destroy {subject} and create it again, or put its amounts back in Placement"),
    "unclaimed-spec": Kind("if nobody you know wrote it: schedule.py destroy {subject}"),
    "stray": Kind("write its spec and index again, as its node remembers them", safe=True),
    "unknown-guest": Kind("nobody remembers its spec: save what it holds, then remove it on node {node} with virsh"),
    "orphan-index": Kind("close it: the instance is gone", safe=True),
    "orphan-spec": Kind("write its index again", safe=True),
    "orphan-name": Kind("free the name: its instance is gone", safe=True),
    "bad-record": Kind("an instance: schedule.py destroy it; a key: put it back from a backup, or etcdctl del it"),
    "lost-cloud": Kind("write the cloud's id again, as its nodes know it", safe=True),
    "other-etcd": Kind("accept this etcd and go on", safe=True),
    "unfinished-destroy": Kind("see why: schedule.py events {subject}"),
    "silent-node": Kind("start its agent; if it is lost: schedule.py destroy --force each, then node forget {subject}"),
    "blind-node": Kind("see to libvirtd on it: its guests can't be checked"),
    "deaf-node": Kind("it is alive but does not answer: see the agent's log on it"),
    "unknown-provider": Kind("start its agent; if it is lost or none you need: schedule.py node forget {subject}"),
    "more-findings": Kind("mend what is shown, then look again"),
    "etcd-alarm": Kind("make room: etcdctl compact and defrag, then etcdctl alarm disarm"),
}


def finding(kind: str, subject: str, detail: str, node: str | None = None) -> Finding:
    """A Finding of a known kind."""
    if kind not in KINDS:
        raise KeyError(kind)
    return Finding(kind, subject, detail, node)


def remedy(found: Finding) -> str:
    """What mends it, in words. A kind that a newer program knows is shown without."""
    kind = KINDS.get(found.kind)
    return kind.remedy.format(subject=found.subject, node=found.node) if kind else "use a newer schedule.py"


def is_safe(found: Finding) -> bool:
    """Whether a repair may be done without asking."""
    kind = KINDS.get(found.kind)
    return kind is not None and kind.safe


def repaired(found: Finding) -> Finding:
    """The same, mended."""
    return changed(found, repaired=True)
