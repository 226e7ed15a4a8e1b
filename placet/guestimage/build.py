"""One build from beginning to end, and the cache of its results.

CACHE/debs/*.deb               package files as downloaded
CACHE/guestimage/KEY.qcow2     images by recipe key
CACHE/guestimage/lock          one build at a time; those that waited find the image
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from placet.guestimage import packages
from placet.guestimage.disk import build_disk
from placet.guestimage.kernel import build_initramfs, install_modules, kernel_version
from placet.guestimage.recipe import GUEST_PACKAGES, HOST_TOOLS, KERNEL_PACKAGE, TOOL_PACKAGES, own_files, recipe_key
from placet.guestimage.rootfs import build_root
from placet.guestimage.tools import BuildFailed, require

WORK_PREFIX = "build-"


def build(out: Path, cache: Path, *, force: bool = False) -> bool:
    """Put the image at `out`: a copy out of the cache if the recipe was built before (and not `force`), else a new one.

    `out` appears complete or stays as it was. Returns whether it was built now. Raises BuildFailed.
    """
    require(HOST_TOOLS)
    if os.geteuid() != 0:
        raise BuildFailed("the image must be built by root, who shall own the files in it")
    debs = packages.resolve(KERNEL_PACKAGE, GUEST_PACKAGES, TOOL_PACKAGES)
    key = recipe_key(own_files(), (deb.sha256 for deb in debs))
    images = cache / "guestimage"
    image = images / f"{key}.qcow2"
    with locked(images):
        needed = force or not image.exists()
        if needed:
            build_into(image, packages.fetch(debs, cache / "debs"), key)
        copy_atomically(image, out)
    return needed


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, after waiting for it. Removes what a killed build has left there."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in directory.glob(f"{WORK_PREFIX}*"):
            shutil.rmtree(leftover)
        yield


def build_into(image: Path, debs: list[Path], key: str) -> None:
    """Build the image from package files, in a directory beside it that is gone afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(dir=image.parent, prefix=WORK_PREFIX) as directory:
        work = Path(directory)
        unpacked, root, initramfs = (work / name for name in ("unpacked", "root", "initramfs"))
        packages.unpack(debs, unpacked)
        root.mkdir()
        build_root(unpacked, root, key)
        install_modules(unpacked, root)
        build_initramfs(unpacked, initramfs, work / "initrd")
        shutil.copyfile(unpacked / "boot" / f"vmlinuz-{kernel_version(unpacked)}", work / "vmlinuz")
        build_disk(unpacked, root, [work / "vmlinuz", work / "initrd"], work, work / "disk.qcow2")
        (work / "disk.qcow2").replace(image)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that `target` never is a part of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        copy = Path(work) / target.name
        shutil.copyfile(source, copy)
        copy.replace(target)
