"""The values that pass between a node and its driver. Pure: the seam itself is placet/drivers/__init__.py."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from placet.lifecycle import Power
from placet.model import Address


@dataclass(frozen=True)
class Owner:
    """Whose a domain is: kept in its metadata, so that foreign domains are never touched."""

    cloud: str
    node: str


@dataclass(frozen=True)
class Network:
    """The node's NAT network: its libvirt name, its bridge, and the /24 that this node owns."""

    name: str
    bridge: str
    subnet: IPv4Network
    lease_minutes: int = 10


@dataclass(frozen=True)
class Hypervisor:
    """The machine that runs guests. `uuid` is libvirt's host UUID; `traits` are os-traits names."""

    uuid: str
    driver: str
    virt_type: str
    traits: frozenset[str]


@dataclass(frozen=True)
class CachedImage:
    """An image on this node, ready to be a backing file: never written to again, and readable by QEMU's user."""

    path: Path
    format: str
    virtual_size: int


@dataclass(frozen=True)
class Observed:
    """What the hypervisor says of one instance.

    `owner` is the cloud's id in the domain's metadata: None while there is no domain, "" for a domain of
    somebody else that happens to have this UUID (which is then never touched). `addresses` holds each NIC's
    IP as far as it is known, reserved or confirmed. `agent` tells whether the guest agent holds its channel open.
    """

    power: Power
    has_disk: bool = False
    owner: str | None = None
    addresses: tuple[Address, ...] = ()
    agent: bool = False
