"""What this machine already has: ports in use, networks, a libvirtd, KVM, systemd. Only looks."""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

import psutil

KVM = Path("/dev/kvm")
MACHINE_LIBVIRT_SOCKET = Path("/run/libvirt/libvirt-sock")


class Machine:
    """The questions that choose.py asks; a test answers them from a table."""

    def port_is_free(self, address: str, port: int) -> bool:
        """Whether a server could bind it now."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
        return True

    def networks(self) -> list[ipaddress.IPv4Network]:
        """The IPv4 networks that this machine has routes to, the default route left out."""
        rows = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
        found = (_network(row[1], row[7]) for row in rows)
        return [network for network in found if network.prefixlen > 0]

    def libvirt_answers(self) -> bool:
        """Whether the machine's own libvirtd (or the systemd socket that starts it) takes connections."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(MACHINE_LIBVIRT_SOCKET))
            except OSError:
                return False
        return True

    def address_towards(self, host: str) -> str:
        """This machine's address on the way to `host`. Raises OSError."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return str(probe.getsockname()[0])


def who_listens(port: int) -> str:
    """The program that holds a port, as far as it can be seen."""
    listening = (each for each in psutil.net_connections("inet") if each.status == psutil.CONN_LISTEN)
    pid = next((each.pid for each in listening if tuple(each.laddr)[1:] == (port,)), None)
    try:
        return f"{psutil.Process(pid).name()}, pid {pid}" if pid else "another program"
    except psutil.NoSuchProcess:
        return "another program"


def has_systemd() -> bool:
    """sd_booted(3): whether systemd is what runs this machine, not merely installed."""
    return Path("/run/systemd/system").is_dir()


def has_false_kvm() -> bool:
    """Whether there is a /dev/kvm that can't be real, as the CPU has neither VMX nor SVM."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return KVM.exists() and "vmx" not in flags and "svm" not in flags


def _network(destination: str, mask: str) -> ipaddress.IPv4Network:
    # the kernel prints these as hexadecimal numbers of the machine's byte order
    address, netmask = (ipaddress.IPv4Address(struct.pack("=L", int(word, 16))) for word in (destination, mask))
    return ipaddress.IPv4Network((str(address), str(netmask)), strict=False)
