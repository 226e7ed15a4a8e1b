"""From package names to unpacked trees, by apt's own metadata: dependencies, addresses, checksums, downloads.

Never installs anything, and never asks apt to refresh its lists.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from placet.guestimage.tools import BuildFailed, run

# Root may download into any directory; apt's own unprivileged user may not, and apt warns about that.
AS_ROOT = ("-o", "APT::Sandbox::User=root")
ONLY_NEEDED = tuple(
    f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
)


@dataclass(frozen=True)
class Deb:
    """One package file as apt would fetch it: file name (with version and architecture) and SHA256 digest."""

    filename: str
    sha256: str

    @property
    def package(self) -> str:
        return self.filename.partition("_")[0]


def resolve(kernel: str, programs: Iterable[str], tools: Iterable[str]) -> list[Deb]:
    """The newest package files for the kernel's metapackage, programs with their libraries, and tools alone.

    Raises BuildFailed if apt does not know one of them.
    """
    roots = [kernel, *programs]
    graph = parse_depends(apt("apt-cache", "depends", "--recurse", *ONLY_NEEDED, *roots))
    wanted = {*library_closure(graph, programs), kernel_package(graph, kernel), *tools}
    return parse_uris(apt("apt-get", "download", *AS_ROOT, "--print-uris", *sorted(wanted)))


def apt(*command: str) -> str:
    try:
        return run(command)
    except BuildFailed as error:
        raise BuildFailed(f"{error}. Are apt's lists there and fresh (apt-get update)?") from error


def parse_depends(output: str) -> dict[str, list[str]]:
    """`apt-cache depends --recurse` as package -> what it depends on. Virtual packages (`<name>`) are left out."""
    graph: dict[str, list[str]] = {}
    package = ""
    for line in output.splitlines():
        if not line.startswith((" ", "|")):
            package = line.strip()
            graph[package] = []
        elif match := re.match(r"[ |]+(?:Pre)?Depends: ([^<\s]+)$", line):
            graph[package].append(match[1])
    return graph


def library_closure(graph: Mapping[str, list[str]], roots: Iterable[str]) -> set[str]:
    """The roots and the shared libraries that they need in turn.

    Debian names library packages lib*; zlib1g is the one exception met. One that is missed is found out when the
    loader lists a program's libraries.
    """
    found: set[str] = set()
    todo = list(roots)
    while todo:
        package = todo.pop()
        if package not in found:
            found.add(package)
            todo += [name for name in graph.get(package, []) if name.startswith(("lib", "zlib"))]
    return found


def kernel_package(graph: Mapping[str, list[str]], metapackage: str) -> str:
    """The package with the kernel itself, which the metapackage depends on."""
    for name in graph.get(metapackage, []):
        if name.startswith("linux-image-"):
            return name
    raise BuildFailed(f"apt knows no kernel for package {metapackage}: run apt-get update")


def parse_uris(output: str) -> list[Deb]:
    """Lines of `apt-get download --print-uris`: 'ADDRESS' FILENAME SIZE SHA256:DIGEST."""
    return [Deb(match[1], match[2]) for match in re.finditer(r"^'[^']+' (\S+\.deb) \d+ SHA256:(\w+)$", output, re.M)]


def fetch(debs: Iterable[Deb], directory: Path) -> list[Path]:
    """Paths of the package files in `directory`, after downloading those that aren't there; apt checks their digests.

    A file appears there whole or not at all.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / deb.filename for deb in debs]
    missing = [path.name.partition("_")[0] for path in paths if not path.exists()]
    if missing:
        with tempfile.TemporaryDirectory(dir=directory, prefix="download-") as work:
            run(["apt-get", "download", *AS_ROOT, "-q", *missing], cwd=Path(work))
            for file in Path(work).glob("*.deb"):
                file.rename(directory / file.name)
    for path in paths:
        if not path.exists():
            raise BuildFailed(f"apt-get download left no {path.name}: run apt-get update and try again")
    return paths


def unpack(debs: Iterable[Path], directory: Path) -> None:
    """Unpack package files side by side into one tree; the largest first, so that it isn't what all wait for."""
    largest_first = sorted(debs, key=lambda deb: deb.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda deb: run(["dpkg", "-x", deb, directory]), largest_first):
            pass
