"""The root's directory: what mmdebstrap makes of the packages, and then the recipe's settings."""

from __future__ import annotations

from pathlib import Path

from placet.guestimage.tools import run
from tests.debian_guest import apt
from tests.debian_guest.recipe import (
    ENABLED_UNITS,
    FILES,
    INITRAMFS_MODULES,
    LEFT_OUT,
    MASKED_UNITS,
    PACKAGES,
    SUITE,
)

# lz4 unpacks fastest; with `list` the initramfs has the named modules alone
INITRAMFS_CONF = "MODULES=list\nCOMPRESS=lz4\n"
UNITS = Path("etc/systemd/system")
WANTED_BY = UNITS / "multi-user.target.wants"


def build_root(work: Path, root: Path) -> None:
    """Fill the new directory `root`; `work` takes mmdebstrap's settings. Raises BuildFailed."""
    initramfs = work / "initramfs"
    initramfs.mkdir()
    (initramfs / "guest.conf").write_text(INITRAMFS_CONF, encoding="ascii")
    (initramfs / "modules").write_text("\n".join(INITRAMFS_MODULES) + "\n", encoding="ascii")
    (work / "apt.conf").write_text(apt.settings(), encoding="utf-8")
    run(mmdebstrap(work, initramfs, root), cwd=work)
    apply_settings(root)


def mmdebstrap(work: Path, initramfs: Path, root: Path) -> list[str | Path]:
    """The command. The initramfs's settings are there before its package is, which makes it when configured."""
    command: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", "--quiet"]
    command += [f"--aptopt={work / 'apt.conf'}", '--aptopt=APT::Install-Recommends "false"']
    command += ['--aptopt=Acquire::Languages "none"', f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    install = 'install -D -m 0644 "{}" "$1/etc/initramfs-tools/{}"'
    command += [f"--essential-hook={install.format(initramfs / 'guest.conf', 'conf.d/guest.conf')}"]
    command += [f"--essential-hook={install.format(initramfs / 'modules', 'modules')}"]
    return [*command, SUITE, root, *apt.sources()]


def apply_settings(root: Path) -> None:
    """Write the recipe's files, enable and mask its units, and take away what each guest must make for itself."""
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for unit in MASKED_UNITS:
        (root / UNITS / unit).unlink(missing_ok=True)
        (root / UNITS / unit).symlink_to("/dev/null")
    run(["chroot", root, "systemctl", "enable", *ENABLED_UNITS])
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
