"""The libvirt driver: step 4 of a request's way, for real. Each call is one session with libvirtd."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import libvirt

from placet import configdrive
from placet.drivers.libvirt.agent_watch import AgentWatch
from placet.drivers.libvirt.connection import LibvirtConnection
from placet.drivers.libvirt.console import read_console
from placet.drivers.libvirt.disks import Disks
from placet.drivers.libvirt.domain_facts import DomainFacts
from placet.drivers.libvirt.domain_xml import Host, build_domain, nics_of
from placet.drivers.libvirt.domains import REMOVE_ALL, facts_of, find, find_own, own_instances, power_of, unless_done
from placet.drivers.libvirt.errors import is_code
from placet.drivers.libvirt.events import DomainEvents
from placet.drivers.libvirt.files import directories, files_of
from placet.drivers.libvirt.guest_agent import Told, ask_addresses
from placet.drivers.libvirt.lease_watch import LeaseWatch
from placet.drivers.libvirt.leases import Expectation, recall_leases, remember_leases
from placet.drivers.libvirt.network import NatNetwork
from placet.drivers.libvirt.observation import reserved_addresses, with_agents_word, worth_asking
from placet.drivers.libvirt.overlay import backing_files, read_backing
from placet.errors import Fault
from placet.hypervisor import CachedImage, ConsolePiece, Hypervisor, Network, Observed, Owner
from placet.lifecycle import Power
from placet.model import Nic, Spec
from placet.node_records import Address

RESERVATIONS_DIR = "dhcp"


class LibvirtDriver:
    """Runs guests through one libvirtd on this machine; see placet.drivers.Driver for what each call promises."""

    name = "libvirt"

    def __init__(
        self,
        connection: LibvirtConnection,
        instances_dir: Path,
        owner: Owner,
        network: Network,
        resize: bool = True,
        second_bridge: str | None = None,
    ) -> None:
        """`resize=False` keeps an image's own size; guests get a second NIC on `second_bridge`, if there is one."""
        self._connection = connection
        self._instances_dir = instances_dir
        self._owner = owner
        self._network_name = network.name
        self._second_bridge = second_bridge
        self._disks = Disks(connection, instances_dir, resize)
        self._network = NatNetwork(connection, owner, network, instances_dir / RESERVATIONS_DIR)
        self._subscriber: Callable[[str], None] = lambda _instance: None
        self._lease_watch = LeaseWatch(self._network.leases, self._expectation, self._changed)
        self._agents = AgentWatch(self._ask, self._changed)

    def describe(self) -> Hypervisor:
        return self._connection.describe()

    def prepare(self) -> None:
        self._instances_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._network.prepare()

    def instances(self) -> frozenset[str]:
        with self._connection.session("list domains") as libvirtd:
            return own_instances(libvirtd, self._owner) | directories(self._instances_dir)

    def observe(self, instance: str) -> Observed:
        has_disk = files_of(self._instances_dir, instance).disk.exists()
        with self._connection.session(f"look at instance {instance}") as libvirtd:
            domain = find(libvirtd, instance)
            if domain is None:
                return Observed(Power.ABSENT, has_disk)
            try:
                return self._observe(domain, instance, has_disk)
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                    return Observed(Power.ABSENT, has_disk)
                raise

    def create_disk(self, spec: Spec, image: CachedImage) -> None:
        self._disks.create(spec, image, self._config_drive(spec))

    def images_in_use(self) -> frozenset[Path]:
        disks = [files_of(self._instances_dir, instance).disk for instance in directories(self._instances_dir)]
        return frozenset(image for disk in disks for image in backing_files(disk))

    def define(self, spec: Spec) -> None:
        host = Host(self.describe().virt_type, self._network_name, self._second_bridge)
        files = files_of(self._instances_dir, spec.instance)
        document = build_domain(spec, self._owner, files, host, read_backing(files.disk))
        macs = _macs_on_nat(nics_of(spec, self._second_bridge))
        with self._connection.session(f"define instance {spec.instance}") as libvirtd:
            find_own(libvirtd, spec.instance, self._owner)
            self._network.reservations.reserve(spec.instance, macs)
            libvirtd.defineXML(document)

    def start(self, instance: str) -> None:
        files = files_of(self._instances_dir, instance)
        with self._connection.session(f"start instance {instance}") as libvirtd:
            domain = find_own(libvirtd, instance, self._owner)
            if domain is None:
                raise Fault("domain-missing", f"instance {instance}: the node has no domain of it to start")
            if domain.isActive():
                return
            if not files.disk.exists():
                raise Fault("disk-missing", f"instance {instance}: {files.disk} is gone; restore it from a backup")
            # what has no reservation (any more) would be no part of the filter
            self._network.reservations.reserve(instance, _macs_on_nat(facts_of(domain).nics))
            remember_leases(files, self._network.reservations.of(instance), self._network.leases())
            self._network.guard()
            unless_done(domain.create)

    def stop(self, instance: str) -> None:
        with self._connection.session(f"stop instance {instance}") as libvirtd:
            domain = find_own(libvirtd, instance, self._owner)
            if domain is not None:
                unless_done(domain.destroy)

    def remove_domain(self, instance: str) -> None:
        with self._connection.session(f"remove instance {instance}") as libvirtd:
            domain = find_own(libvirtd, instance, self._owner)
            if domain is not None:
                unless_done(domain.destroy)
                unless_done(lambda: domain.undefineFlags(REMOVE_ALL))
        self._stopped(instance)
        self._network.release(instance)

    def remove_disk(self, instance: str) -> None:
        self._disks.remove(instance)

    def console(self, instance: str, lines: int, offset: int | None = None) -> ConsolePiece:
        return read_console(files_of(self._instances_dir, instance), lines, offset)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._subscriber = changed
        events = DomainEvents(self._wait_for_lease, self._stopped, self._agents.hurry, self._changed)
        self._connection.watch(on_open=events.register, on_return=self._look_at_all)
        self._await_all_leases()

    def close(self) -> None:
        self._lease_watch.close()
        self._agents.close()
        self._connection.close()

    def _observe(self, domain: Any, instance: str, has_disk: bool) -> Observed:
        power, facts = power_of(domain), facts_of(domain)
        if facts.owner != self._owner:
            return Observed(power, has_disk, owner="")
        addresses = self._addresses(instance, power, facts)
        return Observed(power, has_disk, self._owner.cloud, addresses, facts.agent)

    def _addresses(self, instance: str, power: Power, facts: DomainFacts) -> tuple[Address, ...]:
        """Those that are known now; whether its agent could tell more is found out meanwhile."""
        addresses = self._reserved(instance, power)
        if power is not Power.RUNNING:
            return addresses
        addresses = with_agents_word(addresses, facts.nics, self._agents.told(instance), self._network.subnets)
        if facts.agent and worth_asking(addresses, facts.nics):
            self._agents.want(instance)
        else:
            self._agents.rest(instance)
        return addresses

    def _ask(self, instance: str) -> Told | None:
        with self._connection.session(f"ask the agent of instance {instance}") as libvirtd:
            domain = find_own(libvirtd, instance, self._owner)
            return ask_addresses(domain, {nic.mac for nic in facts_of(domain).nics}) if domain else None

    def _reserved(self, instance: str, power: Power) -> tuple[Address, ...]:
        expected = self._expectation(instance)
        leased = expected.confirmed(self._network.leases()) if power is Power.RUNNING else frozenset()
        return reserved_addresses(expected.reservations, leased)

    def _config_drive(self, spec: Spec) -> bytes | None:
        """Raises Fault `bad-spec`."""
        if spec.config_drive == configdrive.NONE:
            return None
        try:
            nics = nics_of(spec, self._second_bridge)
            return configdrive.build(spec, ipv6=self._network.reservations.subnet6 is not None, nics=nics)
        except ValueError as problem:
            raise Fault(
                "bad-spec", f"instance {spec.instance}: its config drive cannot be made: {problem}"
            ) from problem

    def _expectation(self, instance: str) -> Expectation:
        old = recall_leases(files_of(self._instances_dir, instance))
        return Expectation(self._network.reservations.of(instance), old)

    def _is_known(self, instance: str) -> bool:
        """Whether it may be ours; asks no libvirtd, since events come while one may not."""
        return files_of(self._instances_dir, instance).directory.is_dir()

    def _changed(self, instance: str) -> None:
        if self._is_known(instance):
            self._subscriber(instance)

    def _stopped(self, instance: str) -> None:
        self._lease_watch.forget(instance)
        self._agents.forget(instance)

    def _wait_for_lease(self, instance: str) -> None:
        if self._is_known(instance):
            self._lease_watch.wait_for(instance)

    def _await_all_leases(self) -> None:
        with self._connection.session("list domains") as libvirtd:
            for domain in libvirtd.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                self._wait_for_lease(domain.UUIDString())

    def _look_at_all(self) -> None:
        """After libvirtd was away: what happened meanwhile was not told. Who restarts it may have flushed filters."""
        self._network.guard()
        self._await_all_leases()
        for instance in self.instances():
            self._subscriber(instance)


def _macs_on_nat(nics: Iterable[Nic]) -> tuple[str, ...]:
    return tuple(nic.mac for nic in nics if nic.network != "bridge")
