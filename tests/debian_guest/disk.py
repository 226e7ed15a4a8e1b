"""The disk: as the small image's, a FAT partition with boot loader, kernel and initramfs, and then the root."""

from __future__ import annotations

import shutil
from pathlib import Path

from placet.guestimage.disk import (
    BOOT_START,
    ROOT_START,
    Partition,
    make_boot_partition,
    master_boot_record,
)
from placet.guestimage.recipe import BOOT_MIB
from placet.guestimage.tools import BuildFailed, run
from tests.debian_guest.recipe import KERNEL_ARGUMENTS, ROOT_LABEL, ROOT_MIB

MIB = 2**20
BLOCK = 4096
BOOT_FILES = ("vmlinuz", "initrd.img")

# cloud-init's growpart gives the last partition the rest of the disk
PARTITIONS = (
    Partition(BOOT_START, BOOT_MIB * MIB, kind=0xE, bootable=True),
    Partition(ROOT_START, ROOT_MIB * MIB, kind=0x83),
)

SYSLINUX_CONFIG = f"""\
DEFAULT debian
PROMPT 0
TIMEOUT 0
LABEL debian
  LINUX /{BOOT_FILES[0]}
  INITRD /{BOOT_FILES[1]}
  APPEND {KERNEL_ARGUMENTS}
"""


def build_disk(tools: Path, root: Path, work: Path, out: Path) -> None:
    """Write the qcow2 file `out` from the root's directory; `tools` is the tree of the unpacked boot tools."""
    raw = work / "disk.raw"
    with raw.open("wb") as disk:
        disk.truncate(ROOT_START + ROOT_MIB * MIB)
        disk.write(master_boot_record((tools / "usr/lib/SYSLINUX/mbr.bin").read_bytes(), PARTITIONS))
    config = work / "syslinux.cfg"
    config.write_text(SYSLINUX_CONFIG, encoding="ascii")
    make_boot_partition(tools, raw, [*boot_files(root, work), config])
    make_root_partition(root, raw)
    run(["qemu-img", "convert", "-O", "qcow2", raw, out])


def boot_files(root: Path, work: Path) -> list[Path]:
    """The one kernel and its initramfs, by names without a version."""
    files = []
    for name in BOOT_FILES:
        found = list((root / "boot").glob(f"{name}-*"))
        if len(found) != 1:
            raise BuildFailed(f"one {name} is wanted, the packages made {len(found)}")
        files.append(Path(shutil.copyfile(found[0], work / name)))
    return files


def make_root_partition(root: Path, raw: Path) -> None:
    """ext4 filled from a directory, owners and modes as they are there."""
    extended = f"offset={ROOT_START},lazy_itable_init=1,lazy_journal_init=1"
    mke2fs = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-L", ROOT_LABEL, "-m", "1", "-E", extended]
    run([*mke2fs, "-d", root, raw, str(ROOT_MIB * MIB // BLOCK)])
