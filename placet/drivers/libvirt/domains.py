"""Finding an instance's domain, and never one that is somebody else's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import libvirt

from placet.drivers.libvirt.domain_facts import DomainFacts, read_domain
from placet.drivers.libvirt.errors import is_code
from placet.errors import Fault
from placet.hypervisor import Owner
from placet.lifecycle import Power

REMOVE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
POWERS = {
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
}


def find(libvirtd: Any, instance: str) -> Any:
    """The domain with this UUID, whosever it is, or None."""
    try:
        return libvirtd.lookupByUUIDString(instance)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
            return None
        raise


def find_own(libvirtd: Any, instance: str, owner: Owner) -> Any:
    """The instance's domain, or None. Raises Fault `foreign-domain`."""
    domain = find(libvirtd, instance)
    if domain is None:
        return None
    with _unless_gone():
        if facts_of(domain).owner != owner:
            raise Fault("foreign-domain", f"instance {instance}: the node has a domain of this UUID that is not ours")
        return domain
    return None


def own_instances(libvirtd: Any, owner: Owner) -> frozenset[str]:
    """The UUIDs of all domains that carry this owner's mark."""
    found = set()
    for domain in libvirtd.listAllDomains():
        with _unless_gone():
            if facts_of(domain).owner == owner:
                found.add(domain.UUIDString())
    return frozenset(found)


def facts_of(domain: Any) -> DomainFacts:
    """What its XML says now."""
    return read_domain(domain.XMLDesc())


def power_of(domain: Any) -> Power:
    """What state it is in; QEMU gone without having been asked to is a crash."""
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        return Power.CRASHED
    return POWERS.get(state, Power.SHUTOFF)


def unless_done(doing: Callable[[], object]) -> None:
    """Do what is not possible once it has been done: start what runs, stop what doesn't, undefine what went."""
    try:
        doing()
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """A domain can go between the look that found it and the next."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
            raise
