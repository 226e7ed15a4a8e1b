"""The image cache and images on the node itself, good ones and such as were made to deceive it."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from placet.errors import Fault
from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.image_files import MIB, qcow2, raw, refusal, sha256


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The one directory below which the node's images lie."""
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def cache(tmp_path: Path, images: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache", [images], max_bytes=8 * MIB, timeout_s=10)


def test_a_local_qcow2_is_copied_once_and_stays_when_its_source_goes(cache: ImageCache, images: Path) -> None:
    source = qcow2(images / "a.qcow2", data=True)

    first, second = cache.fetch(ImageRef(str(source))), cache.fetch(ImageRef(str(source)))

    assert first == second
    assert (first.format, first.virtual_size) == ("qcow2", 64 * MIB)
    assert first.path.read_bytes() == source.read_bytes()
    assert first.path.stat().st_mode & 0o777 == 0o644
    source.unlink()
    assert first.path.exists()


def test_a_raw_disk_is_taken_and_its_holes_stay_holes(cache: ImageCache, images: Path) -> None:
    found = cache.fetch(ImageRef(str(raw(images / "a.img", 6 * MIB)), format="raw"))

    assert (found.format, found.virtual_size) == ("raw", 6 * MIB)
    assert found.path.stat().st_blocks * 512 < MIB


def test_a_local_image_that_changed_is_brought_again_and_the_old_one_kept(cache: ImageCache, images: Path) -> None:
    source = raw(images / "a.img")
    old = cache.fetch(ImageRef(str(source)))

    new = cache.fetch(ImageRef(str(raw(source, 2 * MIB))))

    assert new.path != old.path
    assert (old.path.stat().st_size, new.virtual_size) == (MIB, 2 * MIB)


def test_a_new_process_finds_what_the_old_one_brought_and_removes_what_it_left_over(
    tmp_path: Path, images: Path
) -> None:
    source = qcow2(images / "a.qcow2")
    before = ImageCache(tmp_path / "cache", [images], 8 * MIB, 10).fetch(ImageRef(str(source)))
    (tmp_path / "cache" / "tmp123.part").write_bytes(b"half")

    after = ImageCache(tmp_path / "cache", [images], 8 * MIB, 10).fetch(ImageRef(str(source)))

    assert after == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [before.path.name]


@pytest.mark.parametrize("path", ["/etc/hostname", "/nowhere/a.qcow2", "{images}/../cache/a.qcow2", "{images}/link"])
def test_a_path_that_leads_out_of_image_dirs_is_refused_there_or_not(
    cache: ImageCache, images: Path, path: str
) -> None:
    (images / "link").symlink_to("/etc/hostname")

    fault = refusal(cache, path.format(images=images))

    assert fault.code == "image-refused"
    assert "below image_dirs" in str(fault)


@pytest.mark.parametrize("source", ["ftp://host/a.qcow2", "file:///etc/passwd"])
def test_what_is_neither_path_nor_http_url_is_refused(cache: ImageCache, source: str) -> None:
    assert refusal(cache, source).code == "image-refused"


def test_a_relative_path_is_looked_for_in_the_nodes_own_image_dirs(cache: ImageCache, images: Path) -> None:
    qcow2(images / "a.qcow2")
    assert refusal(cache, "b.qcow2").code == "image-not-found"
    assert refusal(cache, "../a.qcow2").code == "image-refused"
    assert cache.fetch(ImageRef("a.qcow2")).format == "qcow2"


def test_a_missing_file_and_a_directory_are_named(cache: ImageCache, images: Path) -> None:
    assert refusal(cache, images / "none.qcow2").code == "image-not-found"
    assert refusal(cache, images).code == "image-invalid"


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (b"", "an empty file"),
        (b"hello\nworld\n" * 100, "text"),
        (b"  <!DOCTYPE html><html><body>Log in</body></html>", "an HTML page"),
        (b"\x1f\x8b\x08" + bytes(600), "gzip-compressed"),
        (bytes(4096), "without a partition table"),
    ],
)
def test_what_is_no_image_is_told_by_its_looks(cache: ImageCache, images: Path, content: bytes, look: str) -> None:
    (images / "a.qcow2").write_bytes(content)

    fault = refusal(cache, images / "a.qcow2")

    assert fault.code == "image-invalid"
    assert look in str(fault)


def test_a_backing_file_is_refused(cache: ImageCache, images: Path) -> None:
    qcow2(images / "bad.qcow2", "-b", "/etc/shadow", "-F", "raw", "-u")

    fault = refusal(cache, images / "bad.qcow2")

    assert fault.code == "image-refused"
    assert "backing file" in str(fault)


def test_an_external_data_file_is_refused(cache: ImageCache, images: Path, tmp_path: Path) -> None:
    qcow2(images / "bad.qcow2", "-o", f"data_file={tmp_path}/data")

    assert "data_file" in str(refusal(cache, images / "bad.qcow2"))


def test_an_unknown_feature_is_refused(cache: ImageCache, images: Path) -> None:
    path = qcow2(images / "bad.qcow2")
    with path.open("r+b") as file:
        file.seek(72)  # incompatible features, big-endian
        file.write((1 << 40).to_bytes(8, "big"))

    assert refusal(cache, path).code == "image-refused"


@pytest.mark.parametrize("other", ["vmdk", "vdi", "vhdx"])
def test_other_formats_are_refused_by_name(cache: ImageCache, images: Path, other: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", other, str(images / "bad"), "1M"], check=True)

    assert other in str(refusal(cache, images / "bad"))


def test_a_qcow2_header_in_a_disk_with_partitions_is_refused(cache: ImageCache, images: Path) -> None:
    path = raw(images / "two-faced.img")
    with path.open("r+b") as file:
        file.write(qcow2(images / "face.qcow2").read_bytes()[:440])

    assert refusal(cache, path).code == "image-refused"


@pytest.mark.parametrize("kept", [300, 65_536, 600_000])
def test_a_qcow2_that_is_cut_off_is_refused(cache: ImageCache, images: Path, kept: int) -> None:
    path = qcow2(images / "cut.qcow2", data=True)
    os.truncate(path, kept)

    assert refusal(cache, path).code == "image-invalid"


def test_the_declared_format_must_be_the_found_one(cache: ImageCache, images: Path) -> None:
    source = str(qcow2(images / "a.qcow2"))

    with pytest.raises(Fault, match="declared as raw, but it is qcow2"):
        cache.fetch(ImageRef(source, format="raw"))
    with pytest.raises(Fault, match="declared as 'vmdk'"):
        cache.fetch(ImageRef(source, format="vmdk"))
    assert cache.fetch(ImageRef(source, format="qcow2")).format == "qcow2"


def test_a_checksum_is_verified(cache: ImageCache, images: Path) -> None:
    source = qcow2(images / "a.qcow2")

    wrong = refusal(cache, source, checksum="sha256:" + "0" * 64)
    odd = refusal(cache, source, checksum="md5:123")

    assert wrong.code == "image-invalid"
    assert sha256(source)[7:] in str(wrong)
    assert odd.code == "image-refused"
    assert cache.fetch(ImageRef(str(source), checksum=sha256(source))).format == "qcow2"


def test_an_image_over_the_limit_is_refused_before_it_is_copied(cache: ImageCache, images: Path) -> None:
    fault = refusal(cache, raw(images / "big.img", 9 * MIB))

    assert fault.code == "image-too-large"
    assert "max_image_gb" in str(fault)


def test_a_full_disk_is_a_fault_of_its_own(cache: ImageCache, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("placet.images.local.os.sendfile", full)

    assert refusal(cache, qcow2(images / "a.qcow2")).code == "disk-full"


def test_progress_is_told_in_words(cache: ImageCache, images: Path) -> None:
    ticks = iter(range(1000))
    hasty = ImageCache(images.parent / "other", [images], 8 * MIB, 1000, clock=lambda: float(next(ticks)))
    told: list[str] = []

    hasty.fetch(ImageRef(str(qcow2(images / "a.qcow2", data=True))), told.append)

    assert told[-1].startswith("image ")
    assert told[-1].endswith(" MB/s")
