"""Images made for tests, good ones and bad, the cache that they come into, and how a bad one is to be refused."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from placet.errors import Fault
from placet.images import ImageCache, Limits
from placet.model import ImageRef

MIB = 1 << 20
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def qcow2(path: Path, *options: str, data: bool = False, size: str = "64M") -> Path:
    return made("qcow2", path, *options, data=data, size=size)


def made(format: str, path: Path, *options: str, data: bool = False, size: str = "64M") -> Path:
    """An image by qemu-img; with `data`, its first MiB is not zeros."""
    subprocess.run(["qemu-img", "create", "-q", "-f", format, *options, str(path), size], check=True)
    if data:
        subprocess.run(["qemu-io", "-f", format, "-c", "write 0 1M", str(path)], check=True, capture_output=True)
    return path


def raw(path: Path, size: int = MIB) -> Path:
    """A disk with an MBR and one Linux partition, the rest a hole."""
    path.write_bytes(boot_sector())
    os.truncate(path, size)
    return path


def boot_sector() -> bytes:
    """An MBR with one Linux partition."""
    entry = bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0]) + (1).to_bytes(4, "little") + (2000).to_bytes(4, "little")
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def vmdk(path: Path, descriptor: str, capacity: int = 2048, descriptor_at: int = 1) -> Path:
    """A sparse VMDK's header with this descriptor in it; `capacity` in sectors."""
    header = struct.pack("<4sIIQQQQIQQ", b"KDMV", 1, 3, capacity, 128, descriptor_at, 20, 512, 21, 26)
    path.write_bytes(header.ljust(512, b"\0") + descriptor.encode().ljust(20 * 512, b"\0") + bytes(128 * 512))
    return path


def patched(path: Path, at: int, data: bytes) -> Path:
    """The file with these bytes put in."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return path


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def limits(**some: Any) -> Limits:
    """Small ones."""
    return Limits(**{"max_bytes": 8 * MIB, "timeout_s": 10.0, **some})


def cache_at(
    directory: Path, image_dirs: Sequence[Path] = (), limited: Limits | None = None, **more: Any
) -> ImageCache:
    """A cache in `directory` whose backoff takes no time."""
    return ImageCache(directory, image_dirs, limited or limits(), **{"pause": lambda _seconds: None, **more})


def files_of(cache: ImageCache) -> list[str]:
    """The names of all that is in a cache's directory."""
    return sorted(path.name for path in cache._directory.path.iterdir())


def refusal(cache: ImageCache, source: str | Path, checksum: str | None = None, format: str | None = None) -> Fault:
    """The fault with which `source` is refused; nothing of it may be left in the cache."""
    with pytest.raises(Fault) as caught:
        cache.fetch(ImageRef(str(source), format, checksum))
    assert str(source).split("?")[0] in str(caught.value), "the message names the image"
    assert "\n" not in str(caught.value)
    assert files_of(cache) == []
    return caught.value
