"""Isolated hosts on one machine, each with a libvirtd of its own, for tests.

A host is a set of namespaces (tests/lab/namespaces.py) with private libvirt directories and a /dev without kvm.

    with host("one") as one:
        connection = libvirt.open(one.uri)
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.lab.daemon import Daemon, wait_for
from tests.lab.namespaces import Namespaces

LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
VIRTLOGD_CONF = 'log_outputs = "3:file:/var/log/libvirt/virtlogd.log"\n'
# QEMU runs as an unprivileged user, as it does outside of tests; only what namespaces in namespaces lack is off
QEMU_CONF = """\
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""


class Host(Namespaces):
    """One isolated host. `capabilities`, if given, is another host's libvirt cache: a probe of QEMU saved (1.6 s)."""

    mounts = {  # noqa: RUF012 - the base says what it is
        "run": "/run/libvirt",
        "lib": "/var/lib/libvirt",
        "etc": "/etc/libvirt",
        "cache": "/var/cache/libvirt",
        "log": "/var/log/libvirt",
        "dev": "/dev",
    }

    def __init__(self, name: str, directory: Path, capabilities: Path | None = None) -> None:
        super().__init__(name, directory)
        self.uuid = str(uuid.uuid4())
        self.capabilities = capabilities
        self._libvirtd: Daemon | None = None

    @property
    def uri(self) -> str:
        """Where its libvirtd answers, from outside its namespaces too: a unix socket is a file."""
        return f"qemu+unix:///system?socket={self._socket}"

    def up(self) -> None:
        """Make the namespaces and start virtlogd and libvirtd; returns when libvirtd listens."""
        self._lay_out()
        super().up()
        self.start_daemon("virtlogd", "--pid-file", "/run/libvirt/virtlogd.pid")
        log_socket = self.directory / "run" / "virtlogd-sock"
        wait_for(lambda: _listens(log_socket), f"host {self.name}: virtlogd listens")
        self.start_libvirtd()

    def start_libvirtd(self) -> None:
        """Start libvirtd, at first or after it was killed, and wait until it listens."""
        daemon = self._libvirtd = self.start_daemon("libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid")
        wait_for(lambda: _listens(self._socket) or not daemon.running, f"host {self.name}: libvirtd listens")
        if not daemon.running:
            raise RuntimeError(f"host {self.name}: libvirtd did not come up: {daemon.last_lines()}")

    def kill_libvirtd(self) -> None:
        """kill -9; guests live on."""
        self.libvirtd.kill()

    def pause_libvirtd(self) -> None:
        """SIGSTOP to libvirtd alone: it accepts connections and answers nobody."""
        self.libvirtd.pause()

    def resume_libvirtd(self) -> None:
        self.libvirtd.resume()

    @property
    def libvirtd(self) -> Daemon:
        if self._libvirtd is None:
            raise RuntimeError(f"host {self.name} is not up")
        return self._libvirtd

    @property
    def _socket(self) -> Path:
        return self.directory / "run" / "libvirt-sock"

    def _lay_out(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o711)
        for name in ("lib/images", "lib/dnsmasq", "etc/qemu/networks", "etc/hooks"):
            (self.directory / name).mkdir(parents=True)
        shutil.copytree("/etc/libvirt/nwfilter", self.directory / "etc" / "nwfilter")
        if self.capabilities is not None:
            shutil.copytree(self.capabilities, self.directory / "cache")
        (self.directory / "etc" / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=self.uuid))
        (self.directory / "etc" / "virtlogd.conf").write_text(VIRTLOGD_CONF)
        (self.directory / "etc" / "qemu.conf").write_text(QEMU_CONF)


@contextlib.contextmanager
def host(name: str = "host", parent: Path = Path("/var/tmp")) -> Iterator[Host]:
    """A host for the length of a `with`."""
    one = Host(name, Path(tempfile.mkdtemp(prefix=f"placet-{name}-", dir=parent)))
    try:
        one.up()
        yield one
    finally:
        one.down()


def _listens(path: Path) -> bool:
    """A socket's file is there before anyone listens, and may be left from one who did."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
