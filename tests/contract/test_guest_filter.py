"""What a guest may send on the NAT network: frames that it makes itself, on a real bridge under the real rules."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from placet.drivers.libvirt.filter_rules import addresses6_of, build_removal, build_rules, port_of
from placet.drivers.libvirt.reservations import Reservation
from tests.lab.namespaces import Namespaces
from tests.support import frames as f

BRIDGE = "guests0"
MAC, OTHER_MAC, STRANGE_MAC = "52:54:00:00:00:05", "52:54:00:00:00:06", "52:54:00:00:00:99"
IP, OTHER_IP, GATEWAY, METADATA = "198.19.7.5", "198.19.7.6", "198.19.7.1", "169.254.169.254"
IP6, OTHER_IP6, GATEWAY6, METADATA6 = "fd00:0:0:7::5", "fd00:0:0:7::6", "fd00:0:0:7::1", "fe80::a9fe:a9fe"
OWN = Reservation(MAC, IPv4Address(IP), IPv6Address(IP6))
OTHER = Reservation(OTHER_MAC, IPv4Address(OTHER_IP), IPv6Address(OTHER_IP6))
LINK_LOCAL, OTHER_LINK_LOCAL = (str(addresses6_of(one)[0]) for one in (OWN, OTHER))
HELLO = f.udp(5000, 5000)

PASSES: Mapping[str, bytes] = {
    "its own IPv4 address": f.ipv4(MAC, IP, OTHER_IP, HELLO),
    "a question to the metadata service": f.ipv4(MAC, IP, METADATA, HELLO),
    "a request for an IPv4 address": f.ipv4(MAC, "0.0.0.0", "255.255.255.255", f.udp(68, 67)),
    "the renewal of one": f.ipv4(MAC, IP, GATEWAY, f.udp(68, 67)),
    "an answer where its IPv4 address is": f.arp(MAC, IP),
    "a question where another's is": f.arp(MAC, IP, f.REQUEST, OTHER_IP),
    "the probe whether its address is free": f.arp(MAC, "0.0.0.0", f.REQUEST, IP),
    "its own IPv6 address": f.ipv6(MAC, IP6, OTHER_IP6, HELLO, f.UDP),
    "its link-local address": f.ipv6(MAC, LINK_LOCAL, METADATA6, HELLO, f.UDP),
    "a request for an IPv6 address": f.ipv6(MAC, LINK_LOCAL, "ff02::1:2", f.udp(546, 547), f.UDP),
    "an answer where its IPv6 address is": f.ipv6(MAC, IP6, f.ALL_NODES, f.advert_of(IP6)),
    "an answer where its link-local address is": f.ipv6(MAC, IP6, f.ALL_NODES, f.advert_of(LINK_LOCAL)),
    "a question where another's IPv6 address is": f.ipv6(
        MAC, IP6, "ff02::1:ff00:6", f.icmp6(f.NEIGHBOR_SOLICIT, IPv6Address(OTHER_IP6).packed)
    ),
    "the probe whether its IPv6 address is free": f.ipv6(
        MAC, "::", "ff02::1:ff00:5", f.icmp6(f.NEIGHBOR_SOLICIT, IPv6Address(IP6).packed)
    ),
    "a question for a router": f.ipv6(MAC, LINK_LOCAL, "ff02::2", f.icmp6(f.ROUTER_SOLICIT)),
}
DROPPED: Mapping[str, bytes] = {
    "another's MAC": f.ipv4(OTHER_MAC, IP, GATEWAY, HELLO),
    "nobody's MAC": f.ipv4(STRANGE_MAC, IP, GATEWAY, HELLO),
    "another's MAC and IPv4 address": f.ipv4(OTHER_MAC, OTHER_IP, METADATA, HELLO),
    "another's IPv4 address": f.ipv4(MAC, OTHER_IP, METADATA, HELLO),
    "the gateway's IPv4 address": f.ipv4(MAC, GATEWAY, OTHER_IP, HELLO),
    "the metadata service's IPv4 address": f.ipv4(MAC, METADATA, OTHER_IP, HELLO),
    "no IPv4 address, where it asks for none": f.ipv4(MAC, "0.0.0.0", "255.255.255.255", HELLO),
    "an offer of an address": f.ipv4(MAC, IP, "255.255.255.255", f.udp(67, 68)),
    "an offer from another port": f.ipv4(MAC, IP, OTHER_IP, f.udp(5000, 68)),
    "a relayed request for an address": f.ipv4(MAC, IP, GATEWAY, f.udp(67, 67)),
    "an answer where another's IPv4 address is": f.arp(MAC, OTHER_IP),
    "an answer where the gateway is": f.arp(MAC, GATEWAY),
    "an answer that another has its address": f.arp(OTHER_MAC, IP, source=MAC),
    "a question in another's name": f.arp(MAC, OTHER_IP, f.REQUEST),
    "an answer that nobody has an address": f.arp(MAC, "0.0.0.0", f.REPLY),
    "another's IPv6 address": f.ipv6(MAC, OTHER_IP6, METADATA6, HELLO, f.UDP),
    "another's link-local address": f.ipv6(MAC, OTHER_LINK_LOCAL, METADATA6, HELLO, f.UDP),
    "a link-local address of its own choice": f.ipv6(MAC, "fe80::1", METADATA6, HELLO, f.UDP),
    "an IPv6 address of its own choice": f.ipv6(MAC, "fd00:0:0:7::99", OTHER_IP6, HELLO, f.UDP),
    "no IPv6 address": f.ipv6(MAC, "::", METADATA6, HELLO, f.UDP),
    "an answer where another's IPv6 address is": f.ipv6(MAC, IP6, f.ALL_NODES, f.advert_of(OTHER_IP6)),
    "an answer where the IPv6 gateway is": f.ipv6(MAC, LINK_LOCAL, f.ALL_NODES, f.advert_of(GATEWAY6)),
    "the same behind another header": f.ipv6(MAC, LINK_LOCAL, f.ALL_NODES, f.advert_of(GATEWAY6), hidden=True),
    "an answer where the metadata service is": f.ipv6(MAC, LINK_LOCAL, f.ALL_NODES, f.advert_of(METADATA6)),
    "a router's advertisement": f.ipv6(MAC, LINK_LOCAL, f.ALL_NODES, f.icmp6(f.ROUTER_ADVERT, bytes(8))),
    "the same, hidden": f.ipv6(MAC, LINK_LOCAL, f.ALL_NODES, f.icmp6(f.ROUTER_ADVERT, bytes(8)), hidden=True),
    "a redirection": f.ipv6(MAC, LINK_LOCAL, OTHER_LINK_LOCAL, f.icmp6(f.REDIRECT, bytes(32))),
    "an offer of an IPv6 address": f.ipv6(MAC, LINK_LOCAL, OTHER_LINK_LOCAL, f.udp(547, 546), f.UDP),
    "the same from another port": f.ipv6(MAC, LINK_LOCAL, OTHER_LINK_LOCAL, f.udp(5000, 546), f.UDP),
    "reverse ARP": f.arp(MAC, IP, kind=f.RARP),
    "a frame in a VLAN": f.tagged(f.ipv4(MAC, IP, GATEWAY, HELLO)),
    "a frame of a switch": f.ethernet(MAC, f.LLDP, b"lldp", to="01:80:c2:00:00:0e"),
    "a frame that says nothing": f.ethernet(MAC, 0x0003, b""),
}
ALL = {**DROPPED, **PASSES}


class Bridge:
    """A bridge with the ports of two guests, and one that is no guest's. At their ends: `one`, `other`, `witness`."""

    def __init__(self, place: Namespaces) -> None:
        self.place = place
        place.run("ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0")
        for port, end in ((port_of(MAC), "one"), (port_of(OTHER_MAC), "other"), ("no-guest", "witness")):
            place.run("ip", "link", "add", port, "type", "veth", "peer", "name", end)
            place.run("ip", "link", "set", port, "master", BRIDGE, "addrgenmode", "none", "up")
            place.run("ip", "link", "set", end, "addrgenmode", "none", "arp", "off", "up")
        place.run("ip", "link", "set", BRIDGE, "addrgenmode", "none", "up")

    def load(self, rules: str) -> None:
        self.place.run("nft", rules)

    def tables(self) -> list[str]:
        return self.place.run("nft", "list", "tables").splitlines()

    def passing(self, frames: Mapping[str, bytes]) -> frozenset[str]:
        """Which of them come out at the other guest, when the one sends them."""
        words = [frame.hex() for frame in frames.values()]
        numbers = json.loads(self.place.run(sys.executable, f.__file__, "one", "other", "witness", *words))
        return frozenset(list(frames)[number] for number in numbers)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    place = Namespaces("filter", Path(tempfile.mkdtemp(prefix="placet-filter-", dir="/var/tmp")))
    try:
        place.up()
        yield Bridge(place)
    finally:
        place.down()


@pytest.fixture(scope="module")
def passed(bridge: Bridge) -> frozenset[str]:
    """What comes through while the rules are in force."""
    bridge.load(build_rules(BRIDGE, [OWN, OTHER]))
    return bridge.passing(ALL)


@pytest.mark.parametrize("name", PASSES)
def test_what_is_a_guests_own_passes(name: str, passed: frozenset[str]) -> None:
    assert name in passed


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_not_does_not_leave_it(name: str, passed: frozenset[str]) -> None:
    assert name not in passed


def test_without_the_rules_all_of_that_would_pass(bridge: Bridge, passed: frozenset[str]) -> None:
    bridge.load(build_removal(BRIDGE))
    bridge.load(build_removal(BRIDGE))

    # bridges keep a switch's own frames to themselves
    assert bridge.passing(ALL) == set(ALL) - {"a frame of a switch"}
    assert bridge.tables() == []


def test_on_a_network_without_ipv6_a_guest_has_its_link_local_address_alone(bridge: Bridge) -> None:
    bridge.load(build_rules(BRIDGE, [Reservation(MAC, IPv4Address(IP)), Reservation(OTHER_MAC, IPv4Address(OTHER_IP))]))

    assert bridge.passing({name: ALL[name] for name in ("its own IPv6 address", "its link-local address")}) == {
        "its link-local address"
    }


def test_rules_are_replaced_as_a_whole_and_a_bad_document_changes_nothing(bridge: Bridge) -> None:
    bridge.load(build_rules(BRIDGE, []))
    bridge.load(build_rules(BRIDGE, [OWN]))
    before = bridge.place.run("nft", "list", "ruleset")
    bridge.load(build_rules(BRIDGE, [OWN]))
    assert bridge.place.run("nft", "list", "ruleset") == before

    with pytest.raises(subprocess.CalledProcessError):
        bridge.load(build_rules(BRIDGE, [OTHER]) + "no rule")
    assert bridge.place.run("nft", "list", "ruleset") == before


def test_a_bridge_of_another_cloud_has_rules_of_its_own(bridge: Bridge) -> None:
    bridge.load(build_rules(BRIDGE, [OWN]))
    bridge.load(build_rules("theirs0", [OTHER]))
    assert bridge.passing(PASSES) == set(PASSES), "theirs do not stop our guests"

    bridge.load(build_removal(BRIDGE))
    assert bridge.tables() == ["table bridge placet-theirs0"]
    bridge.load(build_removal("theirs0"))


def test_a_whole_subnet_of_guests_fits_into_one_document(bridge: Bridge) -> None:
    guests = [
        Reservation(f"52:54:00:00:01:{n:02x}", IPv4Address(f"198.19.7.{n}"), IPv6Address(f"fd00:0:0:7::{n:x}"))
        for n in range(2, 254)
    ]

    bridge.load(build_rules(BRIDGE, guests))
    assert bridge.place.run("nft", "list", "set", "bridge", f"placet-{BRIDGE}", "ports").count("pl-") == len(guests)
