"""What the image is made of. A change here, in a script or in a package's version makes it another image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

RECIPE_VERSION = "1"

# What must be on the host: tool -> its Debian package. All other tools are run out of the packages' unpacked trees.
HOST_TOOLS = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg": "dpkg",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
BUILD_PACKAGES = tuple(sorted(set(HOST_TOOLS.values())))

KERNEL_PACKAGE = "linux-image-cloud-amd64"
# jshon reads JSON; jq 1.6 does so, too, but takes 20 times as long to start, as it compiles its own library each time.
GUEST_PACKAGES = ("busybox-static", "qemu-guest-agent", "dropbear-bin", "jshon", "e2fsprogs")
TOOL_PACKAGES = ("dosfstools", "mtools", "syslinux")

PROGRAMS = ("busybox", "qemu-ga", "dropbear", "dropbearkey", "jshon", "resize2fs")

# Kernel modules by name; those that they depend on come along, those built into the kernel are skipped.
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console")
ROOT_MODULES = (
    *("isofs", "vfat", "nls_cp437", "nls_ascii"),  # config drives
    *("button", "evdev"),  # the ACPI power button
    *("virtio_balloon", "virtio_rng", "8021q"),
)

# All but the first three only save time under TCG, 0.3 s of 2.9: no clocks to calibrate, no self-tests, short grace
# periods. acpi=noirq would spare 0.1 s for each PCI interrupt line of machine type pc, but leaves one processor only.
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=10 net.ifnames=0 tsc=reliable no_timer_check cryptomgr.notests "
    "random.trust_cpu=on rcupdate.rcu_expedited=1"
)

ROOT_LABEL = "placet-root"  # initrd-init looks for it
BOOT_MIB = 24
ROOT_MIB = 48
ROOT_MAX_GIB = 1024  # what the root can be grown to while mounted: ext4 reserves room for its group descriptors

GUEST_FILES = Path(__file__).parent / "guest"


def own_files() -> list[Path]:
    """The program's modules and the guest's scripts, in a fixed order."""
    return sorted([*Path(__file__).parent.glob("*.py"), *GUEST_FILES.iterdir()])


def recipe_key(files: Iterable[Path], deb_digests: Iterable[str]) -> str:
    """Sixteen hex digits that change when a file's name or content, or a package (by its SHA256), does."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    for deb in sorted(deb_digests):
        digest.update(f"{deb}\n".encode())
    return digest.hexdigest()[:16]
