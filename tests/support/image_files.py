"""Images made for tests, good ones and bad, and how a bad one is expected to be refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from placet.errors import Fault
from placet.images import ImageCache
from placet.model import ImageRef

MIB = 1 << 20


def qcow2(path: Path, *options: str, data: bool = False) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "64M"], check=True)
    if data:
        subprocess.run(["qemu-io", "-c", "write 0 1M", str(path)], check=True, capture_output=True)
    return path


def raw(path: Path, size: int = MIB) -> Path:
    """A disk with an MBR and one Linux partition, the rest a hole."""
    entry = bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0]) + (1).to_bytes(4, "little") + (2000).to_bytes(4, "little")
    path.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa")
    os.truncate(path, size)
    return path


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(cache: ImageCache, source: str | Path, checksum: str | None = None) -> Fault:
    """The fault with which `source` is refused; nothing of it may be left in the cache."""
    with pytest.raises(Fault) as caught:
        cache.fetch(ImageRef(str(source), checksum=checksum))
    assert str(source).split("?")[0] in str(caught.value), "the message names the image"
    assert list(cache._directory.iterdir()) == []
    return caught.value
