"""What the drivers' contract suite needs of a hypervisor, for each driver: to make drivers on it, and to disturb it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from random import Random
from typing import Protocol

import libvirt

from placet.compute_config import FakeConfig
from placet.drivers import Driver
from placet.drivers.fake import FakeDomain, FakeDriver, FakeHypervisor
from placet.drivers.libvirt import LibvirtConnection, LibvirtDriver
from placet.hypervisor import CachedImage, Network, Owner
from placet.model import ImageRef, Nic, Spec
from placet.networks import mac_of
from tests.lab.hosts import Host

MIB = 2**20
OWNER = Owner(cloud="the-cloud", node="the-node")
SUBNET = IPv4Network("198.19.7.0/24")
SUBNET6 = IPv6Network("fd00:0:0:7::/64")
SMALL_SUBNET = IPv4Network("198.19.8.0/29")


class Rig(Protocol):
    """One hypervisor. `blank` is an image that boots nothing, `bootable` one whose guest takes its address."""

    uuid: str
    blank: CachedImage
    bootable: CachedImage

    def driver(self, subnet: IPv4Network = SUBNET, subnet6: IPv6Network | None = None) -> Driver:
        """A new driver, as a restarted agent would make."""

    def define_foreign_domain(self) -> str:
        """A domain that somebody else made; its UUID."""

    def exists(self, instance: str) -> bool:
        """Whether there is a domain of this UUID, whosever it is."""

    def cut_disk_off(self, spec: Spec) -> None:
        """Leave what a create_disk leaves that was killed in the middle."""

    def write_console(self, instance: str, data: bytes) -> None:
        """Let something stand in a console's log, behind what is there."""

    def clear(self) -> None:
        """Remove all that a test made."""


class Changes:
    """Collects what a driver calls out."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._wake = threading.Condition()

    def add(self, instance: str) -> None:
        with self._wake:
            self._heard.append(instance)
            self._wake.notify_all()

    def expect(self, instance: str, doing: Callable[[], object], within_s: float = 90) -> None:
        """Fails unless a call about `instance` comes during or after `doing`."""
        count = len(self._heard)
        doing()
        with self._wake:
            assert self._wake.wait_for(lambda: instance in self._heard[count:], within_s), "no changed() came"

    def lead_to(self, condition: Callable[[], bool], within_s: float = 180) -> None:
        """Fails unless the condition holds at one of the looks that calls give reason for."""
        deadline = time.monotonic() + within_s
        while True:
            count = len(self._heard)
            if condition():
                return
            assert self._comes(count, deadline - time.monotonic()), f"no changed() led to it within {within_s} s"

    def _comes(self, count: int, within_s: float) -> bool:
        with self._wake:
            return self._wake.wait_for(lambda: len(self._heard) > count, within_s)


def eventually(condition: Callable[[], object], within_s: float = 120, every_s: float = 0.02) -> None:
    """Fails unless the condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(every_s)


def new_spec(disk_gb: int = 1) -> Spec:
    """A small instance."""
    instance = str(uuid.uuid4())
    return Spec(
        instance=instance,
        node=OWNER.node,
        name="vm",
        image=ImageRef("/images/mini.qcow2"),
        allocations={OWNER.node: {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": disk_gb}},
        nics=(Nic(mac_of(instance)),),
        created_at=0.0,
        request_id="request",
    )


class FakeRig:
    """The fake hypervisor: everything boots."""

    blank = bootable = CachedImage(Path("/images/fake.qcow2"), "qcow2", 64 * MIB)

    def __init__(self) -> None:
        self.uuid = str(uuid.uuid4())
        self._hypervisor = FakeHypervisor(self.uuid)

    def driver(self, subnet: IPv4Network = SUBNET, subnet6: IPv6Network | None = None) -> Driver:
        network = Network("fake", "fake0", subnet, subnet6=subnet6)
        return FakeDriver(self._hypervisor, OWNER, network, FakeConfig(boot_s=0.5), Random(1))

    def define_foreign_domain(self) -> str:
        instance = str(uuid.uuid4())
        self._hypervisor.domains[instance] = FakeDomain(owner=None)
        return instance

    def exists(self, instance: str) -> bool:
        return instance in self._hypervisor.domains

    def cut_disk_off(self, spec: Spec) -> None:
        """It has no middle."""

    def write_console(self, instance: str, data: bytes) -> None:
        self._hypervisor.domains[instance].console += data

    def clear(self) -> None:
        """It is not used twice."""


class LibvirtRig:
    """A libvirtd on an isolated host."""

    def __init__(self, host: Host, bootable: CachedImage) -> None:
        self.host = host
        self.uuid = host.uuid
        self.directory = host.directory / "state"
        self.directory.mkdir(mode=0o711)
        self.instances_dir = self.directory / "instances"
        self.bootable = bootable
        self.blank = CachedImage(self.directory / "blank.qcow2", "qcow2", MIB)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.blank.path, str(MIB)], check=True)
        self._drivers: list[LibvirtDriver] = []

    def driver(self, subnet: IPv4Network = SUBNET, subnet6: IPv6Network | None = None) -> LibvirtDriver:
        return self.make(Network(f"net{subnet.prefixlen}", f"br{subnet.prefixlen}", subnet, subnet6=subnet6))

    def make(
        self,
        network: Network,
        owner: Owner = OWNER,
        instances_dir: Path | None = None,
        resize: bool = True,
        second_bridge: str | None = None,
    ) -> LibvirtDriver:
        """A driver in which something is unusual."""
        directory = instances_dir or (self.instances_dir / network.name)
        driver = LibvirtDriver(LibvirtConnection(self.host.uri), directory, owner, network, resize, second_bridge)
        self._drivers.append(driver)
        return driver

    def define_foreign_domain(self) -> str:
        instance = str(uuid.uuid4())
        head = f"<domain type='qemu'><name>theirs</name><uuid>{instance}</uuid>"
        with self.connected() as libvirtd:
            libvirtd.defineXML(f"{head}<memory>65536</memory><os><type>hvm</type></os></domain>")
        return instance

    def exists(self, instance: str) -> bool:
        with self.connected() as libvirtd:
            return instance in {domain.UUIDString() for domain in libvirtd.listAllDomains()}

    def cut_disk_off(self, spec: Spec) -> None:
        directory = self.instances_dir / f"net{SUBNET.prefixlen}" / spec.instance
        directory.mkdir(parents=True)
        (directory / "disk.part").write_bytes(b"half")
        (directory / "config.part").write_bytes(b"half")
        pool = f"<pool type='dir'><name>placet-{spec.instance}</name><target><path>{directory}</path></target></pool>"
        with self.connected() as libvirtd:
            libvirtd.storagePoolCreateXML(pool)

    def write_console(self, instance: str, data: bytes) -> None:
        log = self.instances_dir / f"net{SUBNET.prefixlen}" / instance / "console.log"
        with log.open("ab") as file:
            file.write(data)

    @contextlib.contextmanager
    def connected(self) -> Iterator[libvirt.virConnect]:
        """libvirtd itself, past any driver."""
        libvirtd = libvirt.open(self.host.uri)
        try:
            yield libvirtd
        finally:
            libvirtd.close()

    def clear(self) -> None:
        with self.connected() as libvirtd:
            for domain in libvirtd.listAllDomains():
                if domain.isActive():
                    domain.destroy()
                domain.undefine()
        for driver in self._drivers:
            with contextlib.suppress(Exception):
                for instance in driver.instances() | driver._network.reservations.all().keys():
                    driver.remove_domain(instance)
                    driver.remove_disk(instance)
            driver.close()
        self._drivers.clear()
