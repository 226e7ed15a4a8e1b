"""When a lease proves that a guest has taken its address, and how that is waited for."""

from __future__ import annotations

import json
import queue
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from placet.drivers.libvirt.files import files_of
from placet.drivers.libvirt.leases import Expectation, LeaseWatch, recall_leases, remember_leases
from placet.drivers.libvirt.network import Lease
from placet.drivers.libvirt.reservations import Reservation, Reservations
from placet.errors import Fault
from placet.hypervisor import Network

INSTANCE = "11111111-2222-4333-8444-555555555555"
OTHER = "66666666-7777-4888-9999-aaaaaaaaaaaa"
MAC = "52:54:00:00:00:01"
RESERVED = Reservation(MAC, IPv4Address("198.19.7.5"))
LEASE = Lease(MAC, RESERVED.ip, ends_at=1000)
NETWORK = Network("placet", "placet0", IPv4Network("198.19.7.0/24"), lease_minutes=7)


def reservations(directory: Path) -> Reservations:
    made = Reservations(directory / "dhcp", NETWORK, leased=dict)
    made.prepare()
    return made


def test_a_lease_of_the_reserved_address_confirms_it() -> None:
    assert Expectation((RESERVED,), old={}).confirmed({MAC: LEASE}) == {MAC}


def test_a_lease_of_another_address_confirms_nothing() -> None:
    other = Lease(MAC, IPv4Address("198.19.7.6"), ends_at=1000)

    assert Expectation((RESERVED,), old={}).confirmed({MAC: other}) == frozenset()


def test_a_lease_from_before_the_start_confirms_nothing_until_it_is_renewed(tmp_path: Path) -> None:
    files = files_of(tmp_path, INSTANCE)
    files.directory.mkdir()
    remember_leases(files, (RESERVED,), {MAC: LEASE})
    expected = Expectation((RESERVED,), recall_leases(files))

    assert expected.confirmed({MAC: LEASE}) == frozenset()
    # also when the node's clock was set back meanwhile
    assert expected.confirmed({MAC: Lease(MAC, RESERVED.ip, ends_at=900)}) == {MAC}


def test_a_first_start_remembers_nothing(tmp_path: Path) -> None:
    files = files_of(tmp_path, INSTANCE)
    files.directory.mkdir()
    files.old_lease.write_text(json.dumps({MAC: 1000}))

    remember_leases(files, (RESERVED,), {})

    assert recall_leases(files) == {}


def test_waiting_ends_with_one_call_and_then_nobody_looks() -> None:
    looks, called, leases = queue.Queue[None](), queue.Queue[str](), dict[str, Lease]()

    def look() -> dict[str, Lease]:
        looks.put(None)
        return leases

    watch = LeaseWatch(look, lambda _instance: Expectation((RESERVED,), {}), called.put)
    watch.wait_for(INSTANCE)
    for _ in range(3):
        looks.get(timeout=5)
    assert called.empty()

    leases[MAC] = LEASE
    assert called.get(timeout=5) == INSTANCE
    assert watch.waiting() == frozenset()
    while not looks.empty():
        looks.get()
    with pytest.raises(queue.Empty):
        looks.get(timeout=0.2)
    watch.close()


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
