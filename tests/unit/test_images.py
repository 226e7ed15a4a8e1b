"""The image cache, and images that are files on the node itself."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from placet.errors import Fault
from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.image_files import MIB, cache_at, files_of, limits, qcow2, raw, refusal, sha256


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The one directory below which the node's images lie."""
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def cache(tmp_path: Path, images: Path) -> ImageCache:
    return cache_at(tmp_path / "cache", [images])


def test_a_local_qcow2_is_copied_once_and_stays_when_its_source_goes(cache: ImageCache, images: Path) -> None:
    source = qcow2(images / "a.qcow2", data=True)

    first, second = cache.fetch(ImageRef(str(source))), cache.fetch(ImageRef(str(source)))

    assert first == second
    assert (first.format, first.virtual_size) == ("qcow2", 64 * MIB)
    assert first.path.read_bytes() == source.read_bytes()
    assert first.path.stat().st_mode & 0o777 == 0o644
    source.unlink()
    assert first.path.exists()


def test_an_image_is_named_by_what_is_in_it(cache: ImageCache, images: Path) -> None:
    source = qcow2(images / "a.qcow2", data=True)
    copy = shutil.copyfile(source, images / "b.qcow2")

    found = cache.fetch(ImageRef(str(source)))

    assert f"sha256:{found.digest}" == sha256(source)
    assert found.size == source.stat().st_size
    assert found.path.name == f"{found.digest}.qcow2"
    assert cache.fetch(ImageRef(str(copy))) == found, "the same content is there once"


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
    cache = cache_at(tmp_path / "cache", [images])
    before, files = cache.fetch(ImageRef(str(source))), files_of(cache)
    for name in ("x.part", "y.tmp", "z.new"):
        (tmp_path / "cache" / name).write_bytes(b"half")

    again = cache_at(tmp_path / "cache", [images])

    assert files_of(again) == files
    source.unlink()
    with pytest.raises(Fault, match="no such file"):
        again.fetch(ImageRef(str(source)))
    assert again.fetch(ImageRef(str(source), checksum=before.digest)) == before


def test_an_image_whose_facts_are_lost_is_brought_again(tmp_path: Path, cache: ImageCache, images: Path) -> None:
    source = qcow2(images / "a.qcow2")
    before = cache.fetch(ImageRef(str(source)))
    before.path.with_suffix(".json").write_text('{"format": "qc')

    assert cache.fetch(ImageRef(str(source))) == before


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "/nowhere/a.qcow2",
        "{images}/../cache/a.qcow2",
        "{images}/link",
        "file:///etc/hostname",
        "file:///{images}/%2e%2e/%2e%2e/etc/hostname",
    ],
)
def test_a_path_that_leads_out_of_image_dirs_is_refused_there_or_not(
    cache: ImageCache, images: Path, path: str
) -> None:
    (images / "link").symlink_to("/etc/hostname")

    with pytest.raises(Fault, match="below image_dirs") as caught:
        cache.fetch(ImageRef(path.format(images=images)))

    assert caught.value.code == "image-refused"
    assert files_of(cache) == []


@pytest.mark.parametrize("source", ["ftp://host/a.qcow2", "gopher://host/a", "nbd://host/a", "file://host/etc/passwd"])
def test_what_is_neither_path_nor_http_url_is_refused(cache: ImageCache, source: str) -> None:
    assert refusal(cache, source).code == "image-refused"


def test_a_file_url_means_its_path(cache: ImageCache, images: Path) -> None:
    source = qcow2(images / "a b.qcow2")

    assert cache.fetch(ImageRef(f"file://{images}/a%20b.qcow2")) == cache.fetch(ImageRef(str(source)))


def test_a_relative_path_is_looked_for_in_the_nodes_own_image_dirs(cache: ImageCache, images: Path) -> None:
    qcow2(images / "a.qcow2")
    assert refusal(cache, "b.qcow2").code == "image-not-found"
    assert refusal(cache, "../a.qcow2").code == "image-refused"
    assert cache.fetch(ImageRef("a.qcow2")).format == "qcow2"


def test_a_missing_file_and_a_directory_are_named(cache: ImageCache, images: Path) -> None:
    assert refusal(cache, images / "none.qcow2").code == "image-not-found"
    assert refusal(cache, images / ("long" * 100)).code == "image-not-found"
    assert refusal(cache, images).code == "image-invalid"


def test_a_pipe_is_not_waited_for(cache: ImageCache, images: Path) -> None:
    os.mkfifo(images / "pipe")

    assert refusal(cache, images / "pipe").code == "image-invalid"


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


def test_a_disk_over_the_limit_is_refused_however_small_its_file(tmp_path: Path, images: Path) -> None:
    cache = cache_at(tmp_path / "cache", [images], limits(max_virtual_bytes=63 * MIB))

    fault = refusal(cache, qcow2(images / "a.qcow2"))

    assert fault.code == "image-too-large"
    assert "max_virtual_gb" in str(fault)


def test_a_full_disk_is_a_fault_of_its_own(cache: ImageCache, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("placet.images.local.os.sendfile", full)

    assert refusal(cache, qcow2(images / "a.qcow2")).code == "disk-full"


def test_progress_is_told_in_words(tmp_path: Path, images: Path) -> None:
    ticks = iter(range(1000))
    hasty = cache_at(tmp_path / "other", [images], limits(timeout_s=1000.0), clock=lambda: float(next(ticks)))
    told: list[str] = []

    hasty.fetch(ImageRef(str(qcow2(images / "a.qcow2", data=True))), told.append)

    assert told[0].startswith("image ") and told[0].endswith(" MB/s")
    assert told[-1] == "image: checking"
