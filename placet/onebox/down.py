"""`down`: stop what `up` started, in the reverse order. Data stays, and so do the guests."""

from __future__ import annotations

import libvirt

from placet.onebox.guests import Found, Guests
from placet.onebox.layout import StateDirectory
from placet.onebox.services import Service, services
from placet.onebox.settings import Settings
from placet.onebox.steps import Steps
from placet.onebox.supervisor import Supervisor

# the node first, so that it can still tell etcd and Placement that it goes
ORDER = ("compute", "placement", "etcd", "libvirtd", "virtlogd")


def down(settings: Settings, state: StateDirectory, supervisor: Supervisor, steps: Steps) -> int:
    """Stop the services; says how many guests run on."""
    table = {service.name: service for service in services(settings, state)}
    guests = Guests(settings, state)
    found = _look(guests)
    for name in ORDER:
        if name == "libvirtd" and found is not None and not found.running:
            guests.stop_networks()
        if name == "virtlogd" and (found is None or found.running):
            continue  # guests' consoles go through it
        if name in table:
            steps.run(name, lambda service=table[name]: _stop(service, supervisor))  # type: ignore[misc]
    if found is None:
        steps.say("libvirtd did not answer: guests that run, if any, run on")
    elif found.running:
        count = len(found.running)
        steps.say(f"{count} guest{'s' if count > 1 else ''} still running; ./up.sh takes charge again.")
        if settings.libvirt.ours:
            steps.say("virtlogd runs on, too: it writes their consoles.")
    return 0


def _stop(service: Service, supervisor: Supervisor) -> str:
    return "stopped" if supervisor.stop(service.name, service.stop_s) else "was not running"


def _look(guests: Guests) -> Found | None:
    try:
        return guests.look()
    except libvirt.libvirtError:
        return None
