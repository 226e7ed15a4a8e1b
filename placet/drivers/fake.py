"""Guests that only seem to run, for tests and for clouds of many nodes on one machine.

`FakeHypervisor` is the machine: it outlives the agent, as a real one does. `FakeDriver` is what an agent does with it.
What a guest has reached is a function of the clock; timers only call out that there is something new to see.

`FakeConfig.fail` maps a step (`prepare create_disk define start stop remove_domain remove_disk observe instances
images_in_use console`) to the chance that it raises Fault `hypervisor`; `STEP.unreachable` raises Unreachable
instead, and `STEP.lost` does the step and then raises Unreachable, as when a reply is lost.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Protocol

from placet.compute_config import FakeConfig
from placet.drivers.timer import SharedTimer
from placet.errors import Fault, Unreachable
from placet.hypervisor import (
    PIECE_BYTES,
    CachedImage,
    ConsolePiece,
    Hypervisor,
    Network,
    Observed,
    Owner,
    start_of_lines,
    whole_characters,
)
from placet.lifecycle import Power
from placet.model import Nic, Spec
from placet.networks import address6_of, pick_address
from placet.node_records import Address

GIB = 2**30
TRAITS = frozenset({"COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_IMAGE_TYPE_RAW"})


class Timer(Protocol):
    """Calls back later, from a thread of its own."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None: ...


@dataclass
class FakeDomain:
    """One domain of a FakeHypervisor; `booted_at` is when its guest has its address, `agent_at` when its agent speaks,
    `console` all that it ever wrote."""

    owner: Owner | None
    nics: tuple[Nic, ...] = ()
    power: Power = Power.SHUTOFF
    booted_at: float = float("inf")
    console: bytes = b""
    agent_at: float = float("inf")


@dataclass
class FakeHypervisor:
    """A machine's state: what is defined, which disks there are, which addresses are reserved.

    `boots` are boots that guests here may have, each the seconds from the start until the address and until the agent;
    without any, both take `FakeConfig.boot_s`.
    """

    uuid: str
    domains: dict[str, FakeDomain] = field(default_factory=dict)
    disks: set[str] = field(default_factory=set)
    images: dict[str, Path] = field(default_factory=dict)  # beneath each disk
    reservations: dict[str, IPv4Address] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    virt_type: str = "fake"
    boots: Sequence[tuple[float, float]] = ()

    def describe(self) -> Hypervisor:
        """What it is."""
        return Hypervisor(self.uuid, "fake", self.virt_type, TRAITS)


class FakeDriver:
    """See placet.drivers.Driver for what each call promises."""

    name = "fake"

    def __init__(
        self,
        hypervisor: FakeHypervisor,
        owner: Owner,
        network: Network,
        config: FakeConfig,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        timer: Timer | None = None,
    ) -> None:
        self._hypervisor = hypervisor
        self._owner = owner
        self._network = network
        self._config = config
        self._random = random
        self._clock = clock
        self._sleep = sleep
        self._timer = timer or shared_timer()
        self._subscriber: Callable[[str], None] | None = None

    def describe(self) -> Hypervisor:
        return self._hypervisor.describe()

    def prepare(self) -> None:
        with self._step("prepare"):
            pass

    def instances(self) -> frozenset[str]:
        with self._step("instances") as machine:
            owned = {instance for instance, domain in machine.domains.items() if domain.owner == self._owner}
            return frozenset(owned | machine.disks)

    def observe(self, instance: str) -> Observed:
        with self._step("observe") as machine:
            has_disk = instance in machine.disks
            domain = machine.domains.get(instance)
            if domain is None:
                return Observed(Power.ABSENT, has_disk)
            if domain.owner != self._owner:
                return Observed(domain.power, has_disk, owner="")
            lasted = self._clock() if domain.power is Power.RUNNING else float("-inf")
            addresses = self._addresses(domain, "lease" if domain.booted_at <= lasted else None)
            return Observed(domain.power, has_disk, self._owner.cloud, addresses, agent=domain.agent_at <= lasted)

    def create_disk(self, spec: Spec, image: CachedImage) -> None:
        with self._step("create_disk") as machine:
            if spec.instance in machine.disks:
                return
            if image.virtual_size > spec.amount("DISK_GB") * GIB:
                raise Fault("image-too-big", f"image {spec.image.source} is over DISK_GB:{spec.amount('DISK_GB')}")
            machine.disks.add(spec.instance)
            machine.images[spec.instance] = image.path

    def images_in_use(self) -> frozenset[Path]:
        with self._step("images_in_use") as machine:
            return frozenset(machine.images.values())

    def define(self, spec: Spec) -> None:
        with self._step("define"):
            domain = self._own(spec.instance)
            for nic in spec.nics:
                self._reserve(spec.instance, nic)
            if domain is None:
                self._hypervisor.domains[spec.instance] = FakeDomain(self._owner, spec.nics)
            else:
                domain.nics = spec.nics

    def start(self, instance: str) -> None:
        with self._step("start") as machine:
            domain = self._own(instance)
            if domain is None:
                raise Fault("domain-missing", f"instance {instance}: the node has no domain of it to start")
            if instance not in machine.disks:
                raise Fault("disk-missing", f"instance {instance}: its disk is gone")
            if domain.power is Power.RUNNING:
                return
            domain.power = Power.RUNNING
            ip_s = agent_s = self._config.boot_s
            if machine.boots:
                ip_s, agent_s = self._random.choice(machine.boots)
            domain.booted_at, domain.agent_at = self._clock() + ip_s, self._clock() + agent_s
            domain.console += f"{instance}: on\r\n{instance}: booting\r\n".encode()
        self._call_out(instance)
        for delay_s in sorted({ip_s, agent_s}):
            self._timer.call_later(delay_s, lambda: self._call_out(instance))

    def stop(self, instance: str) -> None:
        with self._step("stop"):
            domain = self._own(instance)
            if domain is None or domain.power is not Power.RUNNING:
                return
            domain.power = Power.SHUTOFF
        self._call_out(instance)

    def remove_domain(self, instance: str) -> None:
        with self._step("remove_domain") as machine:
            domain = self._own(instance)
            if domain is None:
                return
            for nic in domain.nics:
                machine.reservations.pop(nic.mac, None)
            del machine.domains[instance]
        self._call_out(instance)

    def remove_disk(self, instance: str) -> None:
        with self._step("remove_disk") as machine:
            machine.disks.discard(instance)
            machine.images.pop(instance, None)

    def console(self, instance: str, lines: int, offset: int | None = None) -> ConsolePiece:
        with self._step("console") as machine:
            domain = machine.domains.get(instance)
            if domain is None or not domain.console:
                raise Fault("no-console", f"instance {instance}: it has no console log, it never ran on this node")
            text = domain.console
            if offset is None:
                offset = start_of_lines(text, lines)
            data = whole_characters(text[offset : offset + PIECE_BYTES])
            return ConsolePiece(data, offset + len(data))

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._subscriber = changed

    def close(self) -> None:
        self._subscriber = None

    @contextlib.contextmanager
    def _step(self, step: str) -> Iterator[FakeHypervisor]:
        """One call: takes its time, fails as configured, sees and changes the machine alone."""
        if self._config.step_s:
            self._sleep(self._config.step_s)
        if self._fails(step):
            raise Fault("hypervisor", f"{step}: the fake driver fails here, as configured")
        if self._fails(f"{step}.unreachable"):
            raise Unreachable(f"{step}: the fake hypervisor does not answer, as configured")
        with self._hypervisor.lock:
            yield self._hypervisor
        if self._fails(f"{step}.lost"):
            raise Unreachable(f"{step}: the fake hypervisor's reply was lost, as configured")

    def _fails(self, what: str) -> bool:
        chance = self._config.fail.get(what, 0.0)
        return chance > 0 and self._random.random() < chance

    def _own(self, instance: str) -> FakeDomain | None:
        domain = self._hypervisor.domains.get(instance)
        if domain is not None and domain.owner != self._owner:
            raise Fault("foreign-domain", f"instance {instance}: the node has a domain of this UUID that is not ours")
        return domain

    def _reserve(self, instance: str, nic: Nic) -> None:
        reservations = self._hypervisor.reservations
        if nic.mac not in reservations:
            taken = set(reservations.values())
            reservations[nic.mac] = pick_address(self._network.subnet, taken, {}, hint=instance)

    def _addresses(self, domain: FakeDomain, confirmed_by: str | None) -> tuple[Address, ...]:
        reservations, subnet6 = self._hypervisor.reservations, self._network.subnet6
        nics = [nic for nic in domain.nics if nic.mac in reservations]
        ips = [(nic, str(reservations[nic.mac])) for nic in nics]
        if subnet6 is not None:
            ips += [(nic, str(address6_of(subnet6, reservations[nic.mac]))) for nic in nics]
        return tuple(Address(ip, nic.mac, nic.network, confirmed_by) for nic, ip in ips)

    def _call_out(self, instance: str) -> None:
        if self._subscriber is not None:
            self._subscriber(instance)


@cache
def shared_timer() -> SharedTimer:
    """One for all fake drivers of a process; it has a thread only while something is due."""
    return SharedTimer()
