"""Which images disks lie on, read of the disks themselves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from placet.drivers.libvirt.overlay import backing_files
from tests.support.image_files import qcow2, raw


def overlay(path: Path, backing: Path, format: str = "qcow2") -> Path:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", format, str(path)]
    subprocess.run(argv, check=True)
    return path


def test_all_that_is_beneath_a_disk_is_found(tmp_path: Path) -> None:
    image = raw(tmp_path / "image.raw")
    between = overlay(tmp_path / "before-the-snapshot.qcow2", image, "raw")

    assert backing_files(overlay(tmp_path / "disk.qcow2", between)) == (between, image)
    assert backing_files(between) == (image,)


def test_an_image_that_is_gone_is_still_in_use(tmp_path: Path) -> None:
    image = qcow2(tmp_path / "image.qcow2")
    disk = overlay(tmp_path / "disk.qcow2", image)
    image.unlink()

    assert backing_files(disk) == (image,)


def test_beneath_what_is_no_overlay_or_not_there_is_nothing(tmp_path: Path) -> None:
    assert backing_files(qcow2(tmp_path / "plain.qcow2")) == ()
    assert backing_files(tmp_path / "none") == ()


def test_disks_that_lie_on_each_other_are_no_endless_story(tmp_path: Path) -> None:
    first, second = qcow2(tmp_path / "a"), tmp_path / "b"
    overlay(second, first)
    subprocess.run(["qemu-img", "rebase", "-u", "-b", str(second), "-F", "qcow2", str(first)], check=True)

    assert set(backing_files(first)) == {first, second}
    os.truncate(second, 10)
    assert backing_files(first) == (second,)
