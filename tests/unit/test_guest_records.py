"""The files through which the agent tells the metadata service of its guests."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from placet.guest_records import GuestRecords, GuestsByAddress
from placet.metadata import GuestRecord
from placet.model import Nic
from placet.networks import link_local_of
from placet.node_records import Address, Published
from placet.record_files import Changes
from placet.schema import changed


def mac(instance: str) -> str:
    return f"52:54:00:00:00:{ord(instance):02x}"


def guest(instance: str, *ips: str, name: str = "web") -> GuestRecord:
    return GuestRecord(
        instance=instance,
        name=name,
        hostname=name,
        project="default",
        image="/a",
        nics=(Nic(mac(instance)),),
        created_at=0.0,
        addresses=tuple(Address(ip, mac(instance)) for ip in ips),
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture
def records(directory: Path) -> GuestRecords:
    return GuestRecords(directory)


def find(directory: Path, ip: str) -> GuestRecord | None:
    return GuestsByAddress(directory).find(ip, time.time_ns())


def test_records_are_for_root_alone(directory: Path, records: GuestRecords) -> None:
    before = os.umask(0)
    try:
        records.write(guest("a", "10.0.0.1"))
    finally:
        os.umask(before)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]


def test_a_guest_is_found_by_each_of_its_addresses(directory: Path, records: GuestRecords) -> None:
    records.write(guest("a", "10.0.0.1", "fd00::1"))

    assert find(directory, "10.0.0.1") == find(directory, "fd00::1") == guest("a", "10.0.0.1", "fd00::1")
    assert find(directory, "10.0.0.2") is None


def test_a_guest_is_found_by_the_link_local_address_of_its_mac(directory: Path, records: GuestRecords) -> None:
    record = changed(guest("a"), nics=(Nic("52:54:00:12:34:56"), Nic("52:54:00:12:34:57", "bridge")))
    records.write(record)

    assert find(directory, "fe80::5054:ff:fe12:3456") == record
    assert find(directory, "fe80::5054:ff:fe12:3457") is None, "its card on another network is no proof here"


@pytest.mark.parametrize("bad", ["", "52:54:00:12:34", "52:54:00:12:34:5g", "52:54:00:12:34:56:78"])
def test_what_is_no_mac_makes_no_address(bad: str) -> None:
    with pytest.raises(ValueError):
        link_local_of(bad)


def test_however_an_address_is_spelled_it_is_the_same(directory: Path, records: GuestRecords) -> None:
    records.write(guest("a", "FD00:0::0001"))

    assert find(directory, "fd00::1") is not None


def test_a_record_with_an_address_that_is_none_harms_no_other(directory: Path, records: GuestRecords) -> None:
    records.write(guest("a", "10.0.0.256"))
    records.write(guest("b", "10.0.0.2"))
    reader = GuestsByAddress(directory)

    assert reader.find("10.0.0.2", time.time_ns()) is not None
    assert "10.0.0.256" in reader.problems[0]


def test_a_reader_sees_each_change_at_once(directory: Path, records: GuestRecords) -> None:
    reader = GuestsByAddress(directory)
    for round_number in range(50):
        records.write(guest("a", "10.0.0.1", name=f"name-{round_number}"))
        found = reader.find("10.0.0.1", time.time_ns())
        assert found is not None
        assert found.name == f"name-{round_number}"
        records.remove("a")
        assert reader.find("10.0.0.1", time.time_ns()) is None


def test_what_has_settled_is_not_read_again(directory: Path, records: GuestRecords) -> None:
    records.write(guest("a", "10.0.0.1"))
    reader = GuestsByAddress(directory)
    later = time.time_ns() + 10 * Changes.SETTLED_NS

    assert reader.find("10.0.0.1", later) is reader.find("10.0.0.1", later)


def test_an_address_in_two_records_is_nobodys(directory: Path, records: GuestRecords) -> None:
    reader = GuestsByAddress(directory)
    records.write(guest("a", "10.0.0.1"))
    records.write(guest("b", "10.0.0.1", "10.0.0.2"))

    assert reader.find("10.0.0.1", time.time_ns()) is None
    assert "10.0.0.1" in reader.problems[0]
    found = reader.find("10.0.0.2", time.time_ns())
    assert found is not None
    assert found.instance == "b"


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 2}', b"[]", bytes(300_000)])
def test_a_file_that_is_no_record_harms_no_other(directory: Path, records: GuestRecords, content: bytes) -> None:
    (directory / "bad.json").write_bytes(content)
    records.write(guest("a", "10.0.0.1"))
    reader = GuestsByAddress(directory)

    assert reader.find("10.0.0.1", time.time_ns()) is not None
    assert "bad.json" in reader.problems[0]


def test_instances_lists_those_with_a_record(records: GuestRecords) -> None:
    records.write(guest("a"))
    records.write(guest("b"))
    records.remove("b")
    records.remove("never-was")

    assert records.instances() == {"a"}


def test_without_the_directory_nobody_is_found(tmp_path: Path) -> None:
    assert find(tmp_path / "none", "10.0.0.1") is None


def test_what_a_guest_published_goes_with_its_record(records: GuestRecords) -> None:
    records.write(guest("a"))
    records.published.write(Published("a", 1.0))
    records.remove("a")

    assert records.published.instances() == frozenset()
    assert records.published.read("a") is None


def test_published_files_are_for_root_alone_and_beside_the_records(directory: Path, records: GuestRecords) -> None:
    records.published.write(Published("a", 1.0, data={"a": "b"}))

    beside = directory.parent / "published"
    assert beside.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in beside.iterdir()] == [0o600]
    assert records.published.read("a") == Published("a", 1.0, data={"a": "b"})


def test_changes_names_each_once_and_all_there_is_at_first(records: GuestRecords) -> None:
    def changed() -> dict[str, bool]:
        later = time.time_ns() + 10 * Changes.SETTLED_NS
        return {path.stem: is_there for path, is_there in changes.look(later).items()}

    changes = Changes(records.published.directory)
    records.published.write(Published("a", 1.0))
    records.published.write(Published("b", 1.0))

    assert changed() == {"a": True, "b": True}
    assert changed() == {}

    records.published.write(Published("b", 2.0))
    records.published.remove("a")
    assert changed() == {"a": False, "b": True}


def test_a_published_file_that_is_no_record_is_as_none(directory: Path, records: GuestRecords) -> None:
    (directory.parent / "published" / "a.json").write_bytes(b"{")

    assert records.published.read("a") is None
