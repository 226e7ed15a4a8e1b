"""One build from beginning to end, and the cache of its results, beside that of the small image.

CACHE/debs/*.deb               the boot tools' packages
CACHE/debian-guest/KEY.qcow2   the image by recipe key: the newest alone, for it is large
CACHE/debian-guest/lock        one build at a time; those that waited find the image
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from placet.guestimage import packages
from placet.guestimage.build import WORK_PREFIX, copy_atomically, locked
from placet.guestimage.recipe import HOST_TOOLS, recipe_key
from placet.guestimage.tools import BuildFailed, require
from tests.debian_guest.disk import build_disk
from tests.debian_guest.recipe import BOOT_PACKAGES, PACKAGES, own_files
from tests.debian_guest.root import build_root

TOOLS = {**HOST_TOOLS, "mmdebstrap": "mmdebstrap"}


def default_cache() -> Path:
    """The directory that `python -m placet.guestimage` takes, too."""
    return Path(os.environ.get("PLACET_CACHE_DIR", "/var/cache/placet"))


def put_debian_image(out: Path, cache: Path | None = None) -> bool:
    """Put the image at `out`: a copy out of the cache if the recipe was built before, else a new one.

    Returns whether it was built now. Raises BuildFailed.
    """
    require(TOOLS)
    if os.geteuid() != 0:
        raise BuildFailed("the image must be built by root, who shall own the files in it")
    cache = cache or default_cache()
    named = newest([*PACKAGES, *BOOT_PACKAGES])
    images = cache / "debian-guest"
    image = images / f"{recipe_key(own_files(), (deb.sha256 for deb in named))}.qcow2"
    with locked(images):
        needed = not image.exists()
        if needed:
            boot_tools = [deb for deb in named if deb.package in BOOT_PACKAGES]
            build_into(image, packages.fetch(boot_tools, cache / "debs"))
            remove_others(image)
        copy_atomically(image, out)
    return needed


def newest(names: list[str]) -> list[packages.Deb]:
    """The package files that this machine's apt would fetch for the names: a security update makes another image."""
    return packages.parse_uris(packages.apt("apt-get", "download", *packages.AS_ROOT, "--print-uris", *names))


def build_into(image: Path, boot_tools: list[Path]) -> None:
    """Build the image in a directory beside it that is gone afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(dir=image.parent, prefix=WORK_PREFIX) as directory:
        work = Path(directory)
        work.chmod(0o711)  # programs in the root run as others than root, too
        tools, root = work / "tools", work / "root"
        packages.unpack(boot_tools, tools)
        build_root(work, root)
        build_disk(tools, root, work, work / "disk.qcow2")
        (work / "disk.qcow2").replace(image)


def remove_others(image: Path) -> None:
    """Whoever wants one of them holds the lock while it is copied."""
    for other in image.parent.glob("*.qcow2"):
        if other != image:
            other.unlink()
