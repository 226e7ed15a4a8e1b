"""libvirt's events as `changed(instance)`. Callbacks run in the event loop's thread: they pass on and ask nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import libvirt

POWER_EVENTS = {
    libvirt.VIR_DOMAIN_EVENT_STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED,
}


class DomainEvents:
    """Power and guest agents of all domains. Each callback takes the domain's UUID; `agent` is for those that come or
    go, `changed` for everything."""

    def __init__(
        self,
        started: Callable[[str], None],
        stopped: Callable[[str], None],
        agent: Callable[[str], None],
        changed: Callable[[str], None],
    ) -> None:
        self._started = started
        self._stopped = stopped
        self._agent_came = agent
        self._changed = changed

    def register(self, libvirtd: Any) -> None:
        """On a connection that was just opened."""
        libvirtd.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._power, None)
        with contextlib.suppress(libvirt.libvirtError):  # not every hypervisor has agents
            libvirtd.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._agent, None)

    def _power(self, _libvirtd: Any, domain: Any, event: int, _detail: int, _opaque: object) -> None:
        instance = domain.UUIDString()
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._started(instance)
        elif event in (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED):
            self._stopped(instance)
        if event in POWER_EVENTS:
            self._changed(instance)

    def _agent(self, _libvirtd: Any, domain: Any, _state: int, _reason: int, _opaque: object) -> None:
        instance = domain.UUIDString()
        self._agent_came(instance)
        self._changed(instance)
