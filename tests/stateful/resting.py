"""Letting a simulated cloud come to rest: everything healed, every program ended or served, until nothing changes."""

from __future__ import annotations

from placet.errand_records import Finding
from placet.watching import LOOK_AT_ALL_S
from tests.stateful.simulation import Simulation
from tests.stateful.tasks import TO_THE_END

MAX_ROUNDS = 12
LASTING = ("nodes/", "published/", "instances/", "names/", "intents/")


def rest(cloud: Simulation) -> list[Finding]:
    """What doctor finds in the end. Where somebody meddled it may mend first; else all must mend itself."""
    heal(cloud)
    cloud.clock.advance(LOOK_AT_ALL_S + 1)  # nobody's heart beats: all leases end, and everything gets a look
    meddled = bool(cloud.ghost.restored or cloud.ghost.tampered or cloud.ghost.bent)
    seen = None
    for _ in range(MAX_ROUNDS):
        cloud.pass_time(61.0)
        for agent in cloud.agents():
            cloud.turn(agent, audit=True)
        cloud.pass_time(5.0)
        for agent in cloud.agents():
            cloud.turn(agent)
        if meddled:
            cloud.doctor(repair=True)
        before, seen = seen, _picture(cloud)
        if seen == before:
            return cloud.doctor(repair=False)
    raise AssertionError("it does not come to rest")


def heal(cloud: Simulation) -> None:
    """Nothing is cut off, drained, late or stopped any more, and all that was begun has ended."""
    cloud.kernel.doom = None
    for machine in cloud.machines:
        machine.cut.clear()
        machine.image_s = 0.0
        cloud.drain(machine, back=True)
    for task in cloud.kernel.tasks:
        task.go(TO_THE_END)
    cloud.kernel.settle()
    for machine in cloud.machines:
        if machine.agent is not None and not machine.agent.ready:
            machine.agent.kill()
        cloud.start_agent(machine, TO_THE_END)
    for task in cloud.kernel.tasks:
        cloud.finish(task)


def _picture(cloud: Simulation) -> object:
    """What lasts."""
    entries = cloud.etcd.scan("").entries
    lasting = [(e.key, e.value) for e in entries if e.key.startswith(LASTING)]
    lasting = [(key, value) for key, value in lasting if "/seen" not in key]
    held = [(instance, cloud.placement.allocation(instance).allocations) for instance in cloud.instances]
    machines = [(sorted(m.hypervisor.domains), sorted(m.hypervisor.disks)) for m in cloud.machines]
    return lasting, held, machines
