"""The domain of an instance, as libvirt's XML: https://libvirt.org/formatdomain.html. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from placet import configdrive, smbios
from placet.drivers.libvirt.files import InstanceFiles
from placet.drivers.libvirt.filter_rules import port_of
from placet.drivers.libvirt.overlay import Backing
from placet.drivers.libvirt.xml import Element, add, to_text
from placet.errors import Fault
from placet.hypervisor import Owner
from placet.model import Nic, Spec
from placet.networks import mac_of

INSTANCE_XMLNS = "https://placet.dev/xmlns/instance/1"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
TRANSLATION_CACHE_MIB = 32  # TCG's default grows a guest by 40 MiB and boots no faster


@dataclass(frozen=True)
class Host:
    """What a node's domains have in common: `network` is the NAT network's name, `bridge` the second NIC's, if any."""

    virt_type: str
    network: str
    bridge: str | None = None


def build_domain(spec: Spec, owner: Owner, files: InstanceFiles, host: Host, backing: Backing | None = None) -> str:
    """The whole document; `backing` is what the disk lies on. Raises Fault `no-bridge` for a NIC that can't be."""
    root = Element("domain", type=host.virt_type)
    add(root, "name", spec.instance)
    add(root, "uuid", spec.instance)
    add(add(root, "metadata"), f"{{{INSTANCE_XMLNS}}}instance", cloud=owner.cloud, node=owner.node)
    add(root, "memory", spec.amount("MEMORY_MB"), unit="MiB")
    add(root, "vcpu", spec.amount("VCPU"))
    _add_machine(root, host.virt_type)
    _add_system_information(root, spec)
    devices = add(root, "devices")
    _add_disk(devices, files, backing)
    if spec.config_drive != configdrive.NONE:
        _add_config_drive(devices, files)
    for nic in nics_of(spec, host.bridge):
        _add_nic(devices, nic, host)
    _add_console(devices, files)
    _add_agent_channel(devices)
    _add_small_devices(devices)
    return to_text(root)


def nics_of(spec: Spec, bridge: str | None) -> tuple[Nic, ...]:
    """The domain's NICs: the spec's, and one on the node's bridge where there is one and the spec names none for it."""
    on_bridge = [nic for nic in spec.nics if nic.network == "bridge"]
    if on_bridge and bridge is None:
        raise Fault("no-bridge", f"instance {spec.instance}: wants a NIC on a bridge; set bridge: in compute.yaml")
    if bridge is None or on_bridge:
        return spec.nics
    return (*spec.nics, Nic(mac=mac_of(spec.instance, nic=1), network="bridge"))


def _add_machine(root: Element, virt_type: str) -> None:
    system = add(root, "os")
    # q35 and not pc: without KVM a guest sets up pc's interrupt lines for a second
    add(system, "type", "hvm", arch="x86_64", machine="q35")
    add(system, "boot", dev="hd")
    add(system, "smbios", mode="sysinfo")
    features = add(root, "features")
    add(features, "acpi")
    add(features, "apic")
    if virt_type == "kvm":
        add(root, "cpu", mode="host-passthrough", migratable="on")
    else:
        add(add(features, "tcg"), "tb-cache", TRANSLATION_CACHE_MIB, unit="MiB")
        add(root, "cpu", mode="maximum")
    add(root, "clock", offset="utc")
    add(root, "on_poweroff", "destroy")
    add(root, "on_reboot", "restart")
    add(root, "on_crash", "destroy")


def _add_system_information(root: Element, spec: Spec) -> None:
    system = add(add(root, "sysinfo", type="smbios"), "system")
    for name, value in smbios.system_information(spec).items():
        add(system, "entry", value, name=name)


def _add_disk(devices: Element, files: InstanceFiles, backing: Backing | None) -> None:
    disk = add(devices, "disk", type="file", device="disk")
    add(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    add(disk, "source", file=files.disk)
    if backing is not None:
        _add_backing(disk, backing)
    add(disk, "target", dev="vda", bus="virtio")


def _add_config_drive(devices: Element, files: InstanceFiles) -> None:
    """On virtio: the Debian cloud kernel has no driver for an emulated CD-ROM."""
    drive = add(devices, "disk", type="file", device="disk")
    add(drive, "driver", name="qemu", type="raw")
    add(drive, "source", file=files.config_drive)
    add(drive, "target", dev="vdb", bus="virtio")
    add(drive, "readonly")


def _add_backing(disk: Element, backing: Backing) -> None:
    """The image is every instance's: it is not given to QEMU's user, who then could write to it."""
    store = add(disk, "backingStore", type="file")
    add(store, "format", type=backing.format)
    add(add(store, "source", file=backing.path), "seclabel", model="dac", relabel="no")
    add(store, "backingStore")


def _add_nic(devices: Element, nic: Nic, host: Host) -> None:
    bridged = nic.network == "bridge"
    interface = add(devices, "interface", type="bridge" if bridged else "network")
    add(interface, "mac", address=nic.mac)
    add(interface, "source", **({"bridge": host.bridge} if bridged else {"network": host.network}))
    if not bridged:
        add(interface, "target", dev=port_of(nic.mac))
    add(interface, "model", type="virtio")
    add(interface, "rom", enabled="no")  # no network boot, so no wait for one


def _add_console(devices: Element, files: InstanceFiles) -> None:
    serial = add(devices, "serial", type="pty")
    add(serial, "log", file=files.console_log, append="on")
    add(serial, "target", port=0)


def _add_agent_channel(devices: Element) -> None:
    channel = add(devices, "channel", type="unix")
    add(channel, "target", type="virtio", name=AGENT_CHANNEL)


def _add_small_devices(devices: Element) -> None:
    add(add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    add(devices, "memballoon", model="virtio")
    add(devices, "controller", type="usb", model="none")
    add(add(devices, "video"), "model", type="none")
