"""The facts that a guest's documents are made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from placet.model import GuestFile, Nic, Spec
from placet.node_records import Address

DEFAULT_NETWORK = "default"
REGION = "placet"


@dataclass(frozen=True)
class GuestRecord:
    """What the metadata service knows of one guest: which addresses are its, and what the documents are made from.

    One file an instance (placet/guest_records.py), in placet.model's JSON. Amounts have Placement's units.
    `metadata_tokens` is `optional` or `required`: whether the service wants an IMDSv2 token. `ipv6` tells whether
    the default network has an IPv6 address for it: only then is it told to ask for one.
    """

    instance: str
    name: str
    hostname: str
    project: str
    image: str
    nics: tuple[Nic, ...]
    created_at: float
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    addresses: tuple[Address, ...] = ()
    ipv6: bool = False
    keys: tuple[str, ...] = ()
    user_data: str = ""
    user_data_encoding: str = "utf-8"
    files: tuple[GuestFile, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    metadata_tokens: str = "optional"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def macs(self) -> tuple[str, ...]:
        return tuple(nic.mac for nic in self.nics)

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses by which the metadata service knows this guest."""
        return tuple(address.ip for address in self.addresses)

    def ips_of(self, mac: str | None = None, *, ipv6: bool = False) -> tuple[str, ...]:
        """Those of one family, of one NIC or of all."""
        return tuple(a.ip for a in self.addresses if mac in (None, a.mac) and is_ipv6(a.ip) == ipv6)


def guest_record(
    spec: Spec, addresses: Iterable[Address] = (), *, ipv6: bool = False, nics: Sequence[Nic] = ()
) -> GuestRecord:
    """The record of a spec's guest.

    Of `addresses` only those of the node's own network are kept: what a guest says of its bridge is no proof of who
    it is, and another guest's address there would make it that guest. An IPv6 one among them implies `ipv6`. `nics`
    are the domain's, where it has more than the spec's.
    """
    own = tuple(address for address in addresses if address.network == DEFAULT_NETWORK)
    return GuestRecord(
        instance=spec.instance,
        name=spec.name,
        hostname=spec.hostname or spec.name,
        project=spec.project,
        image=spec.image.source,
        nics=tuple(nics) or spec.nics,
        created_at=spec.created_at,
        vcpus=spec.amount("VCPU"),
        memory_mb=spec.amount("MEMORY_MB"),
        disk_gb=spec.amount("DISK_GB"),
        addresses=own,
        ipv6=ipv6 or any(is_ipv6(address.ip) for address in own),
        keys=tuple(key.strip() for key in spec.keys),
        user_data=spec.user_data,
        user_data_encoding=spec.user_data_encoding,
        files=spec.files,
        properties=spec.properties,
        metadata_tokens=spec.metadata_tokens,
    )


def is_ipv6(ip: str) -> bool:
    return ":" in ip
