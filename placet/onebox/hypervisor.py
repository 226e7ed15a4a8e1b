"""The parent of a libvirtd of our own: `python -m placet.onebox.hypervisor STATE_DIR libvirtd|virtlogd`.

It gives the daemon directories of its own in a private mount namespace, starts it again when it dies, and reaps
what guests leave behind at once (some machines' PID 1 is slow at that, and libvirt then waits a second or two for
each guest that it destroys). There is no PID namespace and no cgroup: guests outlive this process, and the next
libvirtd finds them by the same directories and PIDs.

virtlogd has a parent of its own because it must live as long as any guest: a guest's console goes to it through a
pipe, and when it dies that log ends for good (the guest itself runs on). The alternative, stdio_handler = "file",
needs no virtlogd, but then nothing bounds the log, and a guest could fill the node's disk by printing.

It never touches the machine's own libvirt directories, and never ends a guest.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from placet.onebox.machine import KVM, has_false_kvm

# where a system libvirtd keeps things is compiled in; each is covered by STATE_DIR/libvirt/<name>
COVERED = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
DAEMONS = {
    "virtlogd": ("virtlogd", "--pid-file", "/run/libvirt/virtlogd.pid"),
    "libvirtd": ("libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid"),
}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

CLONE_NEWNS = 0x00020000  # <linux/sched.h>
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # <linux/mount.h>
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def main(argv: list[str]) -> int:
    """Run one daemon until SIGTERM."""
    directory, daemon = Path(argv[0]) / "libvirt", argv[1]
    forget_earlier_boots(directory)
    libc = ctypes.CDLL(None, use_errno=True)
    _cover_directories(libc, directory)
    _check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    os.environ.pop("PLACET_SERVICE", None)  # dnsmasq inherits it, and is no part of this service
    return Daemon(DAEMONS[daemon], lambda: _die_with_parent(libc)).run()


def forget_earlier_boots(directory: Path, boot_id: Path = Path("/proc/sys/kernel/random/boot_id")) -> None:
    """Empty `run` when the machine has booted since. A system libvirtd's is on a tmpfs, and libvirtd relies on it:
    it would take PIDs that it finds there for its guests', and end them."""
    boot = boot_id.read_text()
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # libvirtd's parent and virtlogd's start at the same time
        seen = directory / "boot-id"
        if seen.exists() and seen.read_text() == boot:
            return
        for entry in (directory / "run").iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        seen.write_text(boot)
    finally:
        os.close(handle)


class Daemon:
    """One child that is kept running, among other children (guests, dnsmasq) that are only reaped."""

    def __init__(self, argv: tuple[str, ...], in_child: Callable[[], None]) -> None:
        self._argv = argv
        self._in_child = in_child
        self._stopping = False
        self._pid = 0

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            began = time.monotonic()
            self._start()
            self._reap_until_it_ends()
            if self._stopping:
                break
            pause_s = FIRST_PAUSE_S if time.monotonic() - began > 60 else min(pause_s * 2, LONGEST_PAUSE_S)
            print(f"event=restart daemon={self._argv[0]} pause_s={pause_s}", file=sys.stderr, flush=True)
            time.sleep(pause_s)
        return 0

    def _start(self) -> None:
        # preexec_fn is safe: this process has one thread
        child = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, preexec_fn=self._in_child)  # noqa: PLW1509
        self._pid = child.pid
        if self._stopping:
            child.terminate()

    def _reap_until_it_ends(self) -> None:
        while os.wait()[0] != self._pid:
            pass
        self._pid = 0

    def _stop(self, *_: object) -> None:
        self._stopping = True
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)


def _cover_directories(libc: ctypes.CDLL, directory: Path) -> None:
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _mount(libc, "none", "/", MS_REC | MS_PRIVATE)
    for name, target in COVERED.items():
        Path(target).mkdir(parents=True, exist_ok=True)
        _mount(libc, str(directory / name), target, MS_BIND)
    if has_false_kvm():
        # a plain file that nobody but root may open: libvirt's probe as the guests' user then finds no KVM, each
        # time the same, and keeps its cache of capabilities (see COVERED) instead of filling it again for seconds
        hidden = directory / "no-kvm"
        hidden.touch(mode=0o000)
        _mount(libc, str(hidden), str(KVM), MS_BIND)


def _mount(libc: ctypes.CDLL, source: str, target: str, flags: int) -> None:
    _check(libc.mount(source.encode(), target.encode(), None, flags, None), f"mount {target}")


def _die_with_parent(libc: ctypes.CDLL) -> None:
    """So that a kill -9 of this process leaves no daemon behind that holds the socket; guests are unaffected."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
