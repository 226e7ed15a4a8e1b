"""Addresses of real guests on a real node: known, confirmed, shown; and theirs alone: nothing forged leaves a guest."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from placet.drivers.libvirt.filter_rules import port_of
from placet.networks import mac_of
from tests.lab import Lab, LabNode, lab
from tests.lab.daemon import Daemon
from tests.lab.probe import reach
from tests.support import frames
from tests.support.guest import Guest
from tests.support.nodes import until

QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:128"
LAN, LAN_GATEWAY, LAN_RANGE = "br-lan", "198.18.9.1", "198.18.9.50,198.18.9.99"
NAT = "placet0"
STRANGE_MAC = "52:54:00:99:99:99"
BOOT_S = 300.0


@pytest.fixture(scope="module")
def cloud() -> Iterator[Lab]:
    """One node, with a second bridge to a LAN that has a DHCP server of its own."""
    with lab(nodes=1, start_agents=False) as made:
        host = made.nodes[0].host
        host.run("ip", "link", "add", LAN, "type", "bridge")
        host.run("ip", "address", "add", f"{LAN_GATEWAY}/24", "dev", LAN)
        host.run("ip", "link", "set", LAN, "up")
        lease_file = f"--dhcp-leasefile={host.directory}/lan.leases"
        options = ["--port=0", "--bind-interfaces", f"--interface={LAN}", f"--dhcp-range={LAN_RANGE}", lease_file]
        host.start_daemon("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-ping", *options)
        made.nodes[0].start_agent(settings={"bridge": LAN, "metadata_service": True})
        made.nodes[0].wait_ready()
        yield made
        assert made.schedule("destroy", "one", "other").code == 0
        assert port_of(mac_of("any"))[:3] not in host.run("ip", "-brief", "link")


@pytest.fixture(scope="module")
def node(cloud: Lab) -> LabNode:
    return cloud.nodes[0]


class Vm:
    """One that runs, and what the cloud says of it."""

    def __init__(self, cloud: Lab, name: str) -> None:
        told = cloud.schedule(QUERY, "--name", name, "--wait-for", "agent", timeout=BOOT_S)
        assert told.code == 0, told.err
        self._cloud, self.name = cloud, name
        self.uuid: str = self.shown["uuid"]
        self.mac = mac_of(self.uuid)
        self.ip, self.ip6 = (address.split()[0] for address in self.shown["addresses"][:2])
        self.gateway, self.gateway6 = self.ip.rpartition(".")[0] + ".1", self.ip6.rpartition(":")[0] + ":1"
        self.guest = Guest(cloud.nodes[0].host.uri, self.uuid)

    @property
    def shown(self) -> dict[str, Any]:
        return dict(json.loads(self._cloud.schedule("show", self.name, "-f", "json").out))

    def confirmed(self) -> dict[str, str]:
        """How each of its addresses is known."""
        return dict(re.fullmatch(r"(\S+) \((\w+)\)", address).groups() for address in self.shown["addresses"])  # type: ignore[union-attr, misc]

    def answers(self, line: str) -> bool:
        return self.guest.run("/bin/sh", "-c", line)[0] == 0


@pytest.fixture(scope="module")
def one(cloud: Lab) -> Iterator[Vm]:
    vm = Vm(cloud, "one")
    yield vm
    vm.guest.close()


@pytest.fixture(scope="module")
def other(cloud: Lab, one: Vm) -> Iterator[Vm]:
    vm = Vm(cloud, "other")
    yield vm
    vm.guest.close()


class Sniffer:
    """What comes from guests to the node's end of the NAT bridge, and to every guest: frames to all."""

    def __init__(self, node: LabNode) -> None:
        self._path = node.host.directory / "frames"
        self._path.write_text("")
        command = (sys.executable, frames.__file__, "--listen", NAT)
        self._daemon: Daemon = node.host.start_daemon(*command, log=self._path)
        until(lambda: "listening" in self._path.read_text(), "the sniffer listens")

    def frames(self) -> list[bytes]:
        return [bytes.fromhex(line) for line in self._lines() if line != "listening"]

    def _lines(self) -> list[str]:
        """Those that are written whole by now."""
        return self._path.read_text().rpartition("\n")[0].splitlines()

    def expect_own_frame(self, vm: Vm) -> None:
        """Returns once a frame of the guest's that is its own has come, and so everything that it sent before."""
        count = len(self.frames())
        until(lambda: vm.answers(f"arping -c 1 -I eth0 {vm.gateway}"), "the gateway answers it")
        mac = frames.mac_bytes(vm.mac)
        until(lambda: any(frame[6:12] == mac for frame in self.frames()[count:]), "the guest's own frame")

    def stop(self) -> None:
        self._daemon.kill()


@pytest.fixture
def sniffer(node: LabNode, other: Vm) -> Iterator[Sniffer]:
    """Both guests have booted by now."""
    found = Sniffer(node)
    yield found
    found.stop()


def test_its_ip_is_confirmed_by_its_lease_and_is_what_it_is_asked_for(cloud: Lab, one: Vm) -> None:
    assert one.confirmed()[one.ip] == "lease"
    assert cloud.schedule(one.uuid).out == f"{one.ip}\n"
    assert one.ip in one.guest.shell("ip -4 address show dev eth0")


def test_its_ipv6_address_is_known_and_confirmed_once_it_has_it(cloud: Lab, one: Vm) -> None:
    """The small guest has no DHCPv6 client: its agent says that it took the address (the lease: tests/contract)."""
    assert one.confirmed()[one.ip6] == "reserved"
    take6(one, one.ip6)
    until(lambda: one.answers(f"ping6 -c 1 -W 1 -I {one.ip6} {one.gateway6}"), "the IPv6 gateway answers")
    until(lambda: one.confirmed()[one.ip6] == "agent", "its agent's word has come to etcd")
    assert cloud.schedule(one.uuid).out == f"{one.ip}\n", "IPv4 comes first"


def test_its_address_on_the_lan_is_found_through_its_agent(one: Vm) -> None:
    until(lambda: len(one.shown["addresses"]) > 2, "its agent tells of the second card")
    (found,) = set(one.confirmed()) - {one.ip, one.ip6}

    assert found.startswith("198.18.9.") and one.confirmed()[found] == "agent"
    assert found in one.guest.shell("ip -4 address show dev eth1")


def test_guests_reach_each_other_and_the_metadata_service(one: Vm, other: Vm) -> None:
    until(lambda: one.answers(f"ping -c 1 -W 1 -I eth0 {other.ip}"), "the other guest answers")
    assert one.uuid in one.guest.shell(fetch("169.254.169.254", "/openstack/latest/meta_data.json"))


def test_nothing_with_a_forged_mac_leaves(node: LabNode, one: Vm, sniffer: Sniffer) -> None:
    try:
        one.guest.shell(
            f"ip link set eth0 down && ip link set eth0 address {STRANGE_MAC} && ip link set eth0 up "
            f"&& ip address replace {one.ip}/24 dev eth0"
        )
        assert not one.answers(f"arping -c 3 -w 3 -I eth0 {one.gateway}")
        assert STRANGE_MAC not in node.host.run("bridge", "fdb", "show", "br", NAT)
    finally:
        one.guest.shell(
            f"ip link set eth0 down; ip link set eth0 address {one.mac}; ip link set eth0 up; "
            f"ip address replace {one.ip}/24 dev eth0; ip route replace default via {one.gateway} dev eth0"
        )
    until(lambda: one.answers(f"ping -c 1 -W 1 -I eth0 {one.gateway}"), "with its own MAC it is heard again")
    assert frames.mac_bytes(STRANGE_MAC) not in {frame[6:12] for frame in sniffer.frames()}


def test_with_anothers_address_a_guest_reaches_nobody_and_no_metadata(one: Vm, other: Vm) -> None:
    ask = fetch("169.254.169.254", "/openstack/latest/meta_data.json")
    one.guest.shell(f"ip address add {other.ip}/32 dev eth0; ip route add 169.254.169.254 dev eth0 src {other.ip}")
    try:
        assert not one.answers(f"ping -c 2 -W 1 -I {other.ip} {one.gateway}")
        assert not one.answers("ping -c 2 -W 1 169.254.169.254")
        assert not one.answers(ask)
    finally:
        one.guest.shell(f"ip route del 169.254.169.254; ip address del {other.ip}/32 dev eth0")
    assert other.uuid in other.guest.shell(ask) and one.uuid in one.guest.shell(ask)


def test_a_guest_that_answers_for_anothers_address_is_not_believed(
    node: LabNode, one: Vm, other: Vm, sniffer: Sniffer
) -> None:
    for forged in (other.ip, one.gateway):
        one.guest.shell(f"ip address add {forged}/32 dev eth0; arping -U -c 2 -I eth0 -s {forged} {forged}; true")
        node.host.run("ip", "neighbour", "flush", "dev", NAT)
        until(lambda: reach(node.host, 22, other.ip) == "answers", "the other guest is still where it was")
        one.guest.shell(f"ip address del {forged}/32 dev eth0")
        assert other.mac in node.host.run("ip", "neighbour", "show", other.ip, "dev", NAT)
    sniffer.expect_own_frame(one)
    told = {arp_sender(frame) for frame in sniffer.frames() if frame[12:14] == b"\x08\x06"}
    assert (one.mac, one.ip) in told
    assert not {(one.mac, other.ip), (one.mac, one.gateway)} & told


def test_a_guest_that_claims_anothers_ipv6_address_is_not_believed(node: LabNode, one: Vm, other: Vm) -> None:
    take6(other, other.ip6)
    until(lambda: other.answers(f"ping6 -c 1 -W 1 -I {other.ip6} {other.gateway6}"), "who owns it is heard")
    take6(one, other.ip6)
    try:
        assert not one.answers(f"ping6 -c 2 -W 1 -I {other.ip6} {other.gateway6}")
        node.host.run("ip", "-6", "neighbour", "flush", "dev", NAT)
        until(lambda: reach(node.host, 22, other.ip6) == "answers", "it is still where it was")
        assert other.mac in node.host.run("ip", "-6", "neighbour", "show", other.ip6, "dev", NAT)
    finally:
        one.guest.shell(f"ip -6 address del {other.ip6}/64 dev eth0")


def test_a_guest_serves_no_dhcp(cloud: Lab, one: Vm, sniffer: Sniffer) -> None:
    first = one.ip.rpartition(".")[0]
    lines = [
        f"start {first}.200",
        f"end {first}.210",
        "interface eth0",
        f"option router {one.ip}",
        "pidfile /run/rogue",
    ]
    one.guest.shell("mkdir -p /var/lib/misc; touch /run/leases")
    one.guest.shell(
        f"printf '%s\\n' {' '.join(repr(line) for line in [*lines, 'lease_file /run/leases'])} >/run/rogue.conf"
    )
    one.guest.shell("udhcpd -S /run/rogue.conf >/dev/null 2>&1 </dev/null &")
    until(lambda: one.answers("test -s /run/rogue"), "its DHCP server runs")
    try:
        third = Vm(cloud, "third")
        assert third.confirmed()[third.ip] == "lease"
        assert one.ip not in third.guest.shell("ip route show default dev eth0")
        third.guest.close()
        assert cloud.schedule("destroy", "third").code == 0
        sniffer.expect_own_frame(one)
        served = {frame[6:12] for frame in sniffer.frames() if is_dhcp_answer(frame)}
        assert served and frames.mac_bytes(one.mac) not in served
    finally:
        one.guest.shell("kill $(cat /run/rogue)")


def test_the_rules_go_with_the_instance(cloud: Lab, node: LabNode, other: Vm) -> None:
    rules = node.host.run("nft", "list", "table", "bridge", f"placet-{NAT}")
    assert port_of(other.mac) in rules and other.ip in rules

    passing = Vm(cloud, "passing")
    assert port_of(passing.mac) in node.host.run("nft", "list", "ruleset")
    passing.guest.close()
    assert cloud.schedule("destroy", "passing").code == 0
    assert port_of(passing.mac) not in node.host.run("nft", "list", "ruleset")


def test_rules_that_were_flushed_come_back_when_the_agent_starts(node: LabNode, one: Vm, other: Vm) -> None:
    node.host.run("nft", "flush", "ruleset")
    node.stop_agent()
    node.start_agent()
    node.wait_ready()

    rules = node.host.run("nft", "list", "table", "bridge", f"placet-{NAT}")
    assert all(port_of(vm.mac) in rules and vm.ip6 in rules for vm in (one, other))


def take6(vm: Vm, address: str) -> None:
    """Have a guest use an IPv6 address, without asking whether somebody has it."""
    vm.guest.shell("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    vm.guest.shell(f"ip -6 address add {address}/64 dev eth0")


def fetch(host: str, path: str) -> str:
    return f"printf 'GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' | timeout 20 nc -w 15 {host} 80"


def arp_sender(frame: bytes) -> tuple[str, str]:
    """The MAC and the IP that an ARP frame says belong together."""
    return frame[22:28].hex(":"), ".".join(map(str, frame[28:32]))


def is_dhcp_answer(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == frames.UDP and frame[36:38] == (68).to_bytes(2, "big")
