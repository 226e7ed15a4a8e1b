"""What an operator says of an image, before a node is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from placet.errors import Usage
from placet.image_checks import check_checksum, check_properties, check_source, is_same
from placet.model import ImageRecord

DIGEST = "sha256:" + "ab" * 32
RECORD = ImageRecord("deb12", "https://x.test/a.qcow2", "qcow2", DIGEST, 2**31, 2**28, 256, {"kind": "cloud-init"}, 1.0)


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/a.qcow2?token=1",
        "http://127.0.0.1:8000/a",
        "http://[::1]/a",
        "file:///var/lib/images/a.qcow2",
        "/var/lib/images/a b.qcow2",
        "mini.qcow2",
    ],
)
def test_a_url_or_a_path_is_a_source(source: str) -> None:
    assert check_source(source) == source


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "neither a URL nor a path"),
        ("a\nb", "neither a URL nor a path"),
        ("/" + "x" * 3000, "neither a URL nor a path"),
        ("ftp://example.org/a", "images come by http, https, file"),
        ("docker://a", "images come by"),
        ("https:///a.qcow2", "names no host"),
        ("http://[::1/a", "is no URL"),
    ],
)
def test_what_is_neither_is_refused(source: str, words: str) -> None:
    with pytest.raises(Usage, match=words):
        check_source(source)


def test_a_checksum_may_be_written_as_sha256sum_prints_it() -> None:
    assert check_checksum("AB" * 32) == check_checksum(f"sha256:{'ab' * 32}") == DIGEST


@pytest.mark.parametrize("text", ["", "sha256:", "ab" * 31, "md5:" + "ab" * 32, "ab" * 32 + "\n"])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="64 hex digits"):
        check_checksum(text)


@pytest.mark.parametrize(
    "properties",
    [{}, {"kind": "mini"}, {"deadline_ip": "90", "deadline_ready": "0.5"}, {"config_drive": "none"}, {"os": "debian"}],
)
def test_words_of_the_operators_own_and_those_that_mean_something(properties: dict[str, str]) -> None:
    check_properties(properties)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kind", "cloudinit", "did you mean 'cloud-init'"),
        ("deadline_ip", "soon", "expected seconds"),
        ("deadline_agent", "-1", "expected seconds"),
        ("deadline_ready", "inf", "expected seconds"),
        ("deadline_iip", "60", "did you mean 'deadline_ip'"),
        ("config_drive", "config-2", "expected one of openstack, nocloud, none"),
        ("metadata_tokens", "requird", "did you mean 'required'"),
        ("os", "a\x1b[31m", "not one line of text"),
    ],
)
def test_one_that_means_something_must_make_sense(name: str, value: str, words: str) -> None:
    with pytest.raises(Usage, match=name) as caught:
        check_properties({name: value})
    assert words in str(caught.value)


def test_what_was_not_said_may_be_anything_for_an_image_to_be_the_same() -> None:
    assert is_same(RECORD, RECORD)
    assert is_same(replace(RECORD, checksum=None, format=None, virtual_size=0, size=0, created_at=9.0), RECORD)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "https://x.test/b.qcow2"},
        {"format": "raw"},
        {"checksum": "sha256:" + "cd" * 32},
        {"properties": {}},
        {"min_memory_mb": 0},
    ],
)
def test_what_was_said_otherwise_makes_it_another(change: dict[str, object]) -> None:
    assert not is_same(replace(RECORD, **change), RECORD)  # type: ignore[arg-type]
