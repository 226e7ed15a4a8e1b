"""The metadata service on a bridge, in network namespaces: who reaches it by which address, and how far answers go.

A node with a bridge; on it a guest, and behind that guest, which routes and translates for it as a container host
does, something that is a hop away.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from placet.config import BESIDE_SCRIPT
from placet.guest_records import GuestRecords
from placet.metadata import GuestRecord
from placet.model import Nic
from placet.networks import METADATA_ADDRESS, METADATA_ADDRESS6
from placet.node_records import Address
from tests.lab.namespaces import Namespaces, enter_command
from tests.support.md_server import command_line, started_port

NODE_IP, NODE_IP6, GUEST_IP, GUEST_IP6 = "198.18.64.1", "fd00:64::1", "198.18.64.2", "fd00:64::2"
MAC = "52:54:00:12:34:56"
BRIDGE = "md0"
HOSTNAME_PATH = "/latest/meta-data/hostname"
ASK = """\
import http.client, socket, sys
host, port, path, timeout_s, source = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port))
family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
connection.sock = socket.socket(family)
connection.sock.settimeout(float(timeout_s))
try:
    if source:
        connection.sock.bind(socket.getaddrinfo(source, 0, type=socket.SOCK_STREAM)[0][4])
    connection.sock.connect(address)
    connection.request("GET", path)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except OSError as problem:
    print("no answer:", problem)
"""
PLAIN = """\
import http.server
http.server.test(http.server.SimpleHTTPRequestHandler, port=8080, bind="0.0.0.0")
"""
PUT_ADDRESSES = f"""\
from placet.drivers.libvirt.bridge_address import *
put_address({BRIDGE!r}, IPv4Address({str(METADATA_ADDRESS)!r}))
put_link_local({BRIDGE!r}, IPv6Address({str(METADATA_ADDRESS6)!r}))
"""
TRANSLATE = "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; "
TRANSLATE += "add rule ip nat out oifname eth0 masquerade"


class Net:
    """The node, the guest, and what is behind the guest."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.node, self.guest, self.inner = (Namespaces(name, directory / name) for name in ("node", "guest", "inner"))
        for each in (self.node, self.guest, self.inner):
            stack.callback(each.down)
            each.up()
        self.ip(self.node, f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up")
        # as libvirt leaves the bridge of a network that has no IPv6
        self.node.run("sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6")
        self.ip(self.node, f"address add {NODE_IP}/24 dev {BRIDGE}")
        self._join(self.node, "tap0", self.guest, "eth0", MAC)
        self.ip(self.node, f"link set tap0 master {BRIDGE}")
        self.ip(self.guest, f"address add {GUEST_IP}/24 dev eth0")
        self.ip(self.guest, f"-6 address add {GUEST_IP6}/64 dev eth0 nodad", f"route add default via {NODE_IP}")
        self._join(self.guest, "docker0", self.inner, "eth0")
        self.ip(self.guest, "address add 198.18.65.1/24 dev docker0")
        self.ip(self.inner, "address add 198.18.65.2/24 dev eth0", "route add default via 198.18.65.1")
        self.guest.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        self.guest.run("nft", TRANSLATE)

    def put_addresses(self) -> None:
        """As the driver does when it prepares the node."""
        self.node.run("env", f"PYTHONPATH={BESIDE_SCRIPT}", sys.executable, "-c", PUT_ADDRESSES)

    def _join(self, one: Namespaces, one_end: str, other: Namespaces, other_end: str, mac: str | None = None) -> None:
        one.run_in_network(*f"ip link add {one_end} type veth peer name {other_end} netns {other.init_pid}".split())
        self.ip(one, f"link set {one_end} up")
        if mac is not None:
            self.ip(other, f"link set {other_end} address {mac}")
            # its link-local address is good at once: nobody else can have it
            other.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{other_end}/accept_dad")
        self.ip(other, f"link set {other_end} up")

    def ip(self, where: Namespaces, *commands: str) -> None:
        for command in commands:
            where.run("ip", *command.split())


def ask(
    where: Namespaces, host: str, path: str = HOSTNAME_PATH, port: int = 80, timeout_s: float = 30.0, source: str = ""
) -> str:
    return where.run(sys.executable, "-c", ASK, host, str(port), path, str(timeout_s), source).strip()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    directory = tmp_path_factory.mktemp("net")
    with ExitStack() as stack:
        found = Net(directory, stack)
        found.put_addresses()
        found.ip(found.node, f"-6 address add {NODE_IP6}/64 dev {BRIDGE} nodad")
        records = GuestRecords(directory / "records")
        nic, addresses = Nic(MAC), (Address(GUEST_IP, MAC), Address(GUEST_IP6, MAC))
        records.write(GuestRecord("web", "web", "web", "default", "/a", (nic,), 0.0, addresses=addresses))
        log_file = directory / "log"
        command = [*command_line(directory / "records", "--device", BRIDGE), "--until-eof"]
        found.node.start_daemon("env", f"PYTHONPATH={BESIDE_SCRIPT}", *command, log=log_file, piped=True)
        started_port(log_file)
        yield found


def test_a_guest_is_answered_at_the_ipv4_address(net: Net) -> None:
    assert ask(net.guest, "169.254.169.254") == "200 web"


def test_a_guest_is_answered_at_the_ipv6_address_and_known_there_by_its_mac(net: Net) -> None:
    assert ask(net.guest, "fe80::a9fe:a9fe%eth0") == "200 web"


def test_another_link_local_address_is_nobodys(net: Net) -> None:
    net.ip(net.guest, "-6 address add fe80::1234/64 dev eth0 nodad")
    assert ask(net.guest, "fe80::a9fe:a9fe%eth0", source="fe80::1234%eth0").startswith("404")


def test_a_guest_is_known_by_the_address_of_its_record_in_ipv6_too(net: Net) -> None:
    assert ask(net.guest, "fe80::a9fe:a9fe%eth0", source=GUEST_IP6) == "200 web"


def test_no_answer_goes_past_a_router(net: Net) -> None:
    plain = net.node.start_daemon(sys.executable, "-c", PLAIN)
    try:
        tries = (ask(net.inner, NODE_IP, "/none", 8080) for _ in range(50))
        assert any(answer.startswith("404") for answer in tries), "a plain server on the node is reached from there"
        assert ask(net.inner, "169.254.169.254", timeout_s=1.0).startswith("no answer")
    finally:
        plain.kill()


def test_the_addresses_stand_on_the_bridge_once(net: Net) -> None:
    net.put_addresses()
    shown = net.node.run("ip", "-brief", "address", "show", "dev", BRIDGE).split()[2:]
    addresses = [str(ip_address(each.partition("/")[0])) for each in shown]
    assert sorted(addresses)[:2] == ["169.254.169.254", NODE_IP]
    assert addresses.count("fe80::a9fe:a9fe") == 1


def test_a_machine_without_ipv6_is_told_of_once_and_serves_ipv4(net: Net) -> None:
    net.node.run("ip", "link", "add", "md1", "type", "bridge")
    net.node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
    try:
        program = PUT_ADDRESSES.replace(BRIDGE, "md1").replace("from", "from placet.log import *\nfrom", 1)
        program = f"{program.splitlines()[0]}\nstart_logging('info')\n" + "\n".join(program.splitlines()[1:])
        command = ["env", f"PYTHONPATH={BESIDE_SCRIPT}", sys.executable, "-c", program]
        done = subprocess.run(
            [*enter_command(net.node.init_pid), "--", *command], check=True, capture_output=True, text=True
        )
        assert done.stderr.count("no-metadata-address-in-ipv6") == 1
        assert "169.254.169.254" in net.node.run("ip", "-brief", "address", "show", "dev", "md1")
    finally:
        net.node.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
        net.node.run("ip", "link", "del", "md1")
