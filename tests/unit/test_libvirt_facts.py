"""What the libvirt driver makes of what it is told: by libvirt, the CPU, a guest's agent."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import libvirt
import os_traits
import pytest

from placet.drivers.libvirt.capabilities import describe
from placet.drivers.libvirt.errors import translate
from placet.drivers.libvirt.guest_agent import MOST_ADDRESSES, usable
from placet.drivers.libvirt.network_xml import build_network, same_network, subnet6_in
from placet.drivers.libvirt.observation import reserved_addresses, with_agents_word
from placet.drivers.libvirt.reservations import Reservation
from placet.drivers.libvirt.traits import KNOWN_FLAGS, traits_of
from placet.errors import Fault, Refused, Unreachable
from placet.hypervisor import Network, Owner
from placet.model import Nic
from placet.node_records import Address

UUID = "11111111-2222-4333-8444-555555555555"
HOST = f"<host><uuid>{UUID}</uuid><cpu><arch>x86_64</arch></cpu></host>"
OFFER = "<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/>{}</arch></guest>"
KVM = "<domain type='kvm'/>"
BOTH = f"<capabilities>{HOST}{OFFER.format(KVM)}</capabilities>"
QEMU = f"<capabilities>{HOST}{OFFER.format('')}</capabilities>"
OWNER = Owner("the-cloud", "the-node")
NETWORK = Network("placet", "placet0", IPv4Network("198.19.7.0/24"))
NETWORK6 = Network("placet", "placet0", NETWORK.subnet, subnet6=IPv6Network("fd00:0:0:7::/64"))
NAT, BRIDGED = Nic("52:54:00:00:00:01"), Nic("52:54:00:00:00:02", network="bridge")


@pytest.mark.parametrize(
    ("capabilities", "flags", "virt_type"),
    [(BOTH, {"vmx"}, "kvm"), (BOTH, {"svm"}, "kvm"), (BOTH, {"avx"}, "qemu"), (QEMU, {"vmx"}, "qemu")],
)
def test_kvm_is_used_where_the_cpu_has_it_and_libvirt_offers_it(
    capabilities: str, flags: set[str], virt_type: str
) -> None:
    found = describe(capabilities, wanted=None, flags=frozenset(flags))

    assert (found.uuid, found.virt_type) == (UUID, virt_type)


def test_what_is_asked_for_is_used_or_refused() -> None:
    assert describe(BOTH, wanted="qemu", flags=frozenset({"vmx"})).virt_type == "qemu"
    with pytest.raises(Refused, match=r"compute\.yaml"):
        describe(QEMU, wanted="kvm", flags=frozenset({"vmx"}))


def test_every_trait_is_one_of_os_traits() -> None:
    found = traits_of("x86_64", "kvm", KNOWN_FLAGS) | traits_of("x86_64", "qemu", frozenset())

    assert os_traits.check_traits(found) == (found, set())


def test_an_emulated_guest_is_not_promised_the_machines_cpu() -> None:
    assert "HW_CPU_X86_AVX512F" in traits_of("x86_64", "kvm", frozenset({"avx512f"}))
    assert "HW_CPU_X86_AVX512F" not in traits_of("x86_64", "qemu", frozenset({"avx512f"}))


def test_of_an_agents_addresses_only_those_count_that_others_can_reach() -> None:
    told = ["::1", "fe80::1", "2001:db8::7", "127.0.0.1", "169.254.3.4", "not an address", "198.51.100.7", "224.0.0.1"]

    assert usable(told) == ("198.51.100.7", "2001:db8::7")
    assert len(usable([f"198.51.100.{number}" for number in range(200)])) == MOST_ADDRESSES


def test_an_endless_address_of_an_agents_is_not_even_read() -> None:
    assert usable(["1" * 10_000_000, "198.51.100.7"]) == ("198.51.100.7",)


def test_an_agent_can_confirm_a_reserved_address_but_name_no_other_there() -> None:
    reserved = Address("198.19.7.5", NAT.mac)

    confirmed = with_agents_word([reserved], [NAT], {NAT.mac: ("198.19.7.5", "198.19.7.9")})
    assert confirmed == (Address("198.19.7.5", NAT.mac, confirmed_by="agent"),)

    assert with_agents_word([reserved], [NAT], {NAT.mac: ("198.19.7.9",)}) == (reserved,)


def test_an_agent_names_the_addresses_on_the_bridge_of_the_guests_own_nic() -> None:
    told = {BRIDGED.mac: ("198.51.100.7",), "52:54:00:00:00:99": ("198.51.100.8",)}

    assert with_agents_word([], [NAT, BRIDGED], told) == (Address("198.51.100.7", BRIDGED.mac, "bridge", "agent"),)


def test_an_agent_cannot_claim_an_address_of_the_nat_network_on_the_bridge() -> None:
    told = {BRIDGED.mac: ("198.19.7.9", "2001:db8:7::9", "198.51.100.7")}
    nat = (IPv4Network("198.19.7.0/24"), IPv6Network("2001:db8:7::/64"))

    assert with_agents_word([], [BRIDGED], told, nat) == (Address("198.51.100.7", BRIDGED.mac, "bridge", "agent"),)


def test_an_agents_word_confirms_an_ipv6_address_as_well() -> None:
    reserved = reserved_addresses([Reservation(NAT.mac, IPv4Address("198.19.7.5"), IPv6Address("fd00::5"))], ())

    confirmed = with_agents_word(reserved, [NAT], {NAT.mac: ("fd00::5",)})
    assert [(one.ip, one.confirmed_by) for one in confirmed] == [("198.19.7.5", None), ("fd00::5", "agent")]


def test_ipv4_addresses_of_all_nics_come_before_those_of_ipv6() -> None:
    both = [
        Reservation(f"52:54:00:00:00:0{n}", IPv4Address(f"198.19.7.{n}"), IPv6Address(f"fd00::{n}")) for n in (1, 2)
    ]

    found = reserved_addresses(both, {IPv4Address("198.19.7.2"), IPv6Address("fd00::2")})
    assert [one.ip for one in found] == ["198.19.7.1", "198.19.7.2", "fd00::1", "fd00::2"]
    assert [one.confirmed_by for one in found] == [None, "lease", None, "lease"]


def test_a_network_with_ipv6_says_so_again_when_libvirt_shows_it() -> None:
    ours = build_network(OWNER, NETWORK6, Path("/dhcp"))
    as_libvirt_shows_it = ours.replace('ipv6="yes" />', 'ipv6="yes"><port start="1024" end="65535" /></nat>')

    assert as_libvirt_shows_it != ours and same_network(ours, as_libvirt_shows_it)
    assert subnet6_in(as_libvirt_shows_it) == NETWORK6.subnet6
    assert subnet6_in(build_network(OWNER, NETWORK, Path("/dhcp"))) is None


def test_a_network_is_the_same_whatever_libvirt_adds_to_it() -> None:
    ours = build_network(OWNER, NETWORK, Path("/dhcp"))
    as_libvirt_shows_it = ours.replace(
        '<forward mode="nat" />', "<forward mode='nat'><nat/></forward><mac address='x'/>"
    )

    assert as_libvirt_shows_it != ours
    assert same_network(ours, as_libvirt_shows_it)


@pytest.mark.parametrize(
    "other",
    [
        Network("placet", "placet1", NETWORK.subnet),
        Network("placet", "placet0", IPv4Network("198.19.8.0/24")),
        NETWORK6,
    ],
)
def test_a_network_with_another_bridge_or_subnets_is_another(other: Network) -> None:
    assert not same_network(build_network(OWNER, NETWORK, Path("/dhcp")), build_network(OWNER, other, Path("/dhcp")))


class StubError(libvirt.libvirtError):  # type: ignore[misc]  # libvirt ships no types
    """An error as libvirt raises it, without libvirt."""

    def __init__(self, code: int, domain: int, message: str) -> None:
        Exception.__init__(self, message)
        self.err = (code, domain, message, 0, "", "", "", 0, 0)


def test_a_broken_connection_says_where_it_was_and_what_to_start() -> None:
    error = StubError(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, "Cannot recv data: Connection reset by peer")

    found = translate(error, "qemu:///system", "start instance 1")

    assert isinstance(found, Unreachable)
    assert "qemu:///system" in str(found)
    assert "start libvirtd" in str(found)


def test_any_other_error_is_one_line_about_what_was_tried() -> None:
    message = "internal error: process exited while connecting to monitor:\n<xml>\nqemu: could not open disk\n"
    error = StubError(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, message)

    found = translate(error, "qemu:///system", "start instance 1")

    assert isinstance(found, Fault)
    assert found.code == "hypervisor"
    assert str(found).startswith("start instance 1: internal error")
    assert "could not open disk" in str(found)
    assert "\n" not in str(found)
    assert "<xml>" not in str(found)


def test_no_space_left_is_a_full_disk() -> None:
    error = StubError(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_STORAGE, "qemu-img: No space left on device")

    found = translate(error, "qemu:///system", "make its disk")

    assert isinstance(found, Fault)
    assert found.code == "disk-full"
