"""The root's directory: programs out of the unpacked packages, their libraries, busybox's names, the scripts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from placet.guestimage.recipe import GUEST_FILES, PROGRAMS, RECIPE_VERSION
from placet.guestimage.tools import BuildFailed, run

PROGRAM_DIRECTORIES = ("usr/bin", "usr/sbin", "bin", "sbin")
LIBRARY_DIRECTORIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LOADER = "ld-linux-x86-64.so.2"

DIRECTORIES = (
    *("dev", "proc", "sys", "run", "mnt", "boot", "home", "opt", "srv", "root/.ssh", "tmp", "var/tmp"),
    *("usr/bin", "usr/sbin", "usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/placet"),
    *("etc/acpi/PWRF", "etc/dropbear", "var/lib/placet", "var/log"),
)
MODES = {"root": 0o700, "root/.ssh": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}
LINKS = {
    **{name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")},
    "var/run": "../run",
    "etc/mtab": "../proc/self/mounts",
    **{f"usr/sbin/{name}": "shutdown" for name in ("poweroff", "reboot", "halt")},
}
# Where a file of guest/ goes if not to usr/lib/placet/; initrd-init is for the initramfs alone.
PLACES = {"inittab": "etc/inittab", "shutdown": "usr/sbin/shutdown", "power-button": "etc/acpi/PWRF/00000080"}

TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\n",
    "etc/group": "root:x:0:\ntty:x:5:\n",
    "etc/shells": "/bin/sh\n",
    "etc/hostname": "placet-mini\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/os-release": (
        'PRETTY_NAME="Placet mini (Debian 12 packages)"\nNAME="Placet mini (Debian 12 packages)"\n'
        "ID=placet-mini\nID_LIKE=debian\nVERSION_ID=" + RECIPE_VERSION + "\n"
    ),
}


def build_root(unpacked: Path, root: Path, key: str) -> None:
    """Fill the new directory `root` with everything of the guest but its kernel modules."""
    for directory in DIRECTORIES:
        (root / directory).mkdir(parents=True, exist_ok=True)
    for directory, mode in MODES.items():
        (root / directory).chmod(mode)
    for link, target in LINKS.items():
        (root / link).symlink_to(target)
    for path, text in TEXTS.items():
        (root / path).write_text(text, encoding="utf-8")
    (root / "etc/placet-image").write_text(f"recipe={RECIPE_VERSION}\nkey={key}\n", encoding="utf-8")
    for program in PROGRAMS:
        install(find_program(unpacked, program), root / "usr/bin" / program)
    copy_libraries(unpacked, root)
    copy_scripts(root)
    link_applets(root / "usr/bin/busybox", root)


def find_program(unpacked: Path, name: str) -> Path:
    for directory in PROGRAM_DIRECTORIES:
        if (unpacked / directory / name).is_file():
            return unpacked / directory / name
    raise BuildFailed(f"none of the unpacked packages holds the program {name}")


def install(source: Path, target: Path) -> None:
    """Copy a file, the content of what it may link to, for all to run."""
    shutil.copyfile(source, target)
    target.chmod(0o755)


def copy_libraries(unpacked: Path, root: Path) -> None:
    """Copy the dynamic loader and every library that it finds the programs to need."""
    loader = find_loader(unpacked)
    library_path = ":".join(str(unpacked / directory) for directory in LIBRARY_DIRECTORIES)
    install(loader, root / "usr/lib64" / LOADER)
    for program in PROGRAMS:
        if program == "busybox":  # statically linked
            continue
        listing = run([loader, "--library-path", library_path, "--list", find_program(unpacked, program)])
        for name, library in parse_loader_list(program, listing).items():
            install(library, root / "usr/lib/x86_64-linux-gnu" / name)


def find_loader(unpacked: Path) -> Path:
    for directory in LIBRARY_DIRECTORIES:
        if (unpacked / directory / LOADER).is_file():
            return unpacked / directory / LOADER
    raise BuildFailed(f"the unpacked libc6 holds no {LOADER}")


def parse_loader_list(program: str, listing: str) -> dict[str, Path]:
    """Lines `NAME => PATH (ADDRESS)` of the loader's --list as name -> path, the loader itself left out."""
    libraries = dict(re.findall(r"^\s*(\S+) => (.+?)(?: \(0x[0-9a-f]+\))?$", listing, re.M))
    missing = [name for name, path in libraries.items() if path == "not found"]
    if missing:
        raise BuildFailed(f"{program} needs {', '.join(missing)}, which none of the unpacked packages holds")
    return {name: Path(path) for name, path in libraries.items() if "/" not in name}


def copy_scripts(root: Path) -> None:
    for file in GUEST_FILES.iterdir():
        if file.name != "initrd-init":
            install(file, root / PLACES.get(file.name, f"usr/lib/placet/{file.name}"))


def link_applets(busybox: Path, root: Path) -> None:
    """Give every applet of busybox its name, unless a real program or a script has it."""
    taken = {path.name for directory in ("usr/bin", "usr/sbin") for path in (root / directory).iterdir()}
    for applet in applets(busybox):
        if applet not in taken:
            (root / "usr/bin" / applet).symlink_to("busybox")
    for name in ("init", "modprobe"):  # where the initramfs and the kernel look for them
        (root / "usr/sbin" / name).symlink_to("../bin/busybox")


def applets(busybox: Path) -> Iterable[str]:
    return run([busybox, "--list"]).split()
