"""What a disk image may be: good ones of every format, and such as were made to deceive."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from placet.errors import Fault
from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.image_files import (
    MIB,
    boot_sector,
    cache_at,
    files_of,
    limits,
    made,
    patched,
    qcow2,
    raw,
    refusal,
    vmdk,
)

SPARSE = 'version=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\nRW 2048 SPARSE "a.vmdk"\n'


@pytest.fixture
def cache(tmp_path: Path, images: Path) -> ImageCache:
    return cache_at(tmp_path / "cache", [images], limits(max_bytes=16 * MIB))


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (b"", "an empty file"),
        (b"hello\nworld\n" * 100, "text"),
        (b"  <!DOCTYPE html><html><body>Log in</body></html>", "an HTML page"),
        (b"BZh91AY&SY" + bytes(600), "bzip2-compressed"),
        (b"PK\x03\x04" + bytes(600), "a zip archive"),
    ],
)
@pytest.mark.parametrize("declared", [None, "raw"])
def test_what_is_no_image_is_told_by_its_looks(
    cache: ImageCache, images: Path, content: bytes, look: str, declared: str | None
) -> None:
    (images / "a.qcow2").write_bytes(content)

    fault = refusal(cache, images / "a.qcow2", format=declared)

    assert fault.code == "image-invalid"
    assert look in str(fault)


def test_a_disk_without_partitions_is_taken_only_when_it_is_declared_raw(cache: ImageCache, images: Path) -> None:
    source = images / "file-system.img"
    source.write_bytes(bytes(1024) + os.urandom(3000))

    undeclared = refusal(cache, source)

    assert undeclared.code == "image-invalid"
    assert "without a partition table" in str(undeclared)
    found = cache.fetch(ImageRef(str(source), format="raw"))
    assert (found.format, found.virtual_size) == ("raw", 4096)
    with pytest.raises(Fault, match="without a partition table"):
        cache.fetch(ImageRef(str(source)))


def test_the_declared_format_must_be_the_found_one(cache: ImageCache, images: Path) -> None:
    source = str(qcow2(images / "a.qcow2"))

    with pytest.raises(Fault, match="declared as raw, but it is qcow2"):
        cache.fetch(ImageRef(source, format="raw"))
    with pytest.raises(Fault, match="declared as 'iso'"):
        cache.fetch(ImageRef(source, format="iso"))
    assert cache.fetch(ImageRef(source, format="qcow2")).format == "qcow2"
    with pytest.raises(Fault, match="declared as raw, but it is qcow2"):
        cache.fetch(ImageRef(source, format="raw"))


def with_bad_backing(path: Path) -> Path:
    return qcow2(path, "-b", "/etc/shadow", "-F", "raw", "-u")


def with_data_file(path: Path) -> Path:
    return qcow2(path, "-o", f"data_file={path}-data")


def with_unknown_feature(path: Path) -> Path:
    return patched(qcow2(path), 72, (1 << 40).to_bytes(8, "big"))  # incompatible features, big-endian


def encrypted(path: Path) -> Path:
    return patched(qcow2(path), 32, (2).to_bytes(4, "big"))  # crypt_method: LUKS


def luks(path: Path) -> Path:
    path.write_bytes(b"LUKS\xba\xbe\x00\x01" + bytes(MIB))
    return path


def old_qcow(path: Path) -> Path:
    return made("qcow", path, size="1M")


def huge(path: Path) -> Path:
    return qcow2(path, size="1025G")


def flat_extent(path: Path) -> Path:
    path.write_text('# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 1 FLAT "/etc/passwd" 0\n')
    return path


def embedded_flat_extent(path: Path) -> Path:
    return vmdk(path, SPARSE.replace("monolithicSparse", "monolithicFlat").replace("SPARSE", "FLAT"), capacity=0)


def two_types(path: Path) -> Path:
    """What an inspector that ignores case reads first is not what QEMU does."""
    return vmdk(path, 'CREATETYPE="monolithicSparse"\n' + SPARSE.replace("monolithicSparse", "monolithicFlat"))


def no_capacity(path: Path) -> Path:
    """QEMU then takes the descriptor for all there is."""
    return vmdk(path, SPARSE, capacity=0)


def vmdk_with_parent(path: Path) -> Path:
    hint = 'parentFileNameHint="/etc/passwd"\n'
    return vmdk(path, SPARSE.replace("ffffffff", "12345678") + hint)


def vmdk_with_a_second_extent(path: Path) -> Path:
    return vmdk(path, SPARSE + 'RW 1 FLAT "passwd" 0\n')


def vmdk_with_its_descriptor_elsewhere(path: Path) -> Path:
    return vmdk(path, SPARSE, descriptor_at=2)


def difference_vdi(path: Path) -> Path:
    return patched(made("vdi", path, size="1M"), 76, (4).to_bytes(4, "little"))


def difference_vhd(path: Path) -> Path:
    return patched(made("vpc", path, size="1M"), 60, (4).to_bytes(4, "big"))


def iso(path: Path) -> Path:
    path.write_bytes(bytes(32768) + b"\x01CD001\x01" + bytes(4096))
    return path


def bootable_iso(path: Path) -> Path:
    return patched(iso(path), 0, boot_sector())


def qcow2_before_partitions(path: Path) -> Path:
    face = qcow2(path.with_suffix(".face"))
    return patched(raw(path), 0, face.read_bytes()[:440])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (with_bad_backing, "backing file"),
        (with_data_file, "data_file"),
        (with_unknown_feature, "[Uu]nknown QCOW2 features"),
        (encrypted, "encrypted"),
        (luks, "its format is luks"),
        (old_qcow, "Unsupported qcow2 version"),
        (flat_extent, "Unsupported subformat"),
        (embedded_flat_extent, "Unsupported subformat"),
        (two_types, "type more than once"),
        (no_capacity, "how large"),
        (vmdk_with_parent, "parent"),
        (vmdk_with_a_second_extent, "not in itself alone"),
        (difference_vdi, "difference to another file"),
        (difference_vhd, "difference to another file"),
        (iso, "its format is iso"),
        (bootable_iso, "Multiple formats"),
        (qcow2_before_partitions, "Multiple formats"),
    ],
)
def test_what_leads_elsewhere_or_has_two_faces_is_refused(
    cache: ImageCache, images: Path, make: Callable[[Path], Path], words: str
) -> None:
    source = make(images / "bad")

    with pytest.raises(Fault, match=words) as caught:
        cache.fetch(ImageRef(str(source)))

    assert caught.value.code == "image-refused"
    assert files_of(cache) == []
    with pytest.raises(Fault):
        cache.fetch(ImageRef(str(source), format="raw"))
    assert files_of(cache) == []


def test_a_huge_disk_in_a_small_file_is_refused(cache: ImageCache, images: Path) -> None:
    assert refusal(cache, huge(images / "bad")).code == "image-too-large"


def test_a_vmdk_whose_descriptor_is_elsewhere_is_no_vmdk(cache: ImageCache, images: Path) -> None:
    with pytest.raises(Fault):
        cache.fetch(ImageRef(str(vmdk_with_its_descriptor_elsewhere(images / "bad"))))
    assert files_of(cache) == []


def test_no_qemu_tool_sees_what_inspection_refused(
    cache: ImageCache, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [make(images / make.__name__) for make in (with_bad_backing, vmdk_with_parent, flat_extent)]
    ran: list[object] = []
    monkeypatch.setattr("placet.images.qemu_img.subprocess.run", lambda argv, **_: ran.append(argv))

    for source in sources:
        assert refusal(cache, source).code == "image-refused"

    assert ran == []


@pytest.mark.parametrize("kept", [300, 65_536, 600_000])
def test_a_qcow2_that_is_cut_off_is_refused(cache: ImageCache, images: Path, kept: int) -> None:
    path = qcow2(images / "cut.qcow2", data=True)
    os.truncate(path, kept)

    assert refusal(cache, path).code == "image-invalid"
