"""What guests may send on the NAT network, as an nftables ruleset (nft(8), https://wiki.nftables.org). Pure.

A guest sends from its own MAC and addresses only, answers for those alone (ARP, neighbour advertisements), serves no
DHCP and advertises no router. Its port on the bridge is known by its name, which follows from its MAC, so that the
rules are there before the port is.

Why not libvirt's nwfilter: it starts a process for each rule and chain. Its `clean-traffic` with explicit addresses
makes a start 1.2 s longer and an end 0.8 s, a filter of the fewest rules 0.4 s and 0.3 s, ten at once 6 s; and it can't
look into a neighbour advertisement. One transaction of nft takes 0.01 s, for all guests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Address

from placet.drivers.libvirt.reservations import Reservation
from placet.networks import link_local_of

PORT_PREFIX = "pl-"  # and the MAC's 12 digits: 15, as many as Linux takes

# ahead of what else may look at bridged frames; libvirt and ebtables are at -300
CHAINS = """\
    chain received {
        type filter hook prerouting priority -400; policy accept;
        iifname @ports jump guest
    }
    chain guest {
        iifname . ether saddr != @macs drop
        ether type vmap { 0x0806 : goto resolution, 0x0800 : goto packets, 0x86dd : goto packets6 }
        drop
    }
    chain resolution {
        iifname . arp saddr ether != @macs drop
        iifname . arp saddr ip @addresses accept
        arp operation request arp saddr ip 0.0.0.0 accept
        drop
    }
    chain packets {
        udp sport 67 drop
        udp dport 68 drop
        iifname . ip saddr @addresses accept
        ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
        drop
    }
    chain packets6 {
        udp sport 547 drop
        udp dport 546 drop
        icmpv6 type { nd-router-advert, nd-redirect } drop
        icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets drop
        iifname . ip6 saddr @addresses6 accept
        ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept
        drop
    }
"""


def port_of(mac: str) -> str:
    """The name of the network device by which a NIC is on the bridge."""
    return PORT_PREFIX + mac.replace(":", "")


def table_of(bridge: str) -> str:
    """The table of the guests on this bridge; several clouds on one machine have a bridge each."""
    return f"bridge placet-{bridge}"


def build_rules(bridge: str, reservations: Iterable[Reservation]) -> str:
    """All rules of one bridge, in place of what there is of them: nft takes the whole document or nothing of it."""
    found = list(reservations)
    sets = (
        _set("ports", "type ifname", (f'"{port_of(one.mac)}"' for one in found)),
        _set("macs", "type ifname . ether_addr", _pairs(found, lambda one: [one.mac])),
        _set("addresses", "type ifname . ipv4_addr", _pairs(found, lambda one: [one.ip])),
        _set("addresses6", "type ifname . ipv6_addr", _pairs(found, addresses6_of)),
        # the same as nft's numbers: it has no name for this field of an advertisement (RFC 4861, 4.4)
        _set("targets", "typeof iifname . @th,64,128", _pairs(found, lambda one: map(_number, addresses6_of(one)))),
    )
    return f"{build_removal(bridge)}table {table_of(bridge)} {{\n{''.join(sets)}{CHAINS}}}\n"


def build_removal(bridge: str) -> str:
    """Nothing in place of the rules of one bridge, whether there are any or not."""
    return f"table {table_of(bridge)}\ndelete table {table_of(bridge)}\n"


def addresses6_of(reservation: Reservation) -> list[IPv6Address]:
    """Those that a NIC may send from. Of the link-local ones it is the one made of its MAC (EUI-64): by that the
    metadata service knows a guest."""
    own = [link_local_of(reservation.mac)]
    return own if reservation.ip6 is None else [*own, reservation.ip6]


def _pairs(reservations: Iterable[Reservation], things_of: Callable[[Reservation], Iterable[object]]) -> Iterator[str]:
    for one in reservations:
        for thing in things_of(one):
            yield f'"{port_of(one.mac)}" . {thing}'


def _set(name: str, kind: str, elements: Iterable[str]) -> str:
    listed = ", ".join(elements)
    inside = f" elements = {{ {listed} }};" if listed else ""
    return f"    set {name} {{ {kind};{inside} }}\n"


def _number(address: IPv6Address) -> str:
    return f"0x{int(address):032x}"
