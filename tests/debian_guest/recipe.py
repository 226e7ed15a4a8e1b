"""What the guest is made of. A change here, in a module of this package, or in a named package makes it another image.

Its first boot takes 164 s under TCG when nothing is set, and 40 s with what is set here: each has its reason beside it.
"""

from __future__ import annotations

from pathlib import Path

from placet.guestimage import disk
from placet.guestimage.recipe import TOOL_PACKAGES

SUITE = "bookworm"
BOOT_PACKAGES = TOOL_PACKAGES  # unpacked beside the root: they write the boot partition

PACKAGES = (
    *("systemd-sysv", "systemd-resolved", "udev", "dbus", "libpam-systemd", "procps", "iproute2", "netbase", "sudo"),
    *("cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs"),  # growpart is of cloud-guest-utils
    *("qemu-guest-agent", "openssh-server", "ca-certificates"),
    *("linux-image-cloud-amd64", "initramfs-tools", "lz4"),
)
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

# The initramfs finds its root on virtio, whatever the machine that builds it has.
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "ext4", "crc32c")

ROOT_LABEL = "debian-root"
ROOT_MIB = 1500

# The first line is what a Debian cloud image has, too; the others only save time under TCG.
KERNEL_ARGUMENTS = (
    f"root=LABEL={ROOT_LABEL} rw rootfstype=ext4 console=ttyS0 quiet net.ifnames=0 "
    "tsc=reliable no_timer_check cryptomgr.notests mitigations=off random.trust_cpu=on rcupdate.rcu_expedited=1 "
    "fsck.mode=skip"
)

# Files that are added or replaced, by path.
FILES = {
    "etc/fstab": f"LABEL={ROOT_LABEL} / ext4 defaults 0 0\n",
    "etc/hostname": "debian\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/machine-id": "",  # made at the first boot
    # as in Debian's cloud images; without it cloud-init generates en_US.UTF-8
    "etc/default/locale": "LANG=C.UTF-8\n",
    # an RSA key alone takes longer than all else that cloud-init does
    "etc/cloud/cloud.cfg.d/10_host_keys.cfg": "ssh_genkeytypes: [ed25519]\n",
    "etc/systemd/journald.conf.d/volatile.conf": "[Journal]\nStorage=volatile\n",
    # as soon as its port is there; cloud-init holds up sysinit.target, which it would wait for
    "etc/systemd/system/qemu-guest-agent.service.d/early.conf": (
        "[Unit]\nDefaultDependencies=no\nAfter=systemd-udevd.service\n"
        "Conflicts=shutdown.target\nBefore=shutdown.target\n"
    ),
}

# systemd-networkd alone: with ifupdown beside it, waiting for the network takes its whole 120 s. (systemd-resolved is
# enabled by its package; cloud-init restarts the two together, and warns where one is missing.)
ENABLED_UNITS = ("systemd-networkd.service",)

# Units that cost a start-up each and do nothing for a guest that lives for a minute.
MASKED_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "ldconfig.service", "systemd-hwdb-update.service", "systemd-journal-flush.service"),
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "kmod-static-nodes.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-kernel-config.mount", "sys-fs-fuse-connections.mount"),
    *("modprobe@configfs.service", "modprobe@drm.service", "modprobe@fuse.service"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-pstore.service"),
    *("systemd-rfkill.socket", "systemd-initctl.socket", "getty-static.service", "getty@tty1.service"),
)


def own_files() -> list[Path]:
    """This package's modules, in a fixed order, and the one that knows disks."""
    return [*sorted(Path(__file__).parent.glob("*.py")), Path(disk.__file__)]
