"""Unpacking of images that come compressed, as a stream: xz, gzip and zstd, told by their first bytes, not by a name.

It begins when all bytes are here and a declared checksum was found right. Memory is bounded whatever the data says;
so are the size, the time, and by how much it may grow: a root file system shrinks to a third or so, and even one in
ten times as much free space stays far below MAX_RATIO, while a bomb lives of more.
"""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from placet.errors import Fault
from placet.images.transfer import Journey, Transfer

# 2 KiB of the densest data that these formats know unpack to 64 MiB (zstd: 4 bytes say 128 KiB); so much, at most, is
# in memory at a time
STEP_BYTES = 2048
MEMORY_BYTES = 128 * 2**20  # xz -9 needs 65 MiB, zstd --ultra -22 128 MiB
MAX_RATIO = 200
FREE_BYTES = 64 * 2**20  # below this the ratio does not matter
HOLE_BYTES = 65536
REMEDY = "unpack it and give that, or get a good one"


class _Stream(Protocol):
    """One compressed stream; a file may hold several, one after the other, as their tools write them."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _zstd() -> _Stream:
    return zstandard.ZstdDecompressor(max_window_size=MEMORY_BYTES).decompressobj()


def _xz() -> _Stream:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES)


def _gzip() -> _Stream:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


STREAMS: dict[bytes, tuple[str, Callable[[], _Stream]]] = {
    b"\xfd7zXZ\x00": ("xz", _xz),
    b"\x1f\x8b": ("gzip", _gzip),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}


def compression_of(path: Path) -> str | None:
    """`xz`, `gzip` or `zstd` when the file at `path` begins as these do."""
    found = _found(path)
    return found[0] if found else None


def unpack(packed: Path, target: BinaryIO, journey: Journey) -> None:
    """Write what `packed` holds to the empty file `target`; stretches of zeros stay holes.

    Raises Fault `image-invalid` (damaged, cut off, with something else behind it, packed twice), `image-refused` (it
    grows too much), `image-too-large`, `image-timeout`.
    """
    found = _found(packed)
    if found is None:
        raise Fault("image-invalid", f"image {journey.name}: not compressed")
    kind, make = found
    transfer = Transfer(journey, "unpacking")
    transfer.begin(0, packed.stat().st_size)
    size = 0
    try:
        with packed.open("rb") as file:
            for piece in _pieces(file, make, transfer):
                size += len(piece)
                _check_growth(journey, size, transfer.done)
                _write(target, piece)
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError) as problem:
        raise Fault(
            "image-invalid", f"image {journey.name}: its {kind} data is damaged or goes on with something else "
            f"({problem}); {REMEDY}",
        ) from problem  # fmt: skip
    target.truncate(size)
    target.flush()


def check_not_packed_again(path: Path, name: str) -> None:
    """Raises Fault `image-refused` when what was unpacked is compressed itself."""
    kind = compression_of(path)
    if kind is not None:
        raise Fault("image-refused", f"image {name}: compressed twice, there is {kind} data in it; pack it once")


def _found(path: Path) -> tuple[str, Callable[[], _Stream]] | None:
    with path.open("rb") as file:
        start = file.read(8)
    return next((found for magic, found in STREAMS.items() if start.startswith(magic)), None)


def _pieces(file: BinaryIO, make: Callable[[], _Stream], transfer: Transfer) -> Iterator[bytes]:
    stream = make()
    data = b""
    while data or (data := file.read(STEP_BYTES)):
        if stream.eof:
            stream = make()
        yield stream.decompress(data)
        rest = stream.unused_data if stream.eof else b""
        transfer.advance(len(data) - len(rest))
        data = rest
    if not stream.eof:
        raise EOFError("it is cut off")


def _check_growth(journey: Journey, size: int, packed: int) -> None:
    journey.limits.check_size(journey.name, size)
    if size > FREE_BYTES and size > MAX_RATIO * max(packed, 1):
        raise Fault(
            "image-refused",
            f"image {journey.name}: {packed} compressed bytes became {size}, over {MAX_RATIO} times as much; {REMEDY}",
        )


def _write(target: BinaryIO, data: bytes) -> None:
    for start in range(0, len(data), HOLE_BYTES):
        piece = data[start : start + HOLE_BYTES]
        if piece.strip(b"\0"):
            target.write(piece)
        else:
            target.seek(len(piece), os.SEEK_CUR)
