"""The hypervisor seam: what a node asks of whatever runs its guests. Step 4 of a request's way.

Two drivers pass one contract suite (tests/contract/): `placet.drivers.libvirt` and `placet.drivers.fake`. A driver
never touches etcd or Placement. Each call can be repeated at will: doing what is already done does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from placet.hypervisor import CachedImage, ConsolePiece, Hypervisor, Observed
from placet.model import Spec


class Driver(Protocol):
    """All calls are synchronous and thread-safe.

    They raise `Fault` (with a code: `disk-full`, `image-too-big`, `hypervisor`, `foreign-domain`, `no-address`,
    `domain-missing`, `disk-missing`, `no-bridge`, `bad-spec` …) when this instance cannot be served and `Unreachable`
    when the hypervisor does not answer: the caller retries the latter.
    """

    name: str

    def describe(self) -> Hypervisor:
        """What this hypervisor is; asked once at start."""

    def prepare(self) -> None:
        """Make what all instances share (the NAT network) exist and run. Raises Refused when it can't be as configured,
        such as when somebody else's network has its name."""

    def instances(self) -> frozenset[str]:
        """UUIDs of all domains and disks on this hypervisor that this cloud's node owns."""

    def observe(self, instance: str) -> Observed:
        """What there is of one instance, known to us or not."""

    def create_disk(self, spec: Spec, image: CachedImage) -> None:
        """An overlay on `image` grown to DISK_GB, and the config drive, in the instance's own directory.

        Complete or absent: one that was cut off in the middle does not count as a disk and is made again.
        """

    def images_in_use(self) -> frozenset[Path]:
        """The image files that any instance's disk lies on: those must stay. Raises OSError when that can't be told."""

    def define(self, spec: Spec) -> None:
        """The domain, not running, with its addresses reserved."""

    def start(self, instance: str) -> None:
        """Start a defined domain. One that runs already is left alone."""

    def stop(self, instance: str) -> None:
        """Pull the plug; the domain stays defined. One that is not running is left alone."""

    def remove_domain(self, instance: str) -> None:
        """Stop and forget the domain and its reservations. A foreign one raises `Fault('foreign-domain')`."""

    def remove_disk(self, instance: str) -> None:
        """Remove disk, config drive, console log and directory."""

    def console(self, instance: str, lines: int, offset: int | None = None) -> ConsolePiece:
        """What the guest wrote to its serial console: from the start of its last `lines` on (one that is longer than
        1 KiB counts as several), or from the `offset` that an earlier piece had. Whole UTF-8 characters, if it wrote
        such. A log that is rotated keeps its offsets; one that is gone by now gives the oldest there is.

        Raises Fault `no-console` when it never ran here."""

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Have `changed(instance)` called, from a thread of the driver's, whenever a domain changes power, a guest
        takes an address or its agent comes or goes. Calls carry no meaning beyond "look again". One subscriber."""

    def close(self) -> None:
        """Let go of the hypervisor; guests keep running."""
