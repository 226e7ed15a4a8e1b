"""The disk: a FAT partition with boot loader, kernel and initramfs, and the root partition; then qcow2.

FAT and not ext4 for booting as mtools and syslinux write it without a mount. All is written into one sparse raw file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from placet.guestimage.recipe import BOOT_MIB, KERNEL_ARGUMENTS, ROOT_LABEL, ROOT_MAX_GIB, ROOT_MIB
from placet.guestimage.rootfs import find_program
from placet.guestimage.tools import SYSTEM_PATH, run

MIB = 2**20
SECTOR = 512
BLOCK = 4096
BOOT_START = 1 * MIB
ROOT_START = BOOT_START + BOOT_MIB * MIB
DISK_SIZE = ROOT_START + ROOT_MIB * MIB

SYSLINUX_CONFIG = f"""\
DEFAULT placet
PROMPT 0
TIMEOUT 0
LABEL placet
  LINUX /vmlinuz
  INITRD /initrd
  APPEND {KERNEL_ARGUMENTS}
"""


@dataclass(frozen=True)
class Partition:
    """An entry of a DOS partition table; start and size in bytes, kind as in the table (0xe FAT16, 0x83 Linux)."""

    start: int
    size: int
    kind: int
    bootable: bool = False


PARTITIONS = (
    Partition(BOOT_START, BOOT_MIB * MIB, kind=0xE, bootable=True),
    Partition(ROOT_START, ROOT_MIB * MIB, kind=0x83),
)


def build_disk(unpacked: Path, root: Path, boot_files: list[Path], work: Path, out: Path) -> None:
    """Write the qcow2 file `out` from the root's directory and the boot partition's files."""
    raw = work / "disk.raw"
    with raw.open("wb") as disk:
        disk.truncate(DISK_SIZE)
        disk.write(master_boot_record((unpacked / "usr/lib/SYSLINUX/mbr.bin").read_bytes(), PARTITIONS))
    config = work / "syslinux.cfg"
    config.write_text(SYSLINUX_CONFIG, encoding="ascii")
    make_boot_partition(unpacked, raw, [*boot_files, config])
    make_root_partition(root, raw)
    run(["qemu-img", "convert", "-O", "qcow2", raw, out])


def master_boot_record(code: bytes, partitions: tuple[Partition, ...]) -> bytes:
    """The first sector: 440 bytes of boot code, disk signature, four 16-byte entries, 55 AA.

    Layout: Microsoft's "Hard disks and partitions"; cylinder, head and sector are unused and at their maximum.
    """
    maximum = b"\xfe\xff\xff"
    table = b""
    for partition in partitions:
        table += bytes([0x80 if partition.bootable else 0]) + maximum + bytes([partition.kind]) + maximum
        table += struct.pack("<II", partition.start // SECTOR, partition.size // SECTOR)
    return code.ljust(440, b"\0")[:440] + struct.pack("<IH", 0x706C6163, 0) + table.ljust(64, b"\0") + b"\x55\xaa"


def make_boot_partition(unpacked: Path, raw: Path, files: list[Path]) -> None:
    """FAT16 with syslinux, which finds its configuration and the kernel by itself."""
    mtools = find_program(unpacked, "mcopy").parent
    env = {"MTOOLS_SKIP_CHECK": "1", "PATH": f"{mtools}:{SYSTEM_PATH}"}  # syslinux calls mtools
    sectors = str(BOOT_START // SECTOR)
    options = ["-F", "16", "-n", "BOOT", "--offset", sectors, "-h", sectors]
    run([find_program(unpacked, "mkfs.vfat"), *options, raw, str(BOOT_MIB * 1024)])
    run([mtools / "mcopy", "-i", f"{raw}@@{BOOT_START}", *files, "::"], env=env)
    run([find_program(unpacked, "syslinux"), "--install", "--offset", str(BOOT_START), raw], env=env)


def make_root_partition(root: Path, raw: Path) -> None:
    """ext4 filled from a directory, with the smallest journal: a guest's power may fail at any time."""
    features = "^metadata_csum,^64bit"
    extended = f"offset={ROOT_START},lazy_itable_init=1,root_owner=0:0,resize={ROOT_MAX_GIB * 2**30 // BLOCK}"
    mke2fs = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-L", ROOT_LABEL, "-J", "size=4", "-m", "1"]
    run([*mke2fs, "-O", features, "-E", extended, "-d", root, raw, str(ROOT_MIB * MIB // BLOCK)])
