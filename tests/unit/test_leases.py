"""When a lease proves that a guest has taken its address, and how that is waited for."""

from __future__ import annotations

import json
import queue
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from placet.drivers.libvirt.files import files_of
from placet.drivers.libvirt.lease_watch import WAIT_FOR_MORE_S, LeaseWatch
from placet.drivers.libvirt.leases import Expectation, recall_leases, remember_leases
from placet.drivers.libvirt.network import Lease
from placet.drivers.libvirt.reservations import Ip, Reservation, Reservations
from placet.errors import Fault
from placet.hypervisor import Network

INSTANCE = "11111111-2222-4333-8444-555555555555"
OTHER = "66666666-7777-4888-9999-aaaaaaaaaaaa"
MAC = "52:54:00:00:00:01"
RESERVED = Reservation(MAC, IPv4Address("198.19.7.5"))
LEASE = Lease(MAC, RESERVED.ip, ends_at=1000)
LEASES: dict[Ip, Lease] = {LEASE.ip: LEASE}
IP6 = IPv6Address("fd00:0:0:7::5")
BOTH = Reservation(MAC, RESERVED.ip, IP6)
LEASE6 = Lease(MAC, IP6, ends_at=1000)
NETWORK = Network("placet", "placet0", IPv4Network("198.19.7.0/24"), lease_minutes=7)


def reservations(directory: Path, network: Network = NETWORK) -> Reservations:
    made = Reservations(directory / "dhcp", network, leased=dict)
    made.prepare()
    return made


def test_a_lease_of_a_reserved_address_confirms_it_and_no_other() -> None:
    assert Expectation((BOTH,), old={}).confirmed(LEASES) == {RESERVED.ip}
    assert Expectation((BOTH,), old={}).confirmed({**LEASES, IP6: LEASE6}) == {RESERVED.ip, IP6}


@pytest.mark.parametrize(
    "lease", [Lease(MAC, IPv4Address("198.19.7.6"), 1000), replace(LEASE, mac="52:54:00:00:00:02")]
)
def test_a_lease_of_another_address_or_by_another_mac_confirms_nothing(lease: Lease) -> None:
    assert Expectation((BOTH,), old={}).confirmed({lease.ip: lease}) == frozenset()


def test_a_lease_from_before_the_start_confirms_nothing_until_it_is_renewed(tmp_path: Path) -> None:
    files = files_of(tmp_path, INSTANCE)
    files.directory.mkdir()
    remember_leases(files, (BOTH,), {**LEASES, IP6: LEASE6})
    expected = Expectation((BOTH,), recall_leases(files))

    assert expected.confirmed({**LEASES, IP6: LEASE6}) == frozenset()
    # also when the node's clock was set back meanwhile
    assert expected.confirmed({**LEASES, IP6: replace(LEASE6, ends_at=900)}) == {IP6}


def test_a_first_start_remembers_nothing(tmp_path: Path) -> None:
    files = files_of(tmp_path, INSTANCE)
    files.directory.mkdir()
    files.old_lease.write_text(json.dumps({str(RESERVED.ip): 1000}))

    remember_leases(files, (RESERVED,), {})

    assert recall_leases(files) == {}


class Waited:
    """A watch over one instance, whose leases and time are the test's."""

    def __init__(self, reservation: Reservation) -> None:
        self.leases: dict[Ip, Lease] = {}
        self.now = 0.0
        self.called = queue.Queue[str]()
        self._looks = queue.Queue[None]()
        self.watch = LeaseWatch(
            self._look, lambda _instance: Expectation((reservation,), {}), self.called.put, lambda: self.now
        )

    def _look(self) -> dict[Ip, Lease]:
        self._looks.put(None)
        return dict(self.leases)

    def look(self, times: int = 2) -> None:
        """Returns once it has looked so often, from now on."""
        while not self._looks.empty():
            self._looks.get()
        for _ in range(times):
            self._looks.get(timeout=60)

    def rests(self) -> bool:
        """Whether nobody looks any more, once it waits for nothing."""
        deadline = time.monotonic() + 60
        while self.watch.waiting():
            assert time.monotonic() < deadline, "it waits on"
            time.sleep(0.001)
        while not self._looks.empty():
            self._looks.get()
        try:
            self._looks.get(timeout=0.2)
        except queue.Empty:
            return True
        return False


def test_waiting_ends_with_one_call_and_then_nobody_looks() -> None:
    waited = Waited(RESERVED)
    waited.watch.wait_for(INSTANCE)
    waited.look()
    assert waited.called.empty()

    waited.leases[LEASE.ip] = LEASE
    assert waited.called.get(timeout=60) == INSTANCE
    assert waited.rests() and waited.called.empty()
    waited.watch.close()


def test_the_ipv4_address_is_called_out_before_the_other_is_there() -> None:
    waited = Waited(BOTH)
    waited.leases[LEASE.ip] = LEASE
    waited.watch.wait_for(INSTANCE)
    assert waited.called.get(timeout=60) == INSTANCE
    assert waited.watch.waiting() == {INSTANCE}

    waited.leases[IP6] = LEASE6
    assert waited.called.get(timeout=60) == INSTANCE
    assert waited.rests()
    waited.watch.close()


def test_an_ipv6_address_that_is_never_taken_is_not_waited_for_for_ever() -> None:
    waited = Waited(BOTH)
    waited.leases[LEASE.ip] = LEASE
    waited.watch.wait_for(INSTANCE)
    assert waited.called.get(timeout=60) == INSTANCE

    waited.now += WAIT_FOR_MORE_S + 1
    waited.look(times=1)
    assert waited.rests() and waited.called.empty()
    waited.watch.close()


def test_one_that_stops_is_no_longer_waited_for() -> None:
    watch = LeaseWatch(dict, lambda _instance: Expectation((RESERVED,), {}), lambda _instance: None)
    watch.wait_for(INSTANCE)

    watch.forget(INSTANCE)

    assert watch.waiting() == frozenset()
    watch.close()


def test_a_reservation_is_a_line_that_dnsmasq_reads(tmp_path: Path) -> None:
    made = reservations(tmp_path)

    made.reserve(INSTANCE, (MAC,))

    (reserved,) = made.of(INSTANCE)
    file = tmp_path / "dhcp" / INSTANCE
    assert file.read_text() == f"{MAC},{reserved.ip},7m\n"
    assert file.stat().st_mode & 0o777 == 0o644


def test_where_there_is_ipv6_the_host_part_is_the_last_octet_of_the_ipv4_address(tmp_path: Path) -> None:
    made = reservations(tmp_path, replace(NETWORK, subnet6=IPv6Network("fd00:0:0:7::/64")))

    made.reserve(INSTANCE, (MAC,))

    (reserved,) = made.of(INSTANCE)
    assert reserved.ip6 == IPv6Address("fd00:0:0:7::") + reserved.ip.packed[-1]
    assert (tmp_path / "dhcp" / INSTANCE).read_text() == f"{MAC},{reserved.ip},[{reserved.ip6}],7m\n"


def test_one_that_was_reserved_before_there_was_ipv6_keeps_its_address_and_gets_another(tmp_path: Path) -> None:
    made = reservations(tmp_path)
    made.reserve(INSTANCE, (MAC,))
    (before,) = made.of(INSTANCE)

    made.subnet6 = IPv6Network("fd00:0:0:7::/64")
    made.reserve(INSTANCE, (MAC,))

    (after,) = made.of(INSTANCE)
    assert after.ip == before.ip and before.ip6 is None and after.ip6 is not None


def test_a_reservation_stays_until_it_is_released(tmp_path: Path) -> None:
    made = reservations(tmp_path)
    made.reserve(INSTANCE, (MAC,))
    before = made.of(INSTANCE)

    made.reserve(INSTANCE, (MAC,))
    assert made.of(INSTANCE) == before

    assert made.release(INSTANCE)
    assert not made.release(INSTANCE)
    assert made.of(INSTANCE) == ()


def test_a_mac_is_one_instances_only(tmp_path: Path) -> None:
    made = reservations(tmp_path)
    made.reserve(INSTANCE, (MAC,))

    with pytest.raises(Fault, match=MAC) as caught:
        made.reserve(OTHER, (MAC,))

    assert caught.value.code == "mac-taken"
