"""What a hypervisor is and can, from libvirt's capabilities and the CPU's own flags."""

from __future__ import annotations

from pathlib import Path

from placet.drivers.libvirt.traits import traits_of
from placet.drivers.libvirt.xml import Element, parse
from placet.errors import Refused
from placet.hypervisor import Hypervisor

CPUINFO = Path("/proc/cpuinfo")
VIRTUALISATION_FLAGS = frozenset({"vmx", "svm"})


def describe(capabilities: str, wanted: str | None, flags: frozenset[str] | None = None) -> Hypervisor:
    """Raises Refused when `wanted` is not on offer. `flags` are the CPU's; None reads this machine's."""
    root = parse(capabilities)
    cpu_flags = read_cpu_flags() if flags is None else flags
    virt_type = choose_virt_type(_domain_types(root), wanted, cpu_flags)
    return Hypervisor(
        uuid=root.findtext("host/uuid", ""),
        driver="libvirt",
        virt_type=virt_type,
        traits=traits_of(root.findtext("host/cpu/arch", ""), virt_type, cpu_flags),
    )


def choose_virt_type(offered: list[str], wanted: str | None, cpu_flags: frozenset[str]) -> str:
    """kvm where the CPU really virtualises (a /dev/kvm alone proves nothing), else QEMU's emulation."""
    if wanted is not None:
        if wanted not in offered:
            raise Refused(f"virt_type: libvirt offers {', '.join(offered)}, not {wanted!r}; mend it in compute.yaml")
        return wanted
    if "kvm" in offered and cpu_flags & VIRTUALISATION_FLAGS:
        return "kvm"
    return "qemu" if "qemu" in offered or not offered else offered[0]


def read_cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The flags of this machine's first CPU."""
    for line in cpuinfo.read_text().splitlines():
        name, _, words = line.partition(":")
        if name.strip() == "flags":
            return frozenset(words.split())
    return frozenset()


def _domain_types(root: Element) -> list[str]:
    types = (domain.get("type", "") for domain in root.iterfind("guest[os_type='hvm']/arch/domain"))
    return list(dict.fromkeys(types))
