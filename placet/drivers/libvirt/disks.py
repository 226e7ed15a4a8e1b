"""An instance's disk and config drive. The disk is an overlay that shares the image; no image is ever copied.

libvirt makes the overlay, in a storage pool that exists for the length of that call, under another name: the rename
is what makes it a disk, so one that was cut off in the middle is none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt

from placet.drivers.libvirt.connection import LibvirtConnection
from placet.drivers.libvirt.errors import is_code
from placet.drivers.libvirt.files import InstanceFiles, files_of
from placet.drivers.libvirt.xml import Element, add, to_text
from placet.errors import Fault, PlacetError
from placet.hypervisor import CachedImage
from placet.model import Spec

GIB = 2**30
PART = "disk.part"


class Disks:
    """The directories of a node's instances. With `resize` disks grow to DISK_GB, else they keep the image's size."""

    def __init__(self, connection: LibvirtConnection, instances_dir: Path, resize: bool) -> None:
        self._connection = connection
        self._instances_dir = instances_dir
        self._resize = resize

    def create(self, spec: Spec, image: CachedImage, config_drive: bytes | None) -> None:
        """The disk, and the config drive if there is one; or nothing. Raises Fault `image-too-big`, `disk-full`."""
        files = files_of(self._instances_dir, spec.instance)
        if files.disk.exists():
            return
        capacity = self._capacity(spec, image)
        try:
            self._create(spec.instance, files, image, capacity, config_drive)
        except (OSError, PlacetError) as problem:
            with contextlib.suppress(OSError, PlacetError):
                self.remove(spec.instance)
            if _is_disk_full(problem):
                raise _disk_full(spec.instance, self._instances_dir) from problem
            if isinstance(problem, OSError):
                raise Fault("disk", f"instance {spec.instance}: {problem}") from problem
            raise

    def remove(self, instance: str) -> None:
        """The directory with all that is in it; a link is removed, never followed."""
        files = files_of(self._instances_dir, instance)
        with self._connection.session(f"instance {instance}: remove its disk") as libvirtd:
            _end_pool(libvirtd, instance)
        if files.directory.is_symlink():
            files.directory.unlink()
        elif files.directory.exists():
            shutil.rmtree(files.directory)

    def _capacity(self, spec: Spec, image: CachedImage) -> int:
        asked = spec.amount("DISK_GB") * GIB
        if image.virtual_size > asked:
            needed = -(-image.virtual_size // GIB)
            raise Fault(
                "image-too-big",
                f"image {spec.image.source} needs {needed} GiB, over DISK_GB:{spec.amount('DISK_GB')}; ask for more",
            )
        return asked if self._resize else image.virtual_size

    def _create(
        self, instance: str, files: InstanceFiles, image: CachedImage, capacity: int, drive: bytes | None
    ) -> None:
        files.directory.mkdir(parents=True, exist_ok=True)
        files.directory.chmod(0o711)  # QEMU's user passes through, but can't list
        if drive is not None:
            _write_private(files.config_drive, drive)
        part = files.directory / PART
        part.unlink(missing_ok=True)
        with self._connection.session(f"instance {instance}: make its disk") as libvirtd:
            with _pool(libvirtd, instance, files.directory) as pool:
                pool.createXML(build_volume(PART, image, capacity), 0)
        _sync(part)
        part.rename(files.disk)
        _sync(files.directory)


def build_pool(instance: str, directory: Path) -> str:
    """https://libvirt.org/formatstorage.html"""
    root = Element("pool", type="dir")
    add(root, "name", _pool_name(instance))
    add(add(root, "target"), "path", directory)
    return to_text(root)


def build_volume(name: str, image: CachedImage, capacity: int) -> str:
    """A qcow2 overlay on `image`. Formats are explicit: nothing is ever left for QEMU to probe."""
    root = Element("volume", type="file")
    add(root, "name", name)
    add(root, "capacity", capacity, unit="bytes")
    target = add(root, "target")
    add(target, "format", type="qcow2")
    add(target, "compat", "1.1")  # qcow2 version 3; libvirt's default, 2, knows no zero clusters
    add(add(target, "permissions"), "mode", "0600")
    backing = add(root, "backingStore")
    add(backing, "path", image.path)
    add(backing, "format", type=image.format)
    return to_text(root)


@contextlib.contextmanager
def _pool(libvirtd: Any, instance: str, directory: Path) -> Iterator[Any]:
    _end_pool(libvirtd, instance)
    pool = libvirtd.storagePoolCreateXML(build_pool(instance, directory), 0)
    try:
        yield pool
    finally:
        pool.destroy()


def _end_pool(libvirtd: Any, instance: str) -> None:
    """A pool outlives an agent that was killed while it used it. Ending one doesn't touch its files."""
    try:
        libvirtd.storagePoolLookupByName(_pool_name(instance)).destroy()
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_NO_STORAGE_POOL):
            raise


def _pool_name(instance: str) -> str:
    return f"placet-{instance}"


def _write_private(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600, exist_ok=False)
    part.write_bytes(data)
    part.rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_disk_full(problem: Exception) -> bool:
    if isinstance(problem, OSError):
        return problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(problem, Fault) and problem.code == "disk-full"


def _disk_full(instance: str, directory: Path) -> Fault:
    mount = next(path for path in (directory, *directory.parents) if path.is_mount())
    free_mib = shutil.disk_usage(directory).free // 2**20
    return Fault(
        "disk-full",
        f"instance {instance}: the file system {mount} of {directory} is full ({free_mib} MiB free); "
        "destroy instances or enlarge it",
    )
