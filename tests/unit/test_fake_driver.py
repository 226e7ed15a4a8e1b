"""What the fake driver does beyond the contract: it takes its time and fails as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from random import Random

import pytest

from placet.compute_config import FakeConfig
from placet.drivers.fake import FakeDriver, FakeHypervisor
from placet.drivers.timer import SharedTimer
from placet.errors import Fault, Unreachable
from placet.hypervisor import CachedImage, Network, Owner
from placet.lifecycle import Power
from placet.model import ImageRef, Nic, Spec

INSTANCE = "11111111-2222-4333-8444-555555555555"
IMAGE = CachedImage(Path("/images/mini.qcow2"), "qcow2", 1)
SPEC = Spec(
    instance=INSTANCE,
    node="the-node",
    name="web",
    image=ImageRef("/images/mini.qcow2"),
    allocations={"the-node": {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}},
    nics=(Nic("52:54:00:00:00:01"),),
    created_at=0.0,
    request_id="request",
)


class ManualClock:
    """Time that a test moves: a clock, a sleep and a timer in one."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._due.append((self.now + delay_s, callback))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [callback for at, callback in self._due if at <= self.now]
        self._due = [(at, callback) for at, callback in self._due if at > self.now]
        for callback in due:
            callback()


def make(
    clock: ManualClock, hypervisor: FakeHypervisor | None = None, seed: int = 1, **config: float | dict[str, float]
) -> FakeDriver:
    return FakeDriver(
        hypervisor or FakeHypervisor("the-hypervisor"),
        Owner("the-cloud", "the-node"),
        Network("fake", "fake0", IPv4Network("198.19.7.0/24")),
        FakeConfig(**config),  # type: ignore[arg-type]
        Random(seed),
        clock,
        clock.sleep,
        clock,
    )


def test_a_guest_is_up_after_boot_s_and_says_so_once() -> None:
    clock, heard = ManualClock(), list[str]()
    driver = make(clock, boot_s=5.0)
    driver.create_disk(SPEC, IMAGE)
    driver.define(SPEC)
    driver.subscribe(heard.append)

    driver.start(INSTANCE)
    clock.sleep(4.9)
    assert heard == [INSTANCE]
    assert not driver.observe(INSTANCE).agent

    clock.sleep(0.2)
    assert heard == [INSTANCE, INSTANCE]
    assert driver.observe(INSTANCE).agent
    assert driver.observe(INSTANCE).addresses[0].confirmed_by == "lease"


def test_a_restarted_agent_finds_a_guest_that_booted_meanwhile() -> None:
    clock, hypervisor = ManualClock(), FakeHypervisor("the-hypervisor")
    driver = make(clock, hypervisor, boot_s=5.0)
    driver.create_disk(SPEC, IMAGE)
    driver.define(SPEC)
    driver.start(INSTANCE)
    driver.close()

    clock.sleep(10)

    assert make(clock, hypervisor).observe(INSTANCE).agent


def test_a_hypervisor_with_recorded_boots_repeats_one_of_them() -> None:
    clock = ManualClock()
    driver = make(clock, FakeHypervisor("the-hypervisor", virt_type="simulated", boots=[(3.0, 4.0)]))
    heard: list[float] = []
    driver.subscribe(lambda _instance: heard.append(clock.now))
    driver.create_disk(SPEC, IMAGE)
    driver.define(SPEC)
    driver.start(INSTANCE)

    clock.sleep(2.9)
    assert {address.confirmed_by for address in driver.observe(INSTANCE).addresses} == {None}
    clock.sleep(0.1)
    observed = driver.observe(INSTANCE)
    assert ({address.confirmed_by for address in observed.addresses}, observed.agent) == ({"lease"}, False)
    clock.sleep(1.0)
    assert driver.observe(INSTANCE).agent
    assert heard == [0.0, 3.0, 4.0]
    assert driver.describe().virt_type == "simulated"


def test_each_step_takes_step_s() -> None:
    clock = ManualClock()
    driver = make(clock, step_s=2.0)

    driver.create_disk(SPEC, IMAGE)
    driver.define(SPEC)

    assert clock.now == 4.0


def test_a_step_fails_as_configured_and_changes_nothing() -> None:
    driver = make(ManualClock(), fail={"define": 1.0})

    with pytest.raises(Fault, match="define") as caught:
        driver.define(SPEC)

    assert caught.value.code == "hypervisor"
    assert driver.observe(INSTANCE).power is Power.ABSENT


def test_a_hypervisor_can_be_unreachable() -> None:
    with pytest.raises(Unreachable):
        make(ManualClock(), fail={"observe.unreachable": 1.0}).observe(INSTANCE)


def test_a_reply_can_be_lost_after_the_step_was_done() -> None:
    driver = make(ManualClock(), fail={"define.lost": 1.0})

    with pytest.raises(Unreachable):
        driver.define(SPEC)

    assert driver.observe(INSTANCE).power is Power.SHUTOFF


def test_the_same_seed_fails_at_the_same_places() -> None:
    def history(seed: int) -> list[bool]:
        driver, failed = make(ManualClock(), seed=seed, fail={"observe": 0.5}), []
        for _ in range(50):
            try:
                driver.observe(INSTANCE)
                failed.append(False)
            except Fault:
                failed.append(True)
        return failed

    assert history(7) == history(7)
    assert True in history(7)
    assert False in history(7)


def test_a_timer_calls_in_order_and_has_no_thread_while_nothing_is_due() -> None:
    timer, heard, done = SharedTimer(), list[str](), threading.Event()
    others = set(threading.enumerate())

    def last() -> None:
        heard.append(threading.current_thread().name)
        done.set()

    timer.call_later(1.0, last)  # long enough for a busy machine to come to the next line
    timer.call_later(0.0, lambda: heard.append("first"))

    assert done.wait(60)
    assert heard == ["first", "shared-timer"]
    for thread in set(threading.enumerate()) - others:
        thread.join(60)
        assert not thread.is_alive()
