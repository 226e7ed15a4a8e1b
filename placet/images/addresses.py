"""From which hosts and addresses an image may come. Pure: names are looked up, and addresses connected to, elsewhere.

A host is asked only when its name is on the list (if there is one) and every address that its name leads to may be
asked. The addresses of metadata services are never asked: what they say of a node is no guest's business.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from placet.errors import Fault

Ip = IPv4Address | IPv6Address

# IANA's special-purpose registries (RFC 6890); what clouds use for metadata beside the link-local address
NEVER = {
    "an unspecified address": ("0.0.0.0/8", "::/128"),
    "a link-local address": ("169.254.0.0/16", "fe80::/10"),
    "a multicast address": ("224.0.0.0/4", "ff00::/8"),
    "a reserved or broadcast address": ("240.0.0.0/4",),
    "an address of local-use NAT64": ("64:ff9b:1::/48",),  # which IPv4 address it leads to, only that NAT knows
    "a metadata service": (
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::254/128",  # Amazon
        "fd20:ce::254/128",  # Google
    ),
}
_NEVER = [(ipaddress.ip_network(text), reason) for reason, texts in NEVER.items() for text in texts]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1


@dataclass(frozen=True)
class HostRules:
    """`hosts` are exact names, addresses, or `.suffix` for all names below it; none at all stands for any host."""

    hosts: tuple[str, ...] = ()

    def check_host(self, image: str, host: str) -> None:
        """Raises Fault `image-refused` when this name may not be asked; `image` is for its message."""
        if not self.hosts or host in self.hosts:
            return
        if not any(entry.startswith(".") and host.endswith(entry) for entry in self.hosts):
            raise Fault(
                "image-refused",
                f"image {image}: host {host} is not among image_hosts ({', '.join(self.hosts)}); "
                "add it in compute.yaml, or take the image from one of them",
            )

    def check_address(self, image: str, host: str, address: Ip) -> None:
        """Raises Fault `image-refused` when `address`, to which `host` leads, may not be asked."""
        reason = _forbidden(address)
        is_node = any(meaning.is_loopback for meaning in _meanings(address))
        if reason is None and is_node and self.hosts and host not in self.hosts:
            reason = "this node itself, and image_hosts does not name it"
        if reason is not None:
            raise Fault("image-refused", f"image {image}: {host} is {address}, {reason}; those are never asked")


def _forbidden(address: Ip) -> str | None:
    for meaning in _meanings(address):
        for network, reason in _NEVER:
            if meaning in network:
                return reason
    return None


def _meanings(address: Ip) -> Iterator[Ip]:
    """The address, and the IPv4 addresses that some IPv6 ones carry within them."""
    yield address
    if isinstance(address, IPv6Address):
        yield from (address.teredo or ())
        low = IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
            yield low
        for inner in (address.ipv4_mapped, address.sixtofour):
            if inner is not None:
                yield inner
