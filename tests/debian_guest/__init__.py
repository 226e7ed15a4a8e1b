"""Builds the Debian 12 guest of the live tests: systemd, cloud-init, qemu-guest-agent and sshd as Debian packages them.

    python -m tests.debian_guest OUT.qcow2

The way of a build, a module each, and `build` runs them in this order:

    recipe      what goes in: packages, settings, sizes
    apt         whom mmdebstrap asks for packages: whom this machine asks
    root        mmdebstrap, then the recipe's settings -> the root's directory
    disk        partition table, boot loader, file systems -> qcow2

cloud-init is Debian's own, with Debian's own cloud.cfg and list of data sources: which of them is there, it finds out
as in any other Debian guest. What the recipe sets only saves boot time, which matters where a processor is emulated.
"""
