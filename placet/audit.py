"""Comparing, on one node, what etcd wants, what Placement holds and what the hypervisor has. Pure; sweep.py acts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from placet.errand_records import Finding
from placet.findings import finding
from placet.lifecycle import Stage, State
from placet.model import Allocations, Spec
from placet.node_records import Status

DESTROY_TIME_S = 120.0


@dataclass(frozen=True)
class NodeFacts:
    """Everything that the three authorities say of one node at about one time.

    `specs` holds None for a spec that can't be read; `tree` are the providers nested in the node's own; `held` is what
    each consumer of this cloud holds of all of these (not of a shared pool); `placed` the consumers that a live index
    or an intent speaks for; `destroys` for how many seconds the node has known that each is to go; `present` what the
    hypervisor has a domain or a disk of, None if it did not answer; `remembered` the specs that the node wrote down
    when it built.
    """

    node: str
    specs: Mapping[str, Spec | None]
    statuses: Mapping[str, Status]
    destroys: Mapping[str, float]
    held: Mapping[str, Allocations]
    placed: frozenset[str]
    present: frozenset[str] | None
    remembered: Mapping[str, Spec] = field(default_factory=dict)
    tree: frozenset[str] = frozenset()

    def wanted(self, spec: Spec) -> Allocations:
        """What a spec says that its instance holds of the node's tree."""
        own = self.tree | {self.node}
        return {provider: amounts for provider, amounts in spec.allocations.items() if provider in own}


def audit(facts: NodeFacts) -> list[Finding]:
    """Every disagreement, sorted by its subject. What is being built or destroyed right now is none."""
    found = [*_of_allocations(facts), *_of_specs(facts), *_of_guests(facts), *_of_destroys(facts)]
    return sorted(found, key=lambda each: (each.subject, each.kind))


def _of_allocations(facts: NodeFacts) -> Iterator[Finding]:
    if facts.present is None:
        return  # whoever can't see the guests can't tell what is left over
    for consumer, held in facts.held.items():
        if consumer in facts.specs or consumer in facts.destroys or consumer in facts.placed:
            continue
        if consumer not in facts.present:
            yield finding("leaked-allocation", consumer, f"holds {_amounts(held)} and is nothing", facts.node)


def _of_specs(facts: NodeFacts) -> Iterator[Finding]:
    for instance, spec in facts.specs.items():
        if instance in facts.destroys:
            continue
        if spec is None:
            yield finding("bad-record", instance, f"nodes/{facts.node}/specs/{instance} can't be read", facts.node)
            continue
        held, status = facts.held.get(instance), facts.statuses.get(instance)
        if held is None and is_built(status) and facts.present is not None and instance in facts.present:
            yield finding("lost-allocation", instance, "it exists, and Placement holds nothing for it", facts.node)
        elif held is None and status is not None and status.state is State.ERROR:
            yield finding("unclaimed-spec", instance, "Placement holds nothing for its spec: not booted", facts.node)
        elif held is not None and held != (wanted := facts.wanted(spec)):
            detail = f"Placement holds {_amounts(held)}, its spec says {_amounts(wanted)}"
            yield finding("other-allocation", instance, detail, facts.node)


def is_built(status: Status | None) -> bool:
    """Whether the node has once found it rightly claimed and made its domain."""
    return status is not None and Stage.DEFINED.value in status.stages


def _of_guests(facts: NodeFacts) -> Iterator[Finding]:
    for instance in facts.present or ():
        if instance in facts.specs or instance in facts.destroys:
            continue
        if instance in facts.remembered:
            yield finding("stray", instance, "it is on its node, and etcd knows nothing of it", facts.node)
        else:
            yield finding("unknown-guest", instance, "it is on its node, and nobody remembers its spec", facts.node)


def _of_destroys(facts: NodeFacts) -> Iterator[Finding]:
    for instance, lasting_s in facts.destroys.items():
        if lasting_s > DESTROY_TIME_S:
            yield finding("unfinished-destroy", instance, f"its destroy was asked {lasting_s:.0f} s ago", facts.node)


def _amounts(held: Allocations) -> str:
    amounts = [f"{name}:{amount}" for each in held.values() for name, amount in each.items()]
    return ",".join(sorted(amounts)) or "nothing"
