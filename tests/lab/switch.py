"""The lab's network: a bridge in namespaces of its own, with a port for each host. etcd and Placement run there too."""

from __future__ import annotations

from pathlib import Path

from tests.lab.namespaces import Namespaces

ADDRESS = "198.18.0.1"
BRIDGE = "switch0"
FIRST_HOST = 10
# in the bridge family nothing but frames is seen, so that ARP is dropped too: a cable that is out, at a port that is up
RULES = """\
table bridge lab {
  set unplugged { type ifname; }
  chain received { type filter hook prerouting priority 0; iifname @unplugged drop; }
  chain sent { type filter hook postrouting priority 0; oifname @unplugged drop; }
}
"""


def address_of(number: int) -> str:
    """A host's address: the first host has number 1."""
    return f"198.18.0.{FIRST_HOST + number}"


class Switch(Namespaces):
    """`attach` gives a host its eth0; what is attached can be unplugged and plugged in again."""

    def __init__(self, directory: Path) -> None:
        super().__init__("switch", directory)
        self._unplugged: set[int] = set()

    def up(self) -> None:
        """Make the bridge, with the switch's own address."""
        super().up()
        self.run("ip", "link", "add", BRIDGE, "type", "bridge")
        self.run("ip", "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        self.run("ip", "link", "set", BRIDGE, "up")
        self.run("nft", RULES)

    def attach(self, host: Namespaces, number: int) -> None:
        """Connect a host: its eth0 has `address_of(number)`."""
        port = _port(number)
        self.run_in_network(
            *("ip", "link", "add", port, "type", "veth"),
            *("peer", "name", "eth0", "netns", str(host.init_pid)),
        )
        self.run("ip", "link", "set", port, "master", BRIDGE, "up")
        host.run("ip", "address", "add", f"{address_of(number)}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")

    def unplug(self, number: int) -> None:
        """From now on every frame from or to this host is lost."""
        if number not in self._unplugged:
            self._change("add", number)
            self._unplugged.add(number)

    def plug(self, number: int) -> None:
        """Undo `unplug`."""
        if number in self._unplugged:
            self._change("delete", number)
            self._unplugged.discard(number)

    def _change(self, verb: str, number: int) -> None:
        self.run("nft", verb, "element", "bridge", "lab", "unplugged", "{", _port(number), "}")


def _port(number: int) -> str:
    return f"port-{number}"
