"""Builds Placet's small guest image from Debian packages: `python -m placet.guestimage OUT.qcow2`.

The way of a build, a module each, and `build` runs them in this order:

    recipe      what goes in: packages, programs, kernel modules, sizes
    packages    names -> .deb files in the cache -> unpacked trees
    rootfs      programs, the libraries they need, `guest/`'s scripts -> the root's directory
    kernel      the kernel modules, the initramfs
    disk        partition table, boot loader, file systems -> qcow2

Nothing is mounted, nothing is installed on the host: what Debian's tools can't do on plain files isn't done.
The scripts in `guest/` are the guest's half: initrd-init, then inittab tells what runs.
"""
