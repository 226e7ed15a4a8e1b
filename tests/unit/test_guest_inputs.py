"""What may be given to a guest, and what is told when it may not."""

from __future__ import annotations

import gzip
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import Usage
from placet.guest_inputs import (
    MAX_USER_DATA_BYTES,
    check_files,
    check_guest_path,
    check_hostname,
    encode_user_data,
    flaw_of,
    guest_file,
    parse_files,
    parse_properties,
)
from placet.model import BadRecord, GuestFile, ImageRef, Spec, encode, raw_user_data
from placet.schema import changed
from placet.specs import spec_at
from placet.store import Entry

SPEC = Spec("i", "n", "web", ImageRef("/x"), {}, (), 0.0, "r")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_user_data_comes_back_byte_for_byte(data: bytes) -> None:
    text, encoding = encode_user_data(data)
    assert raw_user_data(changed(SPEC, user_data=text, user_data_encoding=encoding)) == data


def test_text_stays_text_and_what_is_compressed_becomes_base64() -> None:
    assert encode_user_data("#cloud-config\nname: ü\n".encode()) == ("#cloud-config\nname: ü\n", "utf-8")
    assert encode_user_data(gzip.compress(b"x"))[1] == "base64"


def test_user_data_may_have_64_kib_and_no_byte_more() -> None:
    encode_user_data(b"\xff" * MAX_USER_DATA_BYTES)
    with pytest.raises(Usage, match="over 64 KiB; compress it"):
        encode_user_data(b"x" * (MAX_USER_DATA_BYTES + 1))


@pytest.mark.parametrize("word", ["web", "Web-1", "9lives", "web.example.org", "a" * 63, ".".join(["a" * 62] * 4)])
def test_host_names_and_domain_names_are_taken_as_they_are(word: str) -> None:
    assert check_hostname(word) == word


@pytest.mark.parametrize(
    "word", ["", ".", "web.", "-web", "web-", "we b", "wüb", "web_1", "a" * 64, ".".join(["a" * 63] * 4), "198.19.0.5"]
)
def test_what_is_no_host_name_is_refused(word: str) -> None:
    with pytest.raises(Usage, match="is no host name"):
        check_hostname(word)


def test_properties_are_keys_and_values() -> None:
    assert parse_properties(["role=db", "a.b:c-d_E=x=y", "empty="]) == {"role": "db", "a.b:c-d_E": "x=y", "empty": ""}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["role"], "'role' is not KEY=VALUE"),
        (["=x"], "'=x' is not KEY=VALUE"),
        (["a b=x"], "'a b=x' is not KEY=VALUE"),
        (["..=x"], "'..=x' is not KEY=VALUE"),
        ([f"{'k' * 65}=x"], "up to 64"),
        (["a=1", "a=2"], "'a' is given twice"),
        ([f"a={'v' * 256}"], "'a' has 256 characters, over 255"),
        ([f"k{number}=" for number in range(65)], "65 properties are over the 64"),
    ],
)
def test_a_property_that_cannot_be_is_named(words: list[str], text: str) -> None:
    with pytest.raises(Usage) as told:
        parse_properties(words)
    assert text in str(told.value)


def test_a_files_path_is_normalised() -> None:
    assert parse_files(["//etc/./app//x=a=b", "/y=-"]) == {"/etc/app/x": "a=b", "/y": "-"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/etc/motd"], "is not GUESTPATH=LOCAL"),
        (["/etc/motd="], "is not GUESTPATH=LOCAL"),
        (["etc/motd=x"], "absolute and without '..'"),
        (["/etc/../root/x=x"], "absolute and without '..'"),
        (["/etc/=x"], "must be a file's"),
        (["/=x"], "must be a file's"),
        (["/etc/.=x"], "must be a file's"),
        (["/a\nb=x"], "no control characters"),
        ([f"/{'a' * 256}=x"], "too long"),
        (["/etc/x=a", "/etc//x=b"], "/etc/x is given twice"),
        ([f"/f{number}=x" for number in range(17)], "17 files are over the 16"),
    ],
)
def test_a_file_that_cannot_be_is_named(words: list[str], text: str) -> None:
    with pytest.raises(Usage) as told:
        parse_files(words)
    assert text in str(told.value)
    assert "\n" not in str(told.value)


@given(st.text("/.ab ", max_size=12))
def test_a_path_that_is_taken_is_absolute_and_stays_what_it_means(word: str) -> None:
    try:
        path = check_guest_path(word)
    except Usage:
        return
    assert path == "/" + posixpath.normpath(word).lstrip("/")
    assert check_guest_path(path) == path


def test_files_may_have_32_kib_together() -> None:
    half = guest_file("/a", b"\0" * 16 * 1024, 0o644)
    assert len(check_files([half, changed(half, path="/b")])) == 2
    with pytest.raises(Usage, match="files have 32769 bytes, over 32 KiB"):
        check_files([half, changed(half, path="/b"), guest_file("/c", b"x", 0o644)])


def test_of_a_mode_the_permissions_count() -> None:
    assert guest_file("/a", b"", 0o104755).mode == "0755"


def entry(spec: Spec) -> Entry:
    return Entry(f"nodes/{spec.node}/specs/{spec.instance}", encode(spec), 1, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user_data": "?", "user_data_encoding": "base64"}, "user-data or files"),
        ({"files": (GuestFile("/a", "?"),)}, "user-data or files"),
        ({"files": (GuestFile("a", ""),)}, "absolute"),
        ({"files": (GuestFile("/a", "", "0644; reboot"),)}, "mode '0644; reboot' is not as in 0644"),
    ],
)
def test_a_forged_spec_is_a_bad_record_and_no_crash(changes: dict[str, object], words: str) -> None:
    assert spec_at(entry(SPEC)) == SPEC and flaw_of(SPEC) is None
    with pytest.raises(BadRecord) as told:
        spec_at(entry(changed(SPEC, **changes)))
    assert words in str(told.value)
