"""The NAT network of a node: made when it is not there, never touched when it is somebody else's; its DHCP leases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import libvirt

from placet.drivers.libvirt.bridge_address import IPV6_SETTINGS, put_address, put_link_local
from placet.drivers.libvirt.connection import LibvirtConnection
from placet.drivers.libvirt.errors import first_line, is_code
from placet.drivers.libvirt.guest_filter import GuestFilter
from placet.drivers.libvirt.network_xml import build_network, build_refresh, network_uuid, same_network, subnet6_in
from placet.drivers.libvirt.reservations import Ip, Reservation, Reservations
from placet.errors import Fault, Refused
from placet.hypervisor import Network, Owner
from placet.log import warn
from placet.networks import METADATA_ADDRESS, METADATA_ADDRESS6
from placet.schema import changed


@dataclass(frozen=True)
class Lease:
    """One that dnsmasq gave. `ends_at` is seconds since the epoch, by the node's clock."""

    mac: str
    ip: Ip
    ends_at: int


class NatNetwork:
    """The one network that all of a node's instances share. `directory` is for the addresses reserved in it."""

    def __init__(self, connection: LibvirtConnection, owner: Owner, network: Network, directory: Path) -> None:
        self._connection = connection
        self._owner = owner
        self._network = network
        self._uuid = network_uuid(owner, network)
        self.reservations = Reservations(directory, network, self._leased)
        self._filter = GuestFilter(network.bridge, network.filtered, self._reserved)

    def prepare(self) -> None:
        """Have it exist as configured, run, and start with the machine; put the metadata addresses on its bridge, and
        the guests' filter in force.

        Raises Refused when the name is another's network, or libvirt won't have it; Unreachable.
        """
        self.reservations.prepare()
        try:
            with self._connection.session(f"network {self._network.name}") as libvirtd:
                self._make(libvirtd)
        except Fault as fault:
            raise Refused(f"{fault}; choose another network: name, bridge or range in compute.yaml") from fault
        put_address(self._network.bridge, METADATA_ADDRESS)
        put_link_local(self._network.bridge, METADATA_ADDRESS6)
        self._filter.prepare()

    def guard(self) -> None:
        """Have the filter in force for all that is reserved: before a guest starts. Raises Unreachable."""
        self._filter.put()

    @property
    def subnets(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """What it really has: of IPv6 perhaps nothing."""
        subnet6 = self.reservations.subnet6
        return (self._network.subnet,) if subnet6 is None else (self._network.subnet, subnet6)

    def leases(self) -> dict[Ip, Lease]:
        """The leases that have not ended, by address."""
        with self._connection.session(f"leases of network {self._network.name}") as libvirtd:
            try:
                found = libvirtd.networkLookupByUUIDString(self._uuid).DHCPLeases()
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_OPERATION_INVALID):
                    return {}
                raise
        leases = (Lease(one["mac"], ip_address(one["ipaddr"]), one["expirytime"]) for one in found)
        return {lease.ip: lease for lease in leases}

    def release(self, instance: str) -> None:
        """Give an instance's addresses back; dnsmasq forgets them before this returns."""
        if self.reservations.release(instance):
            with self._connection.session(f"network {self._network.name}") as libvirtd:
                _refresh(libvirtd, self._uuid)
            self._filter.put()

    def _leased(self) -> Mapping[IPv4Address, float]:
        return {ip: lease.ends_at for ip, lease in self.leases().items() if isinstance(ip, IPv4Address)}

    def _reserved(self) -> list[Reservation]:
        return [one for held in self.reservations.all().values() for one in held]

    def _make(self, libvirtd: Any) -> None:
        wanted = self._network if machine_has_ipv6() else changed(self._network, subnet6=None)
        try:
            found = self._made(libvirtd, wanted)
        except libvirt.libvirtError as error:
            if wanted.subnet6 is None:
                raise
            reason, remedy = first_line(error), "mend that and start again, or set network: {range6: none}"
            warn("network-without-ipv6", network=self._network.name, reason=reason, remedy=remedy)
            found = self._made(libvirtd, changed(wanted, subnet6=None))
        if not found.autostart():
            found.setAutostart(True)
        self.reservations.subnet6 = subnet6_in(found.XMLDesc())

    def _made(self, libvirtd: Any, wanted: Network) -> Any:
        document = build_network(self._owner, wanted, self.reservations.directory)
        found = self._find(libvirtd)
        if found is not None and not same_network(found.XMLDesc(), document):
            found = self._redefine(found)
        if found is None:
            found = libvirtd.networkDefineXML(document)
        if not found.isActive():
            found.create()
        return found

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


def machine_has_ipv6(settings: Path = IPV6_SETTINGS) -> bool:
    """Whether new network devices have IPv6 here. `settings` is the directory of the kernel's; it may be absent."""
    switches = [settings / which / "disable_ipv6" for which in ("all", "default")]
    return all(switch.exists() and switch.read_text().strip() == "0" for switch in switches)


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
