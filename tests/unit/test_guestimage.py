"""What the guest image's builder decides without running a tool; tests/live/test_guestimage.py builds and boots."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from placet.guestimage import disk, kernel, packages, recipe, rootfs, tools
from placet.guestimage.tools import BuildFailed

DEPENDS = """\
qemu-guest-agent
  PreDepends: init-system-helpers
  Depends: libc6
  Depends: libglib2.0-0t64
init-system-helpers
 |Depends: usrmerge
  Depends: usr-is-merged
usrmerge
  Depends: <perl:any>
    perl
  Depends: libfile-find-rule-perl
libc6
  Depends: libgcc-s1
libgcc-s1
  Depends: libc6
libglib2.0-0t64
  Depends: zlib1g
linux-image-cloud-amd64
  Depends: linux-image-6.1.0-56-cloud-amd64
"""


def test_the_library_closure_follows_libraries_only_and_ends_on_cycles() -> None:
    graph = packages.parse_depends(DEPENDS)
    closure = packages.library_closure(graph, ["qemu-guest-agent"])
    assert closure == {"qemu-guest-agent", "libc6", "libgcc-s1", "libglib2.0-0t64", "zlib1g"}


def test_virtual_packages_are_no_dependencies() -> None:
    assert packages.parse_depends(DEPENDS)["usrmerge"] == ["libfile-find-rule-perl"]


def test_the_kernel_is_the_image_that_the_metapackage_depends_on() -> None:
    graph = packages.parse_depends(DEPENDS)
    assert packages.kernel_package(graph, "linux-image-cloud-amd64") == "linux-image-6.1.0-56-cloud-amd64"


def test_an_unknown_kernel_says_to_refresh_apts_lists() -> None:
    with pytest.raises(BuildFailed, match="apt-get update"):
        packages.kernel_package({}, "linux-image-cloud-amd64")


def test_package_files_are_known_by_name_and_digest() -> None:
    output = (
        "'http://mirror.example/busybox-static_1.35_amd64.deb' busybox-static_1%3a1.35_amd64.deb 928 SHA256:3d3f\n"
        "'file:/pool/jshon_1_amd64.deb' jshon_1_amd64.deb 14 SHA256:a798\n"
    )
    debs = packages.parse_uris(output)
    assert debs == [
        packages.Deb("busybox-static_1%3a1.35_amd64.deb", "3d3f"),
        packages.Deb("jshon_1_amd64.deb", "a798"),
    ]
    assert [deb.package for deb in debs] == ["busybox-static", "jshon"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "build.py", tmp_path / "init"]
    for path in paths:
        path.write_text(path.name)
    return paths


def test_the_recipe_key_does_not_depend_on_the_order_of_packages(files: list[Path]) -> None:
    assert recipe.recipe_key(files, ["aa", "bb"]) == recipe.recipe_key(files, ["bb", "aa"])


def test_the_recipe_key_changes_with_a_package(files: list[Path]) -> None:
    assert recipe.recipe_key(files, ["aa"]) != recipe.recipe_key(files, ["ab"])


def test_the_recipe_key_changes_with_a_script(files: list[Path]) -> None:
    before = recipe.recipe_key(files, [])
    files[1].write_text("init, changed")
    assert recipe.recipe_key(files, []) != before


def test_the_recipe_covers_the_program_and_every_guest_script() -> None:
    names = {path.name for path in recipe.own_files()}
    assert {"disk.py", "recipe.py", "initrd-init", "provision"} <= names


def test_every_placed_script_exists() -> None:
    assert {recipe.GUEST_FILES / name for name in rootfs.PLACES} <= set(recipe.own_files())


def test_the_loaders_list_gives_libraries_without_the_loader_and_the_vdso() -> None:
    listing = (
        "\tlinux-vdso.so.1 (0x00007ff7e5d95000)\n"
        "\tlibjansson.so.4 => /x/usr/lib/libjansson.so.4 (0x00007ff7e5d6e000)\n"
        "\t/lib64/ld-linux-x86-64.so.2 => /x/lib/ld-linux-x86-64.so.2 (0x00007ff7e5d88000)\n"
    )
    assert rootfs.parse_loader_list("jshon", listing) == {"libjansson.so.4": Path("/x/usr/lib/libjansson.so.4")}


def test_a_library_that_no_package_holds_is_named() -> None:
    with pytest.raises(BuildFailed, match=r"jshon needs libjansson\.so\.4"):
        rootfs.parse_loader_list("jshon", "\tlibjansson.so.4 => not found\n")


MODULES_DEP = """\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko
kernel/fs/isofs/isofs.ko: kernel/drivers/cdrom/cdrom.ko
kernel/drivers/cdrom/cdrom.ko:
"""


def test_modules_come_with_what_they_need_whether_spelt_with_dash_or_underscore() -> None:
    dependencies = kernel.parse_dependencies(MODULES_DEP)
    files = kernel.module_files(dependencies, set(), ["virtio_rng"])
    assert files == {"kernel/drivers/char/hw_random/virtio-rng.ko", "kernel/drivers/virtio/virtio.ko"}


def test_a_built_in_module_needs_no_file() -> None:
    assert kernel.module_files({}, {"ext4"}, ["ext4"]) == set()


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(BuildFailed, match="no module vfat"):
        kernel.module_files(kernel.parse_dependencies(MODULES_DEP), set(), ["vfat"])


def test_the_master_boot_record_has_code_table_and_signature() -> None:
    record = disk.master_boot_record(b"code", disk.PARTITIONS)
    assert len(record) == 512
    assert record.startswith(b"code")
    assert record.endswith(b"\x55\xaa")


def test_the_root_is_the_second_entry_and_its_length_lies_where_initrd_init_writes_it() -> None:
    record = disk.master_boot_record(b"", disk.PARTITIONS)
    assert record[462 + 4] == 0x83
    start, length = struct.unpack_from("<II", record, 462 + 8)
    assert start * 512 == disk.ROOT_START
    assert length * 512 == recipe.ROOT_MIB * 2**20
    assert "seek=474" in (recipe.GUEST_FILES / "initrd-init").read_text()


def test_partitions_do_not_overlap_and_fill_the_disk() -> None:
    boot, root = disk.PARTITIONS
    assert boot.start + boot.size == root.start
    assert root.start + root.size == disk.DISK_SIZE


def test_a_missing_tool_names_its_package() -> None:
    with pytest.raises(BuildFailed, match="lacks no-such-tool: apt-get install no-such-package"):
        tools.require({"no-such-tool": "no-such-package", "sh": "dash"})


def test_a_failing_tool_is_named_with_the_last_lines_it_printed() -> None:
    output = "\n".join(str(line) for line in range(9))
    assert tools.failure(["/sbin/mke2fs", "-q"], 3, output) == "mke2fs failed with exit status 3: 4; 5; 6; 7; 8"
    assert (
        tools.failure(["apt-get", "download"], 100, "")
        == "apt-get download failed with exit status 100: it printed nothing"
    )


def test_what_is_needed_on_the_host_is_a_list_of_packages() -> None:
    assert recipe.BUILD_PACKAGES == ("apt", "dpkg", "e2fsprogs", "qemu-utils")
