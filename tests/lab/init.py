"""PID 1 of a set of namespaces: mounts what they have of their own, says `ready`, then reaps until its stdin ends.

Run by tests/lab/namespaces.py inside new namespaces. Everything in the PID namespace dies with this process, and the
namespaces and their mounts with the last process in them, so nothing has to be taken down one by one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")


def main() -> None:
    """argv: the directory of these namespaces, then NAME=PLACE for each that is mounted from there. `dev` is made."""
    directory = Path(sys.argv[1])
    mount("-t", "sysfs", "sysfs", "/sys")  # libvirt finds bridges here: it has to be this network namespace's
    for word in sys.argv[2:]:
        name, _, place = word.partition("=")
        if name == "dev":
            make_devices(directory / name)
        Path(place).mkdir(parents=True, exist_ok=True)
        mount("--rbind", str(directory / name), place)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    reap()


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_devices(place: Path) -> None:
    """A /dev without kvm: libvirt's capability cache is thrown away again and again where kvm is there but unusable."""
    mount("-t", "tmpfs", "-o", "mode=755,size=1m", "dev", str(place))
    for name in DEVICES:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
        mount("--bind", f"/dev/{name}", str(place / name))
    for name in ("pts", "shm"):
        (place / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", str(place / "pts"))
    mount("-t", "tmpfs", "shm", str(place / "shm"))
    (place / "ptmx").symlink_to("pts/ptmx")
    (place / "fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (place / name).symlink_to(f"/proc/self/fd/{number}")


def end_with_parent() -> None:
    """stdin is a pipe that whoever made the namespaces holds: it ends when they let go of it, or die."""
    sys.stdin.read()
    os._exit(0)


def reap() -> None:
    """PID 1 of the machine may reap late, which makes each destroy of a guest a second longer. This one doesn't."""
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main()
