"""IPv6 on a node's NAT network, as libvirt and its dnsmasq have it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from placet.drivers.libvirt import LibvirtDriver
from placet.drivers.libvirt.network import machine_has_ipv6
from placet.hypervisor import Network
from placet.model import Spec
from placet.node_records import Address
from placet.schema import changed
from tests.contract.rigs import SUBNET, SUBNET6, Changes, LibvirtRig, new_spec
from tests.lab.hosts import Host, host
from tests.support import dhcp6

BRIDGE = f"br{SUBNET.prefixlen}"


@pytest.fixture
def driver(libvirt_rig: LibvirtRig) -> LibvirtDriver:
    made = libvirt_rig.driver(SUBNET, SUBNET6)
    made.prepare()
    return made


def address6(driver: LibvirtDriver, spec: Spec) -> Address:
    (found,) = (one for one in driver.observe(spec.instance).addresses if ":" in one.ip)
    return found


@contextlib.contextmanager
def card(place: Host, mac: str) -> Iterator[str]:
    """A network card with this MAC on the guests' bridge."""
    place.run("ip", "link", "add", "plug", "type", "veth", "peer", "name", "card")
    try:
        place.run("ip", "link", "set", "plug", "master", BRIDGE, "up")
        place.run("ip", "link", "set", "card", "address", mac, "up")
        yield "card"
    finally:
        place.run("ip", "link", "delete", "plug")


def test_the_nodes_own_addresses_are_the_first_of_each_subnet(driver: LibvirtDriver, libvirt_rig: LibvirtRig) -> None:
    found = libvirt_rig.host.run("ip", "-brief", "address", "show", "dev", BRIDGE).split()

    assert {"198.19.7.1/24", "fd00:0:0:7::1/64"} <= set(found)


def test_a_guest_gets_the_ipv6_address_that_is_reserved_for_its_mac_and_the_lease_confirms_it(
    driver: LibvirtDriver, libvirt_rig: LibvirtRig, running: Spec
) -> None:
    reserved, changes = address6(driver, running), Changes()
    assert reserved.confirmed_by is None
    driver.subscribe(changes.add)

    with card(libvirt_rig.host, running.nics[0].mac) as device:
        given = libvirt_rig.host.run(sys.executable, dhcp6.__file__, device).strip()

    assert given == reserved.ip
    changes.lead_to(lambda: address6(driver, running).confirmed_by == "lease")
    assert [one.confirmed_by for one in driver.observe(running.instance).addresses] == [None, "lease"]


def test_a_lease_from_before_the_start_confirms_nothing(
    driver: LibvirtDriver, libvirt_rig: LibvirtRig, running: Spec
) -> None:
    changes = Changes()
    driver.subscribe(changes.add)
    with card(libvirt_rig.host, running.nics[0].mac) as device:
        libvirt_rig.host.run(sys.executable, dhcp6.__file__, device)
    changes.lead_to(lambda: address6(driver, running).confirmed_by == "lease")

    driver.stop(running.instance)
    driver.start(running.instance)
    assert address6(driver, running).confirmed_by is None


def test_a_network_gets_ipv6_when_it_is_configured_later_and_nobody_uses_it(libvirt_rig: LibvirtRig) -> None:
    network = Network("later6", "later6", IPv4Network("198.19.121.0/24"))
    libvirt_rig.make(network).prepare()
    assert "fd00" not in libvirt_rig.host.run("ip", "-brief", "address", "show", "dev", "later6")

    libvirt_rig.make(changed(network, subnet6=IPv6Network("fd00:0:0:79::/64"))).prepare()
    assert "fd00:0:0:79::1/64" in libvirt_rig.host.run("ip", "-brief", "address", "show", "dev", "later6")


def test_where_libvirt_cannot_have_ipv6_the_network_has_ipv4_alone(libvirt_rig: LibvirtRig) -> None:
    """As on a machine that has rules of its own which ip6tables can't read."""
    with host("without6") as made:
        made.run("nft", "table ip6 filter {\n chain FORWARD {\n type filter hook prerouting priority 0;\n }\n}")
        driver, spec = LibvirtRig(made, libvirt_rig.bootable).driver(SUBNET, SUBNET6), new_spec()
        driver.prepare()
        driver.define(spec)
        addresses = driver.observe(spec.instance).addresses
        driver.close()

    assert [IPv4Address(address.ip) in SUBNET for address in addresses] == [True]


@pytest.mark.parametrize(
    ("switches", "has"),
    [
        ({"all": 0, "default": 0}, True),
        ({"all": 1, "default": 0}, False),
        ({"all": 0, "default": 1}, False),
        ({}, False),
    ],
)
def test_a_machine_says_by_its_kernels_settings_whether_it_has_ipv6(
    tmp_path: Path, switches: dict[str, int], has: bool
) -> None:
    for which, value in switches.items():
        (tmp_path / which).mkdir()
        (tmp_path / which / "disable_ipv6").write_text(f"{value}\n")

    assert machine_has_ipv6(tmp_path) is has
