"""Whom mmdebstrap asks for packages: whom this machine's own apt asks, in the way that it does."""

from __future__ import annotations

from pathlib import Path

from placet.guestimage.tools import run
from tests.debian_guest.recipe import SUITE

SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
IRRELEVANT = ("Acquire::IndexTargets", "Acquire::Changelogs", "Acquire::cdrom")


def sources() -> list[Path]:
    """This machine's apt sources if they are of the same release; with none mmdebstrap takes Debian's own."""
    if f"VERSION_CODENAME={SUITE}" not in Path("/etc/os-release").read_text(encoding="utf-8"):
        return []
    return [path for path in SOURCES if path.is_file()]


def settings() -> str:
    """How this machine's apt fetches (proxies, checks), as a configuration file of apt."""
    shown = run(["apt-config", "dump", "Acquire"])
    return "".join(f"{line}\n" for line in shown.splitlines() if not line.startswith(IRRELEVANT))
