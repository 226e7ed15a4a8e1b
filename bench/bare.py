"""The bare limit: the same overlay and domain XML started with the libvirt binding alone, the IP seen the same way.

No Placement, no etcd, no queue, no checks, no fsync: what is left is what libvirt, QEMU and the guest need.
"""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import Any

import libvirt

from placet import configdrive
from placet.drivers.libvirt.disks import build_pool, build_volume
from placet.drivers.libvirt.domain_xml import Host, build_domain
from placet.drivers.libvirt.files import files_of
from placet.drivers.libvirt.overlay import Backing
from placet.hypervisor import CachedImage, Owner
from placet.model import ImageRef, Nic, Spec
from placet.networks import mac_of
from placet.wiring import new_uuid

PACE_S = 0.04
TIMEOUT_S = 300.0
GIB = 2**30


class Bare:
    """VMs by the binding alone, on the network and beside the instances of a running node."""

    def __init__(self, uri: str, instances_dir: Path, network: str, image: CachedImage) -> None:
        self._libvirtd = libvirt.open(uri)
        self._instances_dir = instances_dir
        self._network_name = network
        self._network = self._libvirtd.networkLookupByName(network)
        self._image = image
        self._owner = Owner("bench", "bench")
        subnet = self._network.XMLDesc(0).split("ip address='")[1].split("'")[0]
        self._subnet = ipaddress.ip_network(f"{subnet}/24", strict=False)
        self._made: list[Spec] = []

    def prepare(self, count: int, memory_mb: int) -> list[Spec]:
        """Specs with reserved addresses: the same as Placet's, which the node would have chosen."""
        found = []
        # dnsmasq refuses an address that a guest of before still has a lease for
        leased = {lease["ipaddr"] for lease in self._network.DHCPLeases()}
        free = [address for address in list(self._subnet.hosts())[1:-1] if str(address) not in leased]
        for _ in range(count):
            instance = new_uuid()
            spec = Spec(
                instance=instance,
                node="bench",
                name=f"bare-{instance[:8]}",
                image=ImageRef(str(self._image.path)),
                allocations={"bench": {"VCPU": 1, "MEMORY_MB": memory_mb, "DISK_GB": 1}},
                nics=(Nic(mac_of(instance)),),
                created_at=time.time(),
                request_id=instance,
            )
            address = free.pop()
            reservation = self._instances_dir / "dhcp" / instance
            reservation.write_text(f"{spec.nics[0].mac},{address},10m\n")
            found.append(spec)
        self._made += found
        return found

    def start(self, spec: Spec) -> None:
        """Overlay, config drive, domain, start."""
        files = files_of(self._instances_dir, spec.instance)
        files.directory.mkdir(mode=0o711)
        files.config_drive.write_bytes(configdrive.build(spec))
        pool = self._libvirtd.storagePoolCreateXML(build_pool(spec.instance, files.directory), 0)
        pool.createXML(build_volume(files.disk.name, self._image, GIB), 0)
        pool.destroy()
        backing = Backing(self._image.path, self._image.format)
        document = build_domain(spec, self._owner, files, Host("qemu", self._network_name, None), backing)
        self._libvirtd.defineXML(document).create()

    def wait(self, specs: list[Spec]) -> None:
        """Until each has its lease."""
        waiting = {spec.nics[0].mac for spec in specs}
        deadline = time.monotonic() + TIMEOUT_S
        while waiting:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(waiting)} VMs have no lease after {TIMEOUT_S} s")
            leases: list[dict[str, Any]] = self._network.DHCPLeases()
            waiting -= {lease["mac"] for lease in leases}
            if waiting:
                time.sleep(PACE_S)

    def clear(self) -> None:
        """Remove all that was made."""
        for spec in self._made:
            domain = self._libvirtd.lookupByUUIDString(spec.instance)
            domain.destroy()
            domain.undefine()
            files = files_of(self._instances_dir, spec.instance)
            for path in files.directory.iterdir():
                path.unlink()
            files.directory.rmdir()
            (self._instances_dir / "dhcp" / spec.instance).unlink()
        self._made.clear()

    def close(self) -> None:
        """Let go of libvirtd."""
        self._libvirtd.close()
