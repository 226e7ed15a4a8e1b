"""Whatever the bytes are: an image is taken or refused with a Fault, and nothing of a refused one is left."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placet.errors import Fault
from placet.images import inspection, unpacking
from placet.images.transfer import Journey, Limits, shown
from placet.model import ImageRef
from tests.support.hostile_http import Web, hostile_http
from tests.support.image_files import MIB, PACKERS, boot_sector, cache_at, files_of, limits, made, raw, vmdk

FUZZ = settings(max_examples=200, deadline=None)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as found:
        yield Path(found)


@pytest.fixture(scope="module")
def starts(directory: Path) -> list[bytes]:
    """How good images of every format begin."""
    formats = ("qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed", "qcow")
    files = [made(format, directory / format, size="4M") for format in formats]
    files += [raw(directory / "raw"), vmdk(directory / "descriptor", 'createType="monolithicFlat"\nRW 1 FLAT "x" 0\n')]
    heads = [file.read_bytes()[: 3 * MIB] for file in files]
    return [*heads, b"LUKS\xba\xbe" + bytes(1000), bytes(32768) + b"\x01CD001" + bytes(2048), boot_sector()]


changes = st.lists(
    st.tuples(st.integers(0, 600) | st.integers(0, 4096) | st.integers(0, 3 * MIB), st.binary(max_size=16)), max_size=6
)


def spoiled(content: bytes, places: list[tuple[int, bytes]], kept: int) -> bytes:
    data = bytearray(content)
    for at, piece in places:
        data[at : at + len(piece)] = piece
    return bytes(data[:kept])


def is_taken_or_refused(path: Path, declared: str | None) -> None:
    try:
        found = inspection.examine(path, "i", declared)
    except Fault as fault:
        assert fault.code in ("image-invalid", "image-refused")
        assert "\n" not in str(fault)
    else:
        assert found.format in (*inspection.TAKEN, *inspection.CONVERTED)
        assert declared in (None, found.format)
        assert not found.bare or declared == "raw"


declarations = st.sampled_from([*[None] * 10, "raw", "qcow2", "vmdk", "iso"])
lengths = st.just(3 * MIB) | st.just(3 * MIB) | st.integers(0, MIB)


@FUZZ
@given(content=st.binary(max_size=2000), declared=declarations)
def test_arbitrary_bytes(directory: Path, content: bytes, declared: str | None) -> None:
    (directory / "x").write_bytes(content)

    is_taken_or_refused(directory / "x", declared)


@FUZZ
@given(data=st.data(), places=changes, kept=lengths, declared=declarations)
def test_spoiled_images(
    directory: Path,
    starts: list[bytes],
    data: st.DataObject,
    places: list[tuple[int, bytes]],
    kept: int,
    declared: str | None,
) -> None:
    start = data.draw(st.integers(0, len(starts) - 1))
    (directory / "x").write_bytes(spoiled(starts[start], places, kept))

    is_taken_or_refused(directory / "x", declared)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), places=changes, kept=lengths, declared=declarations)
def test_spoiled_images_on_their_whole_way(
    directory: Path,
    starts: list[bytes],
    data: st.DataObject,
    places: list[tuple[int, bytes]],
    kept: int,
    declared: str | None,
) -> None:
    """As QEMU's tools get them too, when inspection lets them pass."""
    start = data.draw(st.integers(0, len(starts) - 1))
    (directory / "x").write_bytes(spoiled(starts[start], places, kept))
    with tempfile.TemporaryDirectory() as empty:
        cache = cache_at(Path(empty), [directory])
        try:
            found = cache.fetch(ImageRef(str(directory / "x"), declared))
        except Fault:
            assert files_of(cache) == []
        else:
            assert found.format in inspection.TAKEN
            assert inspection.examine(found.path, "i", found.format).virtual_size == found.virtual_size


@FUZZ
@given(
    kind=st.sampled_from(sorted(PACKERS)),
    content=st.binary(max_size=3000),
    places=st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=8)), max_size=4),
    behind=st.binary(max_size=50),
    kept=st.integers(0, 4000),
)
def test_spoiled_compressed_data(
    directory: Path, kind: str, content: bytes, places: list[tuple[int, bytes]], behind: bytes, kept: int
) -> None:
    good = PACKERS[kind](content)
    (directory / "x").write_bytes(spoiled(good, places, kept) + behind)
    target = io.BytesIO()
    journey = Journey("i", Limits(max_bytes=MIB), lambda _words: None, time.monotonic)
    try:
        unpacking.unpack(directory / "x", target, journey)
    except Fault as fault:
        assert fault.code in ("image-invalid", "image-refused", "image-too-large")
        assert "\n" not in str(fault)
    else:
        assert target.getbuffer().nbytes <= MIB


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with hostile_http() as found:
        yield found


@FUZZ
@given(
    answered=st.binary(max_size=300)
    | st.builds(
        lambda head, lines, body: head + b"\r\n".join([*lines, b"", b""]) + body,
        st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 206 \r\n", b"HTTP/1.1 302 Found\r\n", b"HTTP/9 304\r\n"]),
        st.lists(
            st.sampled_from([b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Location: //", b"Content-Range: x"])
            | st.binary(max_size=30),
            max_size=4,
        ),
        st.binary(max_size=30),
    )
)
def test_arbitrary_answers(directory: Path, web: Web, answered: bytes) -> None:
    web.pages["/x"] = lambda _asked, send: send(answered)
    with tempfile.TemporaryDirectory() as empty:
        cache = cache_at(Path(empty), limited=limits(timeout_s=5.0))
        with pytest.raises(Fault):
            cache.fetch(ImageRef(f"{web.url}/x"))
        assert files_of(cache) == []


@FUZZ
@given(source=st.text(max_size=30) | st.builds("{}://{}".format, st.sampled_from(["http", "HTTPS", "file"]), st.text()))
def test_arbitrary_sources(directory: Path, source: str) -> None:
    assert shown(source).isprintable()
    with tempfile.TemporaryDirectory() as empty:
        cache = cache_at(Path(empty), [directory / "none"], hosts=["listed.invalid"])
        with pytest.raises(Fault) as caught:
            cache.fetch(ImageRef(source))
        assert "\n" not in str(caught.value)
        assert files_of(cache) == []
