"""What bringing an image may cost and how far it has come: shared by the two kinds of source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from placet.errors import Fault
from placet.failpoints import reach

REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class Limits:
    """Of one image: `max_bytes` as it is stored, `timeout_s` from the first byte asked for to the last."""

    max_bytes: int
    timeout_s: float


def shown(source: str) -> str:
    """A path or URL as messages show it: without user, password and query, which may be secrets."""
    if not source.startswith(("http://", "https://")):
        return source
    scheme, _, rest = source.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


class Source(Protocol):
    """An image where it comes from, opened.

    `identity` changes whenever the content does; it is None where only the content itself can tell.
    """

    identity: str | None

    def copy_to(self, target: BinaryIO, transfer: Transfer) -> None:
        """Write all of it to the empty file `target`, calling `transfer` as it goes. Raises Fault, OSError."""


class Transfer:
    """Holds one transfer to its limits and tells its progress in words ("image 43 %, 18 MB/s")."""

    def __init__(self, name: str, limits: Limits, tell: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._tell = tell
        self._clock = clock
        self._started = self._told = clock()
        self._expected: int | None = None
        self._done = 0

    def expect(self, size: int | None) -> None:
        """The size that is announced, None when the source does not say. Raises Fault when it is over the limit."""
        self._expected = size
        self._check_size(size or 0)

    def advance(self, count: int) -> None:
        """`count` more bytes are here. Raises Fault when they are too many or took too long."""
        self._done += count
        self._check_size(self._done)
        if 2 * self._done >= (self._expected or 0):
            reach("build.image-half-fetched")
        now = self._clock()
        if now - self._started > self._limits.timeout_s:
            raise Fault(
                "image-timeout",
                f"image {self._name}: {self._done} bytes came in {self._limits.timeout_s:g} s, and more were to come; "
                "raise image_timeout_s in compute.yaml or bring it closer",
            )
        if now - self._told >= REPORT_EVERY_S:
            self._told = now
            self._tell(self._words(now - self._started))

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise Fault(
                "image-too-large",
                f"image {self._name}: {size} bytes or more, over the {self._limits.max_bytes} an image may have; "
                "raise max_image_gb in compute.yaml or choose a smaller one",
            )

    def _words(self, elapsed_s: float) -> str:
        rate = f"{self._done / elapsed_s / 1e6:.0f} MB/s"
        if self._expected:
            return f"image {100 * self._done // self._expected} %, {rate}"
        return f"image {self._done // 1_000_000} MB, {rate}"
