"""What bringing an image may cost and how far it has come: shared by all that takes long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from placet.errors import Fault
from placet.failpoints import reach
from placet.images.part import Part

GIB = 2**30
REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Limits:
    """Of one image: `max_bytes` as it comes, unpacked and as it is stored; `max_virtual_bytes` as a guest sees it;
    `timeout_s` from the first byte asked for until it is there for use. `cache_bytes` is for all images together."""

    max_bytes: int = 20 * GIB
    timeout_s: float = 1800.0
    max_virtual_bytes: int = 1024 * GIB
    cache_bytes: int = 50 * GIB

    def check_size(self, name: str, size: int) -> None:
        """Raises Fault `image-too-large`."""
        if size > self.max_bytes:
            raise Fault(
                "image-too-large",
                f"image {name}: {size} bytes or more, over the {self.max_bytes} an image may have; "
                "raise max_image_gb in compute.yaml or choose a smaller one",
            )

    def check_virtual_size(self, name: str, size: int) -> None:
        """Raises Fault `image-too-large`."""
        if size > self.max_virtual_bytes:
            raise Fault(
                "image-too-large",
                f"image {name}: a disk of {size} bytes, over the {self.max_virtual_bytes} one may have; "
                "raise max_virtual_gb in compute.yaml or choose a smaller one",
            )


def shown(source: str) -> str:
    """A path or URL as messages show it: in one line, without user, password, query and fragment, which may be
    secrets."""
    source = one_line(source)
    if "://" not in source:
        return source
    scheme, _, rest = source.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def one_line(text: str, most: int = 2000) -> str:
    """What somebody else has written, fit for a message."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:most].rstrip())


def scheme_of(source: str) -> str:
    """`http`, `https`, `file` …; "" for a path."""
    if "://" not in source:
        return ""
    try:
        return urlsplit(source).scheme.lower()
    except ValueError:
        return source.partition(":")[0].lower()


class Source(Protocol):
    """An image where it comes from, opened.

    `version` changes whenever the content does; it is empty where only the content itself can tell. `size` is in
    bytes, None where nobody says.
    """

    version: dict[str, str]
    size: int | None

    def copy_to(self, part: Part, transfer: Transfer) -> None:
        """Write all of it to `part`, calling `transfer` as it goes. Raises Fault, OSError."""


@dataclass
class Journey:
    """One image on its way: its name in messages, its limits, its deadline, and who hears how far it is."""

    name: str
    limits: Limits
    tell: Callable[[str], None]
    clock: Callable[[], float]
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def remaining_s(self) -> float:
        """What is left of the time; below 0 when it is over."""
        return self.started + self.limits.timeout_s - self.clock()

    def check_time(self, doing: str) -> None:
        """Raises Fault `image-timeout`."""
        if self.remaining_s < 0:
            raise Fault(
                "image-timeout",
                f"image {self.name}: {doing} took longer than the {self.limits.timeout_s:g} s it may; "
                "raise image_timeout_s in compute.yaml, or bring it closer",
            )


class Transfer:
    """Holds one stretch of a journey to its limits and tells its progress in words ("image 43 %, 18 MB/s")."""

    def __init__(self, journey: Journey, doing: str = "fetching") -> None:
        self.journey = journey
        self._doing = doing
        self._prefix = "image" if doing == "fetching" else f"image: {doing}"
        self._expected: int | None = None
        self._began_at = self._done = 0
        self._began = self._told = journey.clock()

    @property
    def done(self) -> int:
        """How many bytes are here."""
        return self._done

    def begin(self, done: int, expected: int | None) -> None:
        """`done` bytes are here, `expected` will be at the end (None: nobody says). Raises Fault `image-too-large`."""
        self._began_at = self._done = done
        self._began = self.journey.clock()
        self._expected = expected
        self.journey.limits.check_size(self.journey.name, max(done, expected or 0))

    def advance(self, count: int) -> None:
        """`count` more bytes are here. Raises Fault when they are too many or took too long."""
        self._done += count
        self.journey.limits.check_size(self.journey.name, self._done)
        if 2 * self._done >= (self._expected or 0):
            reach("build.image-half-fetched")
        self.journey.check_time(f"{self._doing} up to byte {self._done}")
        now = self.journey.clock()
        if now - self._told >= REPORT_EVERY_S:
            self._told = now
            self.journey.tell(self._words(now - self._began))

    def _words(self, elapsed_s: float) -> str:
        rate = f"{(self._done - self._began_at) / max(elapsed_s, 0.001) / 1e6:.0f} MB/s"
        if self._expected:
            return f"{self._prefix} {100 * self._done // self._expected} %, {rate}"
        return f"{self._prefix} {self._done // 1_000_000} MB, {rate}"
