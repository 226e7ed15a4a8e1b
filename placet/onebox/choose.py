"""What this cloud is made of: options, what an earlier run chose, and what the machine has, into settings.

Decides only; the machine's facts come through `Machine`. What a running cloud stands on (whose etcd, whose
Placement, which libvirtd, the guests' range) can't be changed by a later run: VMs would be lost from sight.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from placet.errors import Usage
from placet.onebox.layout import StateDirectory
from placet.onebox.machine import Machine
from placet.onebox.options import ETCD_PORT, PLACEMENT_PORT, UpOptions, host_and_port, join_target
from placet.onebox.settings import EtcdSettings, LibvirtSettings, NetworkSettings, PlacementSettings, Settings

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
DEFAULT_RANGE = "198.19.0.0/16"
# where a second cloud looks for a range: sixty-four /22 (four nodes) of RFC 2544's other half
OTHER_RANGES = ipaddress.IPv4Network("198.18.0.0/16")
MACHINE_URI = "qemu:///system"
OTHER_PORTS = 10000  # added to a well-known port that is not to be had
LONGEST_SOCKET_PATH = 107  # unix(7)
PORTS_TRIED = 2000


@dataclass(frozen=True)
class Chooser:
    """What every choice may look at."""

    options: UpOptions
    state: StateDirectory
    machine: Machine

    def fresh(self, new_uuid: Callable[[], str]) -> Settings:
        """The settings of a cloud that is not there yet. Raises Usage."""
        options = self.options
        host = join_target(options.join)[0] if options.join else None
        return Settings(
            etcd=self._etcd(),
            placement=self._placement(),
            libvirt=self._libvirt(new_uuid),
            network=self._network(),
            address=options.listen or (self._towards(host) if host else LOOPBACK),
            listen=options.listen,
            joined=host is not None,
        )

    def again(self, known: Settings) -> Settings:
        """The settings of a cloud that is there, with what may change changed. Raises Usage."""
        self._refuse_what_is_fixed(known)
        options = self.options
        etcd, placement = known.etcd, known.placement
        if options.etcd_port is not None:
            etcd = replace(etcd, port=options.etcd_port, peer_port=options.etcd_port + 1)
        etcd = replace(
            etcd,
            ca=options.etcd_ca or etcd.ca,
            cert=options.etcd_cert or etcd.cert,
            key=options.etcd_key or etcd.key,
        )
        placement = replace(
            placement,
            url=_url(options.placement_port) if options.placement_port else placement.url,
            database=options.placement_db or placement.database,
            workers=options.placement_workers or placement.workers,
        )
        listen = options.listen or known.listen
        _check_tls(etcd)
        _check_workers(placement)
        return replace(known, etcd=etcd, placement=placement, listen=listen, address=options.listen or known.address)

    def _etcd(self) -> EtcdSettings:
        options = self.options
        if options.join:
            host, port, _ = join_target(options.join)
            found = EtcdSettings(host, port)
        elif options.etcd:
            host, port = host_and_port(options.etcd, "--etcd")
            found = EtcdSettings(host, port)
        else:
            found = self._own_etcd()
        found = replace(found, ca=options.etcd_ca, cert=options.etcd_cert, key=options.etcd_key)
        _check_tls(found)
        return found

    def _own_etcd(self) -> EtcdSettings:
        port = self._pair(self.options.etcd_port, ETCD_PORT)
        return EtcdSettings(LOOPBACK, port, peer_port=port + 1)

    def _placement(self) -> PlacementSettings:
        options = self.options
        if options.join:
            host, _, port = join_target(options.join)
            return PlacementSettings(options.placement or f"http://{host}:{port}")
        if options.placement:
            return PlacementSettings(options.placement)
        port = options.placement_port or self._free(PLACEMENT_PORT)
        database = options.placement_db or f"sqlite:///{self.state.root}/placement/placement.db"
        found = PlacementSettings(_url(port), database, workers=options.placement_workers or 1)
        _check_workers(found)
        return found

    def _libvirt(self, new_uuid: Callable[[], str]) -> LibvirtSettings:
        # one agent per hypervisor: the machine's goes to the machine's first cloud
        if self.state.is_default and not self.options.own_libvirt and self.machine.libvirt_answers():
            return LibvirtSettings(MACHINE_URI)
        if len(str(self.state.libvirt_socket)) > LONGEST_SOCKET_PATH:
            raise Usage(
                f"{self.state.libvirt_socket}: no program can reach a socket whose path is over "
                f"{LONGEST_SOCKET_PATH} bytes; choose a shorter PLACET_STATE_DIR"
            )
        return LibvirtSettings(f"qemu+unix:///system?socket={self.state.libvirt_socket}", host_uuid=new_uuid())

    def _network(self) -> NetworkSettings:
        tag = self.state.tag
        name, bridge = ("placet", "placet0") if not tag else (f"placet-{tag}", f"placet-{tag}")
        # a node that joins has to take its /24 from the cloud's range
        wanted = self.options.network or (DEFAULT_RANGE if self.options.join else self._free_range())
        return NetworkSettings(wanted, name, bridge)

    def _free_range(self) -> str:
        used = self.machine.networks()
        first = [ipaddress.IPv4Network(DEFAULT_RANGE)] if self.state.is_default else []
        for candidate in first + self._turned(list(OTHER_RANGES.subnets(new_prefix=22))):
            if not any(candidate.overlaps(network) for network in used):
                return str(candidate)
        raise Usage("198.18.0.0/15 is in use on this machine: give the guests another range with --network CIDR")

    def _free(self, port: int) -> int:
        found = (each for each in self._candidates(port) if self.machine.port_is_free(LOOPBACK, each))
        return _first(found, port)

    def _pair(self, wanted: int | None, port: int) -> int:
        if wanted is not None:
            return wanted
        free = self.machine.port_is_free
        found = (each for each in self._candidates(port) if free(LOOPBACK, each) and free(LOOPBACK, each + 1))
        return _first(found, port)

    def _candidates(self, port: int) -> list[int]:
        """The well-known port, for the machine's first cloud alone, then others."""
        others = list(range(port + OTHER_PORTS, port + OTHER_PORTS + PORTS_TRIED, 10))
        return [port, *others] if self.state.is_default else self._turned(others)

    def _turned(self, choices: list[T]) -> list[T]:
        """The choices in an order of this cloud's own, so that two clouds seldom want the same even when the other
        one is not running; the default cloud takes the first that is free."""
        if self.state.is_default:
            return choices
        start = int(hashlib.sha256(str(self.state.root).encode()).hexdigest(), 16) % len(choices)
        return choices[start:] + choices[:start]

    def _towards(self, host: str) -> str:
        try:
            return self.machine.address_towards(host)
        except OSError as problem:
            raise Usage(f"--join {host}: {problem.strerror}; is the name right, and is there a route?") from problem

    def _refuse_what_is_fixed(self, known: Settings) -> None:
        options = self.options
        asked = {
            "--join": options.join and join_target(options.join)[:2] != (known.etcd.host, known.etcd.port),
            "--etcd": options.etcd and host_and_port(options.etcd, "--etcd") != (known.etcd.host, known.etcd.port),
            "--etcd-port": options.etcd_port and not known.etcd.ours,
            "--placement": options.placement and options.placement != known.placement.url,
            "--placement-port": options.placement_port and not known.placement.ours,
            "--placement-db": options.placement_db and options.placement_db != known.placement.database,
            "--own-libvirt": options.own_libvirt and not known.libvirt.ours,
            "--network": options.network and options.network != known.network.range,
        }
        changed = [name for name, differs in asked.items() if differs]
        if changed:
            raise Usage(
                f"{', '.join(changed)}: the cloud in {self.state.root} stands on something else; "
                "remove it first (./up.sh destroy), or make another one beside it: PLACET_STATE_DIR=/elsewhere ./up.sh"
            )


def check_range(text: str) -> None:
    """Raises Usage where it is no IPv4 network that a node can have a /24 of."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as problem:
        raise Usage(f"--network {text}: {problem}") from problem
    if network.prefixlen > 24:
        raise Usage(f"--network {text}: each node takes a /24 of it, so it has to be /24 or wider")


def remarks(settings: Settings, state: StateDirectory) -> list[str]:
    """What a person should be told of the choices."""
    found = []
    if settings.listen:
        found.append(
            f"etcd listens on {settings.listen}: "
            + ("whoever holds a certificate" if settings.etcd.ca else "whoever reaches it")
            + " owns every node."
        )
    if state.is_default and settings.etcd.ours and settings.etcd.port == ETCD_PORT + OTHER_PORTS:
        found.append(f"{ETCD_PORT} was in use when this cloud was made; what uses it was left alone.")
    return found


def join_command(settings: Settings) -> str:
    """What brings another machine's node to this cloud."""
    join = f"./up.sh --join {settings.listen}:{settings.etcd.port}:{settings.placement.url.rsplit(':', 1)[1]}"
    return join if settings.network.range == DEFAULT_RANGE else f"{join} --network {settings.network.range}"


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _first(found: Iterator[int], port: int) -> int:
    free = next(found, None)
    if free is None:
        raise Usage(f"no free port found from {port + OTHER_PORTS} on: choose one, see ./up.sh up --help")
    return free


def _check_tls(etcd: EtcdSettings) -> None:
    given = [path for path in (etcd.ca, etcd.cert, etcd.key) if path]
    if given and len(given) < 3:
        raise Usage("--etcd-ca, --etcd-cert and --etcd-key belong together: give all three")


def _check_workers(placement: PlacementSettings) -> None:
    if placement.workers > 1 and (placement.database or "").startswith("sqlite"):
        raise Usage(
            "--placement-workers: SQLite stands one writer; give --placement-db postgresql+psycopg2://… as well"
        )
