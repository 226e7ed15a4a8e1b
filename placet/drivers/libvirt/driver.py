"""The libvirt driver: step 4 of a request's way, for real. Each call is one session with libvirtd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from placet import configdrive
from placet.drivers.libvirt.connection import LibvirtConnection
from placet.drivers.libvirt.disks import Disks
from placet.drivers.libvirt.domain_xml import Host, build_domain, nics_of
from placet.drivers.libvirt.domains import REMOVE_ALL, facts_of, find, find_own, own_instances, power_of, unless_done
from placet.drivers.libvirt.errors import is_code
from placet.drivers.libvirt.events import DomainEvents
from placet.drivers.libvirt.files import directories, files_of
from placet.drivers.libvirt.guest_agent import ask_addresses
from placet.drivers.libvirt.leases import Expectation, LeaseWatch, recall_leases, remember_leases
from placet.drivers.libvirt.network import NatNetwork
from placet.drivers.libvirt.observation import reserved_addresses, with_agents_word, worth_asking
from placet.drivers.libvirt.overlay import read_backing
from placet.errors import Fault
from placet.hypervisor import CachedImage, Hypervisor, Network, Observed, Owner
from placet.lifecycle import Power
from placet.model import Address, Spec

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
        self._disks.create(spec, image, configdrive.build(spec))

    def define(self, spec: Spec) -> None:
        host = Host(self.describe().virt_type, self._network_name, self._second_bridge)
        files = files_of(self._instances_dir, spec.instance)
        document = build_domain(spec, self._owner, files, host, read_backing(files.disk))
        macs = tuple(nic.mac for nic in nics_of(spec, self._second_bridge) if nic.network != "bridge")
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
            remember_leases(files, self._network.reservations.of(instance), self._network.leases())
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
        self._lease_watch.forget(instance)
        self._network.release(instance)

    def remove_disk(self, instance: str) -> None:
        self._disks.remove(instance)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._subscriber = changed
        events = DomainEvents(started=self._wait_for_lease, stopped=self._lease_watch.forget, changed=self._changed)
        self._connection.watch(on_open=events.register, on_return=self._look_at_all)
        self._await_all_leases()

    def close(self) -> None:
        self._lease_watch.close()
        self._connection.close()

    def _observe(self, domain: Any, instance: str, has_disk: bool) -> Observed:
        power, facts = power_of(domain), facts_of(domain)
        if facts.owner != self._owner:
            return Observed(power, has_disk, owner="")
        addresses = self._reserved(instance, power)
        if facts.agent and worth_asking(addresses, facts.nics):
            addresses = with_agents_word(addresses, facts.nics, ask_addresses(domain))
        return Observed(power, has_disk, self._owner.cloud, addresses, facts.agent)

    def _reserved(self, instance: str, power: Power) -> tuple[Address, ...]:
        expected = self._expectation(instance)
        leased = expected.confirmed(self._network.leases()) if power is Power.RUNNING else frozenset()
        return reserved_addresses(expected.reservations, leased)

    def _expectation(self, instance: str) -> Expectation:
        old = recall_leases(files_of(self._instances_dir, instance))
        return Expectation(self._network.reservations.of(instance), old)

    def _is_known(self, instance: str) -> bool:
        """Whether it may be ours; asks no libvirtd, since events come while one may not."""
        return files_of(self._instances_dir, instance).directory.is_dir()

    def _changed(self, instance: str) -> None:
        if self._is_known(instance):
            self._subscriber(instance)

    def _wait_for_lease(self, instance: str) -> None:
        if self._is_known(instance):
            self._lease_watch.wait_for(instance)

    def _await_all_leases(self) -> None:
        with self._connection.session("list domains") as libvirtd:
            for domain in libvirtd.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                self._wait_for_lease(domain.UUIDString())

    def _look_at_all(self) -> None:
        """After libvirtd was away: what happened meanwhile was not told."""
        self._await_all_leases()
        for instance in self.instances():
            self._subscriber(instance)
