"""What libvirt's XML of a domain says about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from placet.drivers.libvirt.domain_xml import AGENT_CHANNEL, INSTANCE_XMLNS
from placet.drivers.libvirt.xml import parse
from placet.hypervisor import Owner
from placet.model import Nic


@dataclass(frozen=True)
class DomainFacts:
    """`owner` is None where the domain is not ours to touch: it carries no mark, or that of another program."""

    owner: Owner | None
    nics: tuple[Nic, ...]
    agent: bool


def read_domain(text: str) -> DomainFacts:
    """Owner, NICs, and whether the guest's agent holds its channel open (known of a running domain only)."""
    root = parse(text)
    mark = root.find(f"metadata/{{{INSTANCE_XMLNS}}}instance")
    owner = None if mark is None else Owner(cloud=mark.get("cloud", ""), node=mark.get("node", ""))
    nics = tuple(
        Nic(mac=mac.get("address", ""), network="bridge" if interface.get("type") == "bridge" else "default")
        for interface in root.iterfind("devices/interface")
        if (mac := interface.find("mac")) is not None
    )
    channel = root.find(f"devices/channel/target[@name='{AGENT_CHANNEL}']")
    return DomainFacts(owner, nics, agent=channel is not None and channel.get("state") == "connected")
