"""The kernel's files: chosen modules with what they depend on, and the initramfs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from placet.guestimage.recipe import GUEST_FILES, INITRAMFS_MODULES, ROOT_MODULES
from placet.guestimage.rootfs import applets, find_program, install
from placet.guestimage.tools import BuildFailed, run

INITRAMFS_DIRECTORIES = ("bin", "dev", "proc", "sys", "root")


def kernel_version(unpacked: Path) -> str:
    """The one kernel's version, as `uname -r` will tell it."""
    versions = sorted(path.name for path in (unpacked / "lib/modules").iterdir())
    if len(versions) != 1:
        raise BuildFailed(f"one kernel is wanted, the packages hold {len(versions)}: {' '.join(versions)}")
    return versions[0]


def install_modules(unpacked: Path, root: Path) -> None:
    """Copy the root's modules; the initramfs's as well, as loading a module looks up what it depends on by file."""
    copy_modules(unpacked, root, (*INITRAMFS_MODULES, *ROOT_MODULES))


def build_initramfs(unpacked: Path, work: Path, out: Path) -> None:
    """Write a cpio archive of busybox, the modules to reach the root and initrd-init, gathered in the new `work`."""
    for directory in INITRAMFS_DIRECTORIES:
        (work / directory).mkdir(parents=True)
    busybox = find_program(unpacked, "busybox")
    install(busybox, work / "bin/busybox")
    for applet in applets(busybox):
        if applet != "busybox":
            (work / "bin" / applet).symlink_to("busybox")
    install(GUEST_FILES / "initrd-init", work / "init")
    copy_modules(unpacked, work, INITRAMFS_MODULES)
    names = "\n".join(str(path.relative_to(work)) for path in sorted(work.rglob("*")))
    run([busybox, "cpio", "-o", "-H", "newc", "-R", "0:0", "-F", out], cwd=work, text_input=names)


def copy_modules(unpacked: Path, root: Path, names: Iterable[str]) -> None:
    """Copy modules and their dependencies into `root`, with the index that modprobe reads."""
    version = kernel_version(unpacked)
    source = unpacked / "lib/modules" / version
    target = root / "lib/modules" / version
    busybox = find_program(unpacked, "busybox")
    if not (source / "modules.dep").exists():  # no part of the package: it is made where a kernel is installed
        run([busybox, "depmod", "-b", unpacked, version])
    dependencies = parse_dependencies((source / "modules.dep").read_text(encoding="ascii"))
    builtin = {module_name(line) for line in (source / "modules.builtin").read_text(encoding="ascii").split()}
    for file in sorted(module_files(dependencies, builtin, names)):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)
    run([busybox, "depmod", "-b", root, version])


def parse_dependencies(text: str) -> dict[str, list[str]]:
    """Lines `FILE: FILE…` of modules.dep as file -> all files to be loaded before it."""
    entries = (line.partition(":") for line in text.splitlines())
    return {file: needed.split() for file, _, needed in entries}


def module_name(file: str) -> str:
    """kernel/drivers/char/hw_random/virtio-rng.ko is module virtio_rng: to the kernel - and _ are the same."""
    return PurePosixPath(file).name.partition(".ko")[0].replace("-", "_")


def module_files(dependencies: Mapping[str, list[str]], builtin: set[str], names: Iterable[str]) -> set[str]:
    """The files of the named modules and of those that they need, without what is built into the kernel."""
    by_name = {module_name(file): file for file in dependencies}
    files: set[str] = set()
    for name in names:
        if name in by_name:
            files |= {by_name[name], *dependencies[by_name[name]]}
        elif name not in builtin:
            raise BuildFailed(f"the kernel has no module {name}")
    return files
