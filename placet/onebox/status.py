"""`status`: a line for each service, the nodes, the guests. Only looks."""

from __future__ import annotations

import libvirt

from placet.errors import PlacetError
from placet.onebox import checks
from placet.onebox.guests import Guests
from placet.onebox.layout import StateDirectory
from placet.onebox.records import Records
from placet.onebox.services import Service, services
from placet.onebox.settings import Settings
from placet.onebox.starting import describe
from placet.onebox.steps import Steps
from placet.onebox.supervisor import Supervisor


def status(settings: Settings, state: StateDirectory, supervisor: Supervisor, steps: Steps) -> int:
    """0 when all is up, 1 otherwise."""
    wrong = {
        "etcd": checks.etcd(settings.etcd),
        "placement": checks.placement(settings.placement),
        "libvirtd": checks.libvirtd(settings.libvirt.uri),
    }
    table = services(settings, state)
    ours = {service.name for service in table}
    for service in table:
        steps.say(_service(service, supervisor, wrong.get(service.name)))
    for name, problem in wrong.items():
        if name not in ours:
            steps.say(f"{name:<10} {'answers' if problem is None else problem}; not started by this")
    node = _node(settings, state, reachable=wrong["etcd"] is None)
    steps.say(f"{'node':<10} {node or 'alive'}")
    steps.say(f"{'guests':<10} {_guests(settings, state)}")
    stopped = [service.name for service in table if supervisor.find(service.name) is None]
    return 1 if stopped or node or any(wrong.values()) else 0


def _service(service: Service, supervisor: Supervisor, wrong: str | None) -> str:
    running = supervisor.find(service.name)
    ports = "".join(f", {address}:{port}" for address, port in service.ports[:1]) if running else ""
    problem = f", but {wrong}" if running and wrong else ""
    return f"{service.name:<10} {describe(running)}{ports}{problem}"


def _node(settings: Settings, state: StateDirectory, reachable: bool) -> str | None:
    """What is wrong with it, or None."""
    if not reachable:
        return "unknown, as etcd is not reachable"
    uuid = state.node_uuid
    try:
        alive = Records(settings).alive(uuid) if uuid else None
    except PlacetError as problem:
        return str(problem)
    return None if alive else "not alive"


def _guests(settings: Settings, state: StateDirectory) -> str:
    try:
        found = Guests(settings, state).look()
    except libvirt.libvirtError:
        return "unknown, as libvirtd is not reachable"
    return f"{len(found.running)} running, {len(found.stopped)} stopped"
