"""This cloud's guests and networks on this machine's hypervisor, found by their marks: works without etcd.

Never touches a domain or a network of somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import libvirt

from placet.drivers.libvirt.domain_facts import read_domain
from placet.drivers.libvirt.guest_filter import remove_filter
from placet.drivers.libvirt.network_xml import network_uuid
from placet.hypervisor import Network, Owner
from placet.onebox import checks
from placet.onebox.layout import StateDirectory
from placet.onebox.settings import Settings


@dataclass(frozen=True)
class Found:
    """Names. `foreign` are domains that are not this node's."""

    running: tuple[str, ...]
    stopped: tuple[str, ...]
    foreign: tuple[str, ...]
    networks: tuple[str, ...]


class Guests:
    """What there is behind one libvirt URI."""

    def __init__(self, settings: Settings, state: StateDirectory) -> None:
        self._settings = settings
        self._state = state

    def look(self) -> Found:
        """Raises libvirt.libvirtError."""
        with checks.connection(self._settings.libvirt.uri) as hypervisor:
            domains = hypervisor.listAllDomains()
            ours = [domain for domain in domains if self._is_ours(domain)]
            return Found(
                running=tuple(domain.name() for domain in ours if domain.isActive()),
                stopped=tuple(domain.name() for domain in ours if not domain.isActive()),
                foreign=tuple(domain.name() for domain in domains if not self._is_ours(domain)),
                networks=tuple(network.name() for network in self._networks(hypervisor)),
            )

    def remove(self) -> int:
        """End and forget every domain and network of ours, and its filter; how many domains there were."""
        with checks.connection(self._settings.libvirt.uri) as hypervisor:
            ours = [domain for domain in hypervisor.listAllDomains() if self._is_ours(domain)]
            for domain in ours:
                _remove_domain(domain)
            for network in self._networks(hypervisor):
                bridge = network.bridgeName()
                _stop_network(network)
                network.undefine()
                remove_filter(bridge)
            return len(ours)

    def stop_networks(self) -> None:
        """Take down the bridge and its DHCP server; the node starts them again."""
        with checks.connection(self._settings.libvirt.uri) as hypervisor:
            for network in self._networks(hypervisor):
                _stop_network(network)

    def _is_ours(self, domain: Any) -> bool:
        try:
            owner = read_domain(domain.XMLDesc()).owner
        except libvirt.libvirtError:
            return False  # it went away between the list and the look
        if owner is None:
            return False
        # a libvirtd of our own has nobody else's guests, even if the node's identity was changed meanwhile
        return self._settings.libvirt.ours or owner.node == self._state.node_uuid

    def _networks(self, hypervisor: Any) -> list[Any]:
        found: list[Any] = hypervisor.listAllNetworks()
        if self._settings.libvirt.ours:
            return found
        return [network for network in found if network.UUIDString() == self._network_uuid()]

    def _network_uuid(self) -> str:
        node, network = self._state.node_uuid or "", self._settings.network
        anywhere = IPv4Network("0.0.0.0/0")  # no part of what the UUID is made of
        return network_uuid(Owner(self._settings.cloud, node), Network(network.name, network.bridge, anywhere))


def _remove_domain(domain: Any) -> None:
    # a libvirtd that has just started is still taking charge of its guests, and then may say of one that it ends
    # that it was not running: so it is asked until it is gone
    with _passing_over(libvirt.VIR_ERR_NO_DOMAIN):
        while domain.isActive():
            with _passing_over(libvirt.VIR_ERR_OPERATION_INVALID):
                domain.destroy()
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )


@contextmanager
def _passing_over(code: int) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as problem:
        if problem.get_error_code() != code:
            raise


def _stop_network(network: Any) -> None:
    if network.isActive():
        network.destroy()
