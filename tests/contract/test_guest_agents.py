"""Guests whose agent is no friend: silence, noise, endless and bottomless answers, lies. A real guest under libvirt.

Not here: libvirt 9.0 itself dies of an answer that is nested some 300,000 deep (docs/architecture.md); how a
node goes on when libvirtd has died is in tests/faults.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from placet.drivers.libvirt import LibvirtDriver
from placet.drivers.libvirt.guest_agent import MOST_ADDRESSES, Told, ask_addresses
from placet.hypervisor import Network
from placet.lifecycle import Power
from placet.model import Spec
from placet.networks import mac_of
from placet.node_records import Address
from tests.contract.rigs import Changes, LibvirtRig, eventually, new_spec
from tests.support.guest import Guest

SCRIPT = Path(__file__).parents[1] / "support" / "hostile_agent.sh"
STRANGE_MAC = "52:54:00:99:99:99"
ON_THE_LAN = [f"198.51.100.{number}" for number in range(1, 200)]


@dataclass
class Liar:
    """A guest whose agent has been replaced by tests/support/hostile_agent.sh."""

    driver: LibvirtDriver
    spec: Spec
    domain: Any
    ip: str

    @property
    def macs(self) -> set[str]:
        return {self.spec.nics[0].mac, mac_of(self.spec.instance, nic=1)}

    def be(self, mode: str) -> None:
        """What it shall do with the next question. Its channel may have been closed by what it did before."""

        def is_told() -> bool:
            try:
                libvirt_qemu.qemuAgentCommand(self.domain, json.dumps({"execute": mode}), 5, 0)
            except libvirt.libvirtError:
                return False
            return True

        eventually(is_told)

    def answer(self) -> Told:
        """What it says of its addresses: asked for until it comes in time, as on a busy machine the guest is slow."""
        found: list[Told] = []

        def is_answered() -> bool:
            told = ask_addresses(self.domain, self.macs)
            found.extend([told] if told is not None else [])
            return bool(found)

        eventually(is_answered)
        return found[0]

    def addresses(self) -> tuple[Address, ...]:
        return self.driver.observe(self.spec.instance).addresses


def interface(name: str, mac: str, *ips: str) -> dict[str, Any]:
    """As qemu-ga tells of one."""
    addresses = [
        {"ip-address": ip, "ip-address-type": "ipv6" if ":" in ip else "ipv4", "prefix": 64 if ":" in ip else 24}
        for ip in ips
    ]
    return {"name": name, "hardware-address": mac, "ip-addresses": addresses}


def lies_of(spec: Spec) -> str:
    """Addresses of others on its own cards, cards of others, too many, unusable ones; one is true."""
    own, bridged = spec.nics[0].mac, mac_of(spec.instance, nic=1)
    return json.dumps(
        {
            "return": [
                interface("lo", "00:00:00:00:00:00", "127.0.0.1", "::1"),
                interface("eth0", own, "198.19.123.1", "198.19.123.77", "fd00:0:0:7b::77", "8.8.8.8"),
                interface(
                    "eth1", bridged, "198.19.123.78", "fd00:0:0:7b::78", "169.254.169.254", "fe80::1", *ON_THE_LAN
                ),
                interface("evil", STRANGE_MAC, "198.19.123.79"),
            ]
        }
    )


@pytest.fixture(scope="module")
def liar(libvirt_session: LibvirtRig) -> Iterator[Liar]:
    rig, spec = libvirt_session, new_spec()
    rig.host.run("ip", "link", "add", "br-lies", "type", "bridge")
    rig.host.run("ip", "link", "set", "br-lies", "up")
    network = Network("lies", "lies0", IPv4Network("198.19.123.0/24"), subnet6=IPv6Network("fd00:0:0:7b::/64"))
    driver = rig.make(network, second_bridge="br-lies")
    driver.prepare()
    driver.create_disk(spec, rig.bootable)
    driver.define(spec)
    changes = Changes()
    driver.subscribe(changes.add)
    driver.start(spec.instance)
    changes.lead_to(lambda: driver.observe(spec.instance).agent)
    replace_agent(rig, spec)
    with rig.connected() as libvirtd:
        domain = libvirtd.lookupByUUIDString(spec.instance)
        changes.lead_to(lambda: driver.observe(spec.instance).addresses[0].confirmed_by == "lease")
        yield Liar(driver, spec, domain, driver.observe(spec.instance).addresses[0].ip)
    rig.clear()


def replace_agent(rig: LibvirtRig, spec: Spec) -> None:
    guest = Guest(rig.host.uri, spec.instance)
    for path, text in (("/run/agent", SCRIPT.read_text()), ("/run/lies", lies_of(spec) + "\n")):
        guest.shell(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}")
    guest.shell("setsid sh /run/agent /run/lies >/dev/null 2>&1 &")
    guest.close()


@pytest.mark.parametrize("mode", ["silent", "deaf", "noise", "long", "deep", "bottomless"])
def test_what_is_no_answer_is_none_and_hides_no_address(liar: Liar, mode: str) -> None:
    liar.be(mode)
    assert ask_addresses(liar.domain, liar.macs) is None

    first, second = liar.addresses()
    assert (first.ip, first.confirmed_by, second.confirmed_by) == (liar.ip, "lease", None)
    assert liar.driver.observe(liar.spec.instance).power is Power.RUNNING


def test_of_lies_only_usable_addresses_of_its_own_cards_are_taken_and_not_many(liar: Liar) -> None:
    liar.be("lies")
    told = liar.answer()

    assert set(told) == liar.macs
    assert all(len(ips) <= MOST_ADDRESSES for ips in told.values())
    assert not {"127.0.0.1", "169.254.169.254", "fe80::1", "198.19.123.79"} & {
        ip for ips in told.values() for ip in ips
    }


def test_only_addresses_of_the_assigned_network_are_shown_and_on_the_bridge_none_of_the_clouds(liar: Liar) -> None:
    liar.be("reopen")  # the driver asks one that comes back soon, though it was silent for long
    liar.be("lies")
    eventually(lambda: len(liar.addresses()) > 2)
    nat = [one for one in liar.addresses() if one.network == "default"]
    bridged = [one for one in liar.addresses() if one.network == "bridge"]
    assert [(one.ip, one.confirmed_by) for one in nat] == [(liar.ip, "lease"), (nat[1].ip, None)]
    assert {one.mac for one in bridged} == {mac_of(liar.spec.instance, nic=1)}
    assert {one.ip for one in bridged} <= set(ON_THE_LAN)
