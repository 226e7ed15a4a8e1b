"""What must be true of a simulated cloud: at any time, and once it has come to rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from placet import keys
from placet.cluster import read_cluster
from placet.errand_records import Finding
from placet.lifecycle import Stage, State
from placet.model import BadRecord, Index, Spec, decode
from placet.node_records import Published, Status
from placet.store import Entry
from tests.stateful.machines import Machine
from tests.stateful.simulation import Simulation

R = TypeVar("R")
TAMPERED = {
    "other-allocation",
    "unclaimed-spec",
    "lost-allocation",
    "bad-record",
    "unknown-guest",
    "stray",
    "orphan-spec",
}


def check_always(cloud: Simulation) -> None:
    """At every moment of every history."""
    _nothing_over_capacity(cloud)
    _one_home(cloud)


def _nothing_over_capacity(cloud: Simulation) -> None:
    for machine in cloud.machines:
        if machine.node in cloud.ghost.bent or cloud.placement.provider(machine.node) is None:
            continue
        usages = cloud.placement.usages(machine.node)
        assert usages.get("VCPU", 0) <= machine.vcpus, f"{machine.name}: Placement gives {usages}"
        domains = [machine.lives[instance] for instance in machine.hypervisor.domains]
        domains = [spec for spec in domains if spec.instance not in cloud.ghost.tampered]
        if not cloud.ghost.restored:
            asked = sum(spec.amount("VCPU") for spec in domains)
            assert asked <= machine.vcpus, f"{machine.name}: guests have {asked} VCPU"


def _one_home(cloud: Simulation) -> None:
    """No UUID has two domains of which none was asked to go."""
    homes: dict[str, list[Machine]] = {}
    for machine in cloud.machines:
        for instance in machine.hypervisor.domains:
            life = (instance, machine.lives[instance].request_id)
            wanted = cloud.etcd.get(keys.spec(machine.node, instance)) is not None
            if wanted and not cloud.ghost.is_asked(machine.node, life):
                homes.setdefault(instance, []).append(machine)
    for instance, machines in homes.items():
        if instance not in cloud.ghost.tampered:
            assert len(machines) == 1, f"{instance} runs on {[machine.name for machine in machines]}"


def check_at_rest(cloud: Simulation, found: list[Finding]) -> None:
    """After everything was healed, every program has ended, and nothing changes any more. `found`: what doctor says."""
    for finding in found:
        meddled = finding.subject in cloud.ghost.tampered and finding.kind in TAMPERED
        assert meddled or _lost_by_restore(cloud, finding), f"doctor finds {finding}"
    reported = {finding.subject for finding in found}
    for instance in cloud.instances:
        if instance in reported:
            continue
        homes = [m for m in cloud.machines if cloud.etcd.get(keys.spec(m.node, instance)) is not None]
        assert len(homes) <= 1, f"{instance} has specs on {[machine.name for machine in homes]}"
        if homes:
            _is_whole(cloud, homes[0], instance)
        _nothing_left(cloud, [machine for machine in cloud.machines if machine not in homes], instance)
        if not homes:
            _nothing_of(cloud, instance)
    _promises(cloud, reported)
    _names_differ(cloud)


def _lost_by_restore(cloud: Simulation, finding: Finding) -> bool:
    """An old etcd brings back specs of what is gone; and what is there it cannot know."""
    return cloud.ghost.restored and finding.kind in TAMPERED


def _is_whole(cloud: Simulation, machine: Machine, instance: str) -> None:
    entry = cloud.etcd.get(keys.spec(machine.node, instance))
    assert entry is not None
    spec = decode(Spec, entry.value, entry.key)
    index = _index(cloud, instance)
    assert index is not None and index.deleted_at is None and index.node == machine.node, f"{instance}: {index}"
    held = cloud.placement.allocation(instance).allocations
    status = _status(cloud, machine, instance)
    assert status is not None, f"{instance} has no status"
    if status.state is State.ERROR:
        assert status.fault is not None
        assert held == spec.allocations or instance in cloud.ghost.tampered or cloud.ghost.restored, (
            f"{instance}: ERROR {status.fault.code} and holds {held}, not {spec.allocations}"
        )
        return
    assert held == spec.allocations, f"{instance} holds {held}, its spec says {spec.allocations}"
    assert instance in machine.hypervisor.domains, f"{instance} has no domain and is {status}"
    assert instance in machine.hypervisor.disks, f"{instance} has no disk and is {status}"
    assert machine.lives[instance].request_id == spec.request_id, f"{instance}: an earlier life's domain"
    _is_heard(cloud, machine, spec, status)


def _is_heard(cloud: Simulation, machine: Machine, spec: Spec, status: Status) -> None:
    """What its guest published, and no earlier one's, is in etcd."""
    said = _read(Published, cloud.etcd.get(keys.published(machine.node, spec.instance)))
    if (machine.directory / "published" / f"{spec.instance}.json").exists():
        assert said is not None and Stage.READY.value in status.stages, f"{spec.instance} is ready, and is {status}"
    if said is not None and not cloud.ghost.restored:
        assert said.data == {"life": spec.request_id}, f"{spec.instance}: an earlier life said {said}"


def _nothing_left(cloud: Simulation, machines: Iterable[Machine], instance: str) -> None:
    for machine in machines:
        places = {
            "a domain": instance in machine.hypervisor.domains,
            "a disk": instance in machine.hypervisor.disks,
            "a spec file": (machine.directory / "specs" / f"{instance}.json").exists(),
            "a metadata record": (machine.directory / "metadata" / f"{instance}.json").exists(),
            "what it published": (machine.directory / "published" / f"{instance}.json").exists(),
            "a status": cloud.etcd.get(keys.status(machine.node, instance)) is not None,
            "a publication": cloud.etcd.get(keys.published(machine.node, instance)) is not None,
            "a destroy": cloud.etcd.get(keys.destroy(machine.node, instance)) is not None,
            "an allocation": machine.node in cloud.placement.allocation(instance).allocations,
        }
        if instance in cloud.ghost.tampered:  # whose spec somebody deleted by hand leaves these
            del places["a status"], places["a publication"]
        left = [what for what, there in places.items() if there]
        assert not left, f"of {instance} there is {', '.join(left)} on {machine.name}"


def _nothing_of(cloud: Simulation, instance: str) -> None:
    index = _index(cloud, instance)
    assert index is None or index.deleted_at is not None, f"{instance} has nothing but {index}"
    assert cloud.etcd.get(keys.intent(instance)) is None, f"{instance} has an intent"
    assert not cloud.placement.allocation(instance).allocations, f"{instance} has an allocation"
    holders = [entry.key for entry in read_cluster(cloud.etcd).names if instance.encode() in entry.value]
    assert not holders, f"{instance} has the name {holders}"


def _promises(cloud: Simulation, reported: set[str]) -> None:
    ghost = cloud.ghost
    for life in ghost.refused:
        assert not any((m.node, life) in ghost.placed for m in cloud.machines), f"{life} was refused, and was placed"
    for life, node in ghost.promised.items():
        assert (node, life) in ghost.placed, f"{life} was said to be on {node}"
        if ghost.is_asked(node, life) or ghost.restored or life[0] in ghost.tampered | reported:
            continue
        assert ghost.specs.get((node, life[0])) == life[1], f"{life} was promised and is not there"


def _names_differ(cloud: Simulation) -> None:
    indexes = [_index(cloud, instance) for instance in cloud.instances if instance not in cloud.ghost.tampered]
    names = [index.name for index in indexes if index is not None and index.deleted_at is None]
    assert len(names) == len(set(names)) or cloud.ghost.restored, f"two have one name: {names}"


def _index(cloud: Simulation, instance: str) -> Index | None:
    return _read(Index, cloud.etcd.get(keys.instance(instance)))


def _status(cloud: Simulation, machine: Machine, instance: str) -> Status | None:
    return _read(Status, cloud.etcd.get(keys.status(machine.node, instance)))


def _read(cls: type[R], entry: Entry | None) -> R | None:
    try:
        return decode(cls, entry.value, entry.key) if entry else None
    except BadRecord:
        return None
