"""Images of other formats: converted to qcow2 once, within the limits of any image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from placet.errors import Fault
from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.image_files import MIB, cache_at, files_of, limits, made, qcow2, refusal


@pytest.fixture
def cache(tmp_path: Path, images: Path) -> ImageCache:
    return cache_at(tmp_path / "cache", [images], limits(max_bytes=16 * MIB))


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("vmdk", ()),
        ("vmdk", ("-o", "subformat=streamOptimized")),
        ("vdi", ()),
        ("vdi", ("-o", "static=on")),
        ("vpc", ()),
        ("vhdx", ()),
    ],
)
def test_other_formats_are_converted_once(
    cache: ImageCache, images: Path, format: str, options: tuple[str, ...]
) -> None:
    source = images / f"a.{format}"
    if format == "vmdk" and options:
        plain = qcow2(images / "plain", data=True, size="4M")
        subprocess.run(["qemu-img", "convert", "-O", format, *options, str(plain), str(source)], check=True)
    else:
        made(format, source, *options, data=True, size="4M")
    told: list[str] = []

    found = cache.fetch(ImageRef(str(source)), told.append)

    assert (found.format, found.path.suffix) == ("qcow2", ".qcow2")
    assert found.source_format == {"vpc": "vhd"}.get(format, format)
    assert found.size == source.stat().st_size
    assert 4 * MIB <= found.virtual_size < 5 * MIB
    assert "image: converting" in told
    assert found.path.stat().st_mode & 0o777 == 0o644
    assert (found.path.stat().st_uid, found.path.stat().st_gid) == (os.geteuid(), os.getegid())
    subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", format, str(found.path), str(source)], check=True)
    told.clear()
    assert cache.fetch(ImageRef(str(source)), told.append) == found
    assert told == []


def test_a_declared_vmdk_must_be_one(cache: ImageCache, images: Path) -> None:
    source = made("vdi", images / "a", size="1M")

    assert "declared as vmdk, but it is vdi" in str(refusal(cache, source, format="vmdk"))
    assert cache.fetch(ImageRef(str(source), format="vdi")).format == "qcow2"


def test_a_vmdk_that_is_cut_off_is_refused(cache: ImageCache, images: Path) -> None:
    path = made("vmdk", images / "cut", data=True)
    os.truncate(path, 3000)

    assert refusal(cache, path).code in ("image-invalid", "image-refused")


def test_a_conversion_that_grows_over_the_limit_is_ended(tmp_path: Path, images: Path) -> None:
    plain = qcow2(images / "plain", size="4M")
    subprocess.run(["qemu-io", "-c", "write -P 7 0 4M", str(plain)], check=True, capture_output=True)
    small = images / "small.vmdk"
    subprocess.run(["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", plain, small], check=True)
    cache = cache_at(tmp_path / "cache", [images], limits(max_bytes=2 * MIB))

    assert small.stat().st_size < MIB
    assert refusal(cache, small).code == "image-too-large"


def test_a_conversion_is_over_with_the_images_time(tmp_path: Path, images: Path) -> None:
    source = made("vmdk", images / "a.vmdk", size="1M")
    times = {"now": 0.0}
    cache = cache_at(tmp_path / "cache", [images], limits(timeout_s=5.0), clock=lambda: times["now"])

    def tell(words: str) -> None:
        times["now"] += 6.0 if words == "image: converting" else 0.0

    with pytest.raises(Fault, match="image_timeout_s") as caught:
        cache.fetch(ImageRef(str(source)), tell)

    assert caught.value.code == "image-timeout"
    assert files_of(cache) == []
