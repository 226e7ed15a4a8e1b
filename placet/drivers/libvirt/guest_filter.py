"""Putting the guests' filter (filter_rules.py) in force, by the program `nft`; what it reads is one transaction."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable

from placet.drivers.libvirt.filter_rules import build_removal, build_rules
from placet.drivers.libvirt.reservations import Reservation
from placet.errors import Unreachable
from placet.log import warn

DEADLINE_S = 20


class GuestFilter:
    """The filter of one bridge; there is none if it is not `wanted`. It is always written as a whole, so that one that
    was flushed is mended, too."""

    def __init__(self, bridge: str, wanted: bool, reservations: Callable[[], Iterable[Reservation]]) -> None:
        self._bridge = bridge
        self._wanted = wanted
        self._reservations = reservations
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Have it in force, or not, as wanted. Raises Unreachable."""
        if self._wanted and not _is_here(self._bridge):
            warn("guests-not-filtered", bridge=self._bridge, reason="libvirt's bridges are another machine's")
        elif self._wanted:
            self.put()
        elif _is_here(self._bridge):
            remove_filter(self._bridge)

    def put(self) -> None:
        """Have it say what is reserved now, if it is wanted. Raises Unreachable."""
        if self._wanted and _is_here(self._bridge):
            with self._lock:  # what is read last is written last
                _load(build_rules(self._bridge, self._reservations()))


def remove_filter(bridge: str) -> None:
    """Have there be none. Raises Unreachable."""
    if shutil.which("nft"):
        _load(build_removal(bridge))


def _load(rules: str) -> None:
    command = ["timeout", str(DEADLINE_S), "nft", "-f", "-"]
    done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip() or f"nft: exit code {done.returncode}"
        raise Unreachable(
            f"what guests send cannot be filtered ({said.splitlines()[0]}); install nftables and run as root, "
            "or set network: {filter: false} in compute.yaml"
        )


def _is_here(bridge: str) -> bool:
    return bridge in (name for _index, name in socket.if_nameindex())
