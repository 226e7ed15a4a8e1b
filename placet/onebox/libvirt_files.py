"""The directories and the three configuration files of a libvirtd of our own. Never those of the machine's."""

from __future__ import annotations

import shutil
from pathlib import Path

from placet.onebox.hypervisor import COVERED
from placet.onebox.layout import DIRECTORY_MODE, StateDirectory
from placet.onebox.machine import has_false_kvm

MACHINE_FILTERS = Path("/etc/libvirt/nwfilter")

# root alone may connect: whoever can is root on this machine
LIBVIRTD_CONF = """\
host_uuid = "{host_uuid}"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
log_outputs = "3:stderr"
"""
# user and group are left to the distribution: an unprivileged user on Debian and Ubuntu (libvirt-qemu)
QEMU_CONF = """\
# no cgroups: nothing is made outside the state directory
cgroup_controllers = []
"""
# libvirt gives each QEMU a /dev of its own and can't move the file that hypervisor.py puts over /dev/kvm there
FALSE_KVM_CONF = "namespaces = []\n"
VIRTLOGD_CONF = """\
log_outputs = "3:stderr"
# a console log is at most (1 + max_backups) x max_size, so a guest can't fill the disk by printing
max_size = 2097152
max_backups = 3
"""


def write(state: StateDirectory, host_uuid: str) -> None:
    """Make what is missing and write the files as this version has them."""
    for name in COVERED:
        (state.libvirt / name).mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    etc = state.libvirt / "etc"
    (etc / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(host_uuid=host_uuid))
    (etc / "qemu.conf").write_text(QEMU_CONF + (FALSE_KVM_CONF if has_false_kvm() else ""))
    (etc / "virtlogd.conf").write_text(VIRTLOGD_CONF)
    if not (etc / "nwfilter").exists() and MACHINE_FILTERS.is_dir():
        shutil.copytree(MACHINE_FILTERS, etc / "nwfilter")
