"""Images that come compressed: unpacked as a stream, and never further than they may grow."""

from __future__ import annotations

import gzip
import io
import lzma
import os
from pathlib import Path

import pytest
import zstandard

from placet.errors import Fault
from placet.images import ImageCache, unpacking
from placet.model import ImageRef
from tests.support.hostile_http import hostile_http
from tests.support.image_files import MIB, PACKERS, boot_sector, cache_at, files_of, limits, qcow2, raw, refusal, sha256

EVERY_KIND = pytest.mark.parametrize("kind", PACKERS)


@pytest.fixture
def cache(tmp_path: Path, images: Path) -> ImageCache:
    return cache_at(tmp_path / "cache", [images])


def packed(path: Path, kind: str, content: bytes) -> Path:
    path.write_bytes(PACKERS[kind](content))
    return path


@EVERY_KIND
def test_a_compressed_image_is_unpacked_whatever_it_is_called(cache: ImageCache, images: Path, kind: str) -> None:
    content = qcow2(images / "plain", data=True).read_bytes()
    source = packed(images / "a.qcow2", kind, content)

    found = cache.fetch(ImageRef(str(source), "qcow2", sha256(source)))

    assert found.path.read_bytes() == content
    assert (found.format, found.size) == ("qcow2", source.stat().st_size)
    assert f"sha256:{found.digest}" == sha256(source), "the digest is that of what was given"


@EVERY_KIND
def test_one_that_comes_by_http_is_too(cache: ImageCache, images: Path, kind: str) -> None:
    content = raw(images / "plain").read_bytes()
    with hostile_http() as web:
        url = web.serve("/a", PACKERS[kind](content), Content_Encoding="gzip", Content_Type="application/gzip")

        assert cache.fetch(ImageRef(url)).path.read_bytes() == content


@EVERY_KIND
def test_stretches_of_zeros_become_holes(cache: ImageCache, images: Path, kind: str) -> None:
    content = boot_sector() + bytes(3 * MIB) + os.urandom(MIB) + bytes(3 * MIB)

    found = cache.fetch(ImageRef(str(packed(images / "a", kind, content))))

    assert found.path.read_bytes() == content
    assert found.path.stat().st_blocks * 512 < 2 * MIB


@EVERY_KIND
def test_several_streams_in_one_file_are_one_image(cache: ImageCache, images: Path, kind: str) -> None:
    content = raw(images / "plain").read_bytes()
    source = images / "a"
    source.write_bytes(PACKERS[kind](content[:1000]) + PACKERS[kind](content[1000:]))

    assert cache.fetch(ImageRef(str(source))).path.read_bytes() == content


@EVERY_KIND
@pytest.mark.parametrize("spoil", ["cut", "cut to its head", "byte behind", "zeros behind", "changed"])
def test_damaged_data_is_refused(cache: ImageCache, images: Path, kind: str, spoil: str) -> None:
    good = PACKERS[kind](boot_sector() + os.urandom(200_000))
    middle = len(good) // 2
    spoiled = {
        "cut": good[:-9],
        "cut to its head": good[:12],
        "byte behind": good + b"x",
        "zeros behind": good + bytes(512),
        "changed": good[:middle] + bytes(10) + good[middle + 10 :],
    }[spoil]
    (images / "a").write_bytes(spoiled)

    fault = refusal(cache, images / "a", format="raw")

    assert fault.code == "image-invalid"
    assert kind in str(fault)


@EVERY_KIND
def test_what_was_packed_twice_is_refused(cache: ImageCache, images: Path, kind: str) -> None:
    content = gzip.compress(raw(images / "plain").read_bytes())

    fault = refusal(cache, packed(images / "a", kind, content))

    assert fault.code == "image-refused"
    assert "gzip data in it" in str(fault)


@EVERY_KIND
def test_what_grows_over_the_limit_is_refused(cache: ImageCache, images: Path, kind: str) -> None:
    source = packed(images / "a", kind, boot_sector() + bytes(9 * MIB))

    assert source.stat().st_size < MIB
    assert refusal(cache, source).code == "image-too-large"


@EVERY_KIND
def test_a_bomb_is_refused_by_how_much_it_grows(tmp_path: Path, images: Path, kind: str) -> None:
    cache = cache_at(tmp_path / "cache", [images], limits(max_bytes=1 << 40, cache_bytes=1 << 41))
    source = packed(images / "a", kind, boot_sector() + bytes(150 * MIB))

    fault = refusal(cache, source)

    assert fault.code == "image-refused"
    assert "times as much" in str(fault)


@EVERY_KIND
def test_a_step_never_takes_more_memory_than_is_said(kind: str) -> None:
    densest = {**PACKERS, "zstd": densest_zstd}[kind](bytes(150 * MIB))
    make = next(make for name, make in unpacking.STREAMS.values() if name == kind)
    stream, file, largest, size = make(), io.BytesIO(densest), 0, 0
    while not stream.eof:
        piece = stream.decompress(file.read(unpacking.STEP_BYTES))
        largest, size = max(largest, len(piece)), size + len(piece)

    assert size == 150 * MIB
    assert largest <= 64 * MIB


def densest_zstd(zeros: bytes) -> bytes:
    """RFC 8878: a frame of blocks that each say "128 KiB of this byte" in four bytes."""
    count, block = len(zeros) // 131072, (131072 << 3) | (1 << 1)
    blocks = [(block | (number == count - 1)).to_bytes(3, "little") + b"\0" for number in range(count)]
    return b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x58" + b"".join(blocks)


def test_data_that_needs_much_memory_is_refused(cache: ImageCache, images: Path) -> None:
    wide = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 * MIB}]
    (images / "a.xz").write_bytes(lzma.compress(boot_sector() * 10, filters=wide))
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (images / "a.zst").write_bytes(writer.compress(boot_sector() * 10) + writer.flush())

    assert refusal(cache, images / "a.xz").code == "image-invalid"
    assert refusal(cache, images / "a.zst").code == "image-invalid"


def test_small_images_may_grow_as_they_like(tmp_path: Path, images: Path) -> None:
    cache = cache_at(tmp_path / "cache", [images], limits(max_bytes=64 * MIB))
    source = packed(images / "a", "zstd", boot_sector() + bytes(60 * MIB))

    assert source.stat().st_size * unpacking.MAX_RATIO < 60 * MIB
    assert cache.fetch(ImageRef(str(source))).virtual_size == 60 * MIB + 512


def test_unpacking_is_over_with_the_images_time(tmp_path: Path, images: Path) -> None:
    source = packed(images / "a", "gzip", boot_sector() + os.urandom(MIB))
    ticks = iter(range(10_000))
    cache = cache_at(tmp_path / "cache", [images], limits(timeout_s=100.0), clock=lambda: float(next(ticks)))
    told: list[str] = []

    with pytest.raises(Fault, match="image_timeout_s") as caught:
        cache.fetch(ImageRef(str(source)), told.append)

    assert caught.value.code == "image-timeout"
    assert told[-1].startswith("image: unpacking ")
    assert files_of(cache) == []
