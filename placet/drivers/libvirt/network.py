"""The NAT network of a node: made when it is not there, never touched when it is somebody else's; its DHCP leases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import libvirt

from placet.drivers.libvirt.bridge_address import put_address
from placet.drivers.libvirt.connection import LibvirtConnection
from placet.drivers.libvirt.errors import is_code
from placet.drivers.libvirt.network_xml import build_network, build_refresh, network_uuid, same_network
from placet.drivers.libvirt.reservations import Reservations
from placet.errors import Fault, Refused
from placet.hypervisor import Network, Owner
from placet.log import warn
from placet.networks import METADATA_ADDRESS


@dataclass(frozen=True)
class Lease:
    """One that dnsmasq gave. `ends_at` is seconds since the epoch, by the node's clock."""

    mac: str
    ip: IPv4Address
    ends_at: int


class NatNetwork:
    """The one network that all of a node's instances share. `directory` is for the addresses reserved in it."""

    def __init__(self, connection: LibvirtConnection, owner: Owner, network: Network, directory: Path) -> None:
        self._connection = connection
        self._network = network
        self._uuid = network_uuid(owner, network)
        self._document = build_network(owner, network, directory)
        self.reservations = Reservations(directory, network, self._leased)

    def prepare(self) -> None:
        """Have it exist as configured, run, and start with the machine; and put the metadata address on its bridge.

        Raises Refused when the name is another's network, or libvirt won't have it.
        """
        self.reservations.prepare()
        try:
            with self._connection.session(f"network {self._network.name}") as libvirtd:
                self._make(libvirtd)
        except Fault as fault:
            raise Refused(f"{fault}; choose another network: name, bridge or range in compute.yaml") from fault
        put_address(self._network.bridge, METADATA_ADDRESS)

    def leases(self) -> dict[str, Lease]:
        """The leases that have not ended, by MAC."""
        with self._connection.session(f"leases of network {self._network.name}") as libvirtd:
            try:
                found = libvirtd.networkLookupByUUIDString(self._uuid).DHCPLeases()
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_OPERATION_INVALID):
                    return {}
                raise
        leases = (Lease(one["mac"], IPv4Address(one["ipaddr"]), one["expirytime"]) for one in found if one["type"] == 0)
        return {lease.mac: lease for lease in leases}

    def release(self, instance: str) -> None:
        """Give an instance's addresses back; dnsmasq forgets them before this returns."""
        if self.reservations.release(instance):
            with self._connection.session(f"network {self._network.name}") as libvirtd:
                _refresh(libvirtd, self._uuid)

    def _leased(self) -> Mapping[IPv4Address, float]:
        return {lease.ip: lease.ends_at for lease in self.leases().values()}

    def _make(self, libvirtd: Any) -> None:
        found = self._find(libvirtd)
        if found is not None and not same_network(found.XMLDesc(), self._document):
            found = self._redefine(found)
        if found is None:
            found = libvirtd.networkDefineXML(self._document)
        if not found.isActive():
            found.create()
        if not found.autostart():
            found.setAutostart(True)

    def _find(self, libvirtd: Any) -> Any:
        name = self._network.name
        try:
            found = libvirtd.networkLookupByName(name)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_NETWORK):
                return None
            raise
        if found.UUIDString() != self._uuid:
            raise Refused(f"network {name} is there and not this node's; choose another network.name in compute.yaml")
        return found

    def _redefine(self, found: Any) -> Any:
        """Ours, but the configuration has changed: make it anew, or keep it while guests are on it."""
        if self.reservations.all() or (found.isActive() and found.listAllPorts()):
            warn(
                "network-differs-but-is-in-use", network=self._network.name, remedy="destroy its instances, start again"
            )
            return found
        if found.isActive():
            found.destroy()
        found.undefine()
        return None


def _refresh(libvirtd: Any, network_uuid: str) -> None:
    """Have dnsmasq read its files again: adding a DNS name does so, and so does removing it."""
    try:
        network = libvirtd.networkLookupByUUIDString(network_uuid)
        try:
            _update_dns(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST)
        except libvirt.libvirtError:
            _update_dns(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE)
    except libvirt.libvirtError as error:
        # without the network, or its DHCP server, there is nobody to tell
        if not is_code(error, libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_OPERATION_INVALID):
            raise


def _update_dns(network: Any, command: int) -> None:
    section, flags = libvirt.VIR_NETWORK_SECTION_DNS_HOST, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    network.update(command, section, -1, build_refresh(), flags)
