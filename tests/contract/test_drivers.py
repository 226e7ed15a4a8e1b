"""What every driver promises (placet/drivers/__init__.py), held by each of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest

from placet.drivers import Driver
from placet.errors import Fault
from placet.hypervisor import Observed
from placet.lifecycle import Power
from placet.model import Spec
from placet.schema import changed
from tests.contract.rigs import OWNER, SMALL_SUBNET, SUBNET, SUBNET6, Changes, Rig, eventually, new_spec

NOTHING = Observed(Power.ABSENT)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def driver(rig: Rig) -> Driver:
    made = rig.driver()
    made.prepare()
    return made


@pytest.fixture
def changes(driver: Driver) -> Changes:
    collected = Changes()
    driver.subscribe(collected.add)
    return collected


def build(driver: Driver, rig: Rig) -> Spec:
    """Given an instance with disk and domain, not running."""
    spec = new_spec()
    driver.create_disk(spec, rig.blank)
    driver.define(spec)
    return spec


def ips(observed: Observed) -> list[str]:
    return [address.ip for address in observed.addresses]


def test_a_hypervisor_says_which_one_it_is(driver: Driver, rig: Rig) -> None:
    described = driver.describe()

    assert str(UUID(described.uuid)) == rig.uuid
    assert described.driver == driver.name
    assert "COMPUTE_IMAGE_TYPE_QCOW2" in described.traits
    assert rig.driver().describe() == described


def test_preparing_again_does_nothing(driver: Driver) -> None:
    driver.prepare()


def test_of_an_unknown_instance_there_is_nothing(driver: Driver) -> None:
    assert driver.observe(UNKNOWN) == NOTHING
    assert driver.instances() == frozenset()


def test_stopping_and_removing_what_is_not_there_does_nothing(driver: Driver) -> None:
    driver.stop(UNKNOWN)
    driver.remove_domain(UNKNOWN)
    driver.remove_disk(UNKNOWN)


def test_what_has_no_domain_cannot_be_started(driver: Driver) -> None:
    with pytest.raises(Fault, match=UNKNOWN) as caught:
        driver.start(UNKNOWN)

    assert caught.value.code == "domain-missing"


def test_what_has_no_disk_cannot_be_started(driver: Driver) -> None:
    spec = new_spec()
    driver.define(spec)

    with pytest.raises(Fault, match=spec.instance) as caught:
        driver.start(spec.instance)

    assert caught.value.code == "disk-missing"


def test_a_disk_without_a_domain_is_an_instance(driver: Driver, rig: Rig) -> None:
    spec = new_spec()

    driver.create_disk(spec, rig.blank)
    driver.create_disk(spec, rig.blank)

    assert driver.observe(spec.instance) == Observed(Power.ABSENT, has_disk=True)
    assert driver.instances() == {spec.instance}


def test_a_disk_that_was_cut_off_is_none_and_is_made_again(driver: Driver, rig: Rig) -> None:
    spec = new_spec()
    rig.cut_disk_off(spec)

    assert not driver.observe(spec.instance).has_disk

    driver.create_disk(spec, rig.blank)
    assert driver.observe(spec.instance).has_disk


def test_an_image_is_in_use_as_long_as_a_disk_lies_on_it(driver: Driver, rig: Rig) -> None:
    assert driver.images_in_use() == frozenset()
    specs = [new_spec(), new_spec()]
    for spec in specs:
        driver.create_disk(spec, rig.blank)

    assert driver.images_in_use() == {rig.blank.path}
    assert rig.driver().images_in_use() == {rig.blank.path}, "after a restart too"
    driver.remove_disk(specs[0].instance)
    assert driver.images_in_use() == {rig.blank.path}
    driver.remove_disk(specs[1].instance)
    assert driver.images_in_use() == frozenset()


def test_an_image_bigger_than_the_disk_is_refused_and_leaves_nothing(driver: Driver, rig: Rig) -> None:
    spec = new_spec(disk_gb=0)

    with pytest.raises(Fault, match="DISK_GB:0") as caught:
        driver.create_disk(spec, rig.blank)

    assert caught.value.code == "image-too-big"
    assert driver.observe(spec.instance) == NOTHING
    assert driver.instances() == frozenset()


def test_a_defined_instance_is_off_is_ours_and_knows_its_address(driver: Driver, rig: Rig) -> None:
    spec = build(driver, rig)

    found = driver.observe(spec.instance)

    assert (found.power, found.has_disk, found.owner, found.agent) == (Power.SHUTOFF, True, OWNER.cloud, False)
    (address,) = found.addresses
    assert (address.mac, address.network, address.confirmed_by) == (spec.nics[0].mac, "default", None)
    assert IPv4Address(address.ip) in SUBNET


def test_on_a_network_with_ipv6_it_knows_an_address_of_each_ipv4_first(rig: Rig) -> None:
    driver = rig.driver(SUBNET, SUBNET6)
    driver.prepare()
    spec = build(driver, rig)

    ip, ip6 = driver.observe(spec.instance).addresses
    assert IPv4Address(ip.ip) in SUBNET
    assert IPv6Address(ip6.ip) == SUBNET6.network_address + int(ip.ip.rpartition(".")[2])
    assert (ip.mac, ip6.mac) == (spec.nics[0].mac, spec.nics[0].mac)


def test_defining_again_keeps_the_address(driver: Driver, rig: Rig) -> None:
    spec = build(driver, rig)
    before = driver.observe(spec.instance)

    driver.define(spec)

    assert driver.observe(spec.instance) == before
    assert driver.instances() == {spec.instance}


def test_many_that_are_defined_at_once_get_addresses_of_their_own(driver: Driver) -> None:
    specs = [new_spec() for _ in range(12)]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(driver.define, specs))

    found = [ip for spec in specs for ip in ips(driver.observe(spec.instance))]
    assert len(set(found)) == 12


def test_a_full_subnet_is_a_fault_until_an_instance_goes(rig: Rig) -> None:
    driver = rig.driver(SMALL_SUBNET)
    driver.prepare()
    specs = [new_spec() for _ in range(SMALL_SUBNET.num_addresses - 4)]  # network, broadcast, gateway, placeholder
    for spec in specs:
        driver.define(spec)

    with pytest.raises(Fault, match=str(SMALL_SUBNET)) as caught:
        driver.define(new_spec())

    assert caught.value.code == "no-address"
    driver.remove_domain(specs[0].instance)
    driver.define(new_spec())


def test_an_instance_runs_until_it_is_stopped_and_stays_defined(driver: Driver, rig: Rig, changes: Changes) -> None:
    spec = build(driver, rig)
    before = driver.observe(spec.instance)

    changes.expect(spec.instance, doing=lambda: driver.start(spec.instance))
    driver.start(spec.instance)
    assert driver.observe(spec.instance).power is Power.RUNNING

    changes.expect(spec.instance, doing=lambda: driver.stop(spec.instance))
    driver.stop(spec.instance)
    assert driver.observe(spec.instance) == before


def test_defining_a_running_instance_leaves_it_running(driver: Driver, rig: Rig) -> None:
    spec = build(driver, rig)
    driver.start(spec.instance)

    driver.define(spec)

    assert driver.observe(spec.instance).power is Power.RUNNING


def test_a_running_instance_is_removed_with_its_address_but_not_its_disk(driver: Driver, rig: Rig) -> None:
    spec = build(driver, rig)
    driver.start(spec.instance)

    driver.remove_domain(spec.instance)

    assert driver.observe(spec.instance) == Observed(Power.ABSENT, has_disk=True)
    driver.remove_disk(spec.instance)
    assert driver.observe(spec.instance) == NOTHING
    assert driver.instances() == frozenset()


def test_a_foreign_domain_is_seen_as_such_and_never_touched(driver: Driver, rig: Rig) -> None:
    foreign = rig.define_foreign_domain()
    spec = changed(new_spec(), instance=foreign)

    assert driver.observe(foreign) == Observed(Power.SHUTOFF, owner="")
    assert foreign not in driver.instances()
    attempts: list[Callable[[], None]] = [
        partial(driver.define, spec),
        partial(driver.start, foreign),
        partial(driver.stop, foreign),
        partial(driver.remove_domain, foreign),
    ]
    for attempt in attempts:
        with pytest.raises(Fault, match=foreign) as caught:
            attempt()
        assert caught.value.code == "foreign-domain"
    assert rig.exists(foreign)


def test_a_restarted_agent_finds_everything_again(driver: Driver, rig: Rig) -> None:
    spec = build(driver, rig)
    driver.start(spec.instance)
    before = driver.observe(spec.instance)
    driver.close()

    restarted = rig.driver()
    restarted.prepare()

    assert restarted.instances() == {spec.instance}
    assert ips(restarted.observe(spec.instance)) == ips(before)
    assert restarted.observe(spec.instance).power is Power.RUNNING


def test_a_guest_that_boots_takes_its_address_and_its_agent_answers(driver: Driver, rig: Rig, changes: Changes) -> None:
    spec = new_spec()
    driver.create_disk(spec, rig.bootable)
    driver.define(spec)
    (reserved,) = driver.observe(spec.instance).addresses

    def is_up() -> bool:
        found = driver.observe(spec.instance)
        return found.agent and found.addresses[0].confirmed_by == "lease"

    driver.start(spec.instance)
    assert driver.observe(spec.instance).addresses == (reserved,)
    changes.lead_to(is_up)
    (confirmed,) = driver.observe(spec.instance).addresses
    assert confirmed.ip == reserved.ip

    # the lease that is left from the first boot says nothing of the second
    driver.stop(spec.instance)
    assert driver.observe(spec.instance).addresses == (reserved,)
    driver.start(spec.instance)
    assert driver.observe(spec.instance).addresses == (reserved,)
    changes.lead_to(is_up)


def test_a_console_is_read_by_its_last_lines_and_from_where_a_piece_ended(driver: Driver, rig: Rig) -> None:
    spec = new_spec()
    driver.create_disk(spec, rig.bootable)
    driver.define(spec)
    with pytest.raises(Fault, match=spec.instance) as caught:
        driver.console(spec.instance, 10)
    assert caught.value.code == "no-console"

    driver.start(spec.instance)
    eventually(lambda: driver.console(spec.instance, 100).data.count(b"\n") >= 2)
    first = driver.console(spec.instance, 100)
    driver.stop(spec.instance)
    driver.start(spec.instance)

    eventually(lambda: driver.console(spec.instance, 0, first.offset).data.count(b"\n") >= 2)
    more = driver.console(spec.instance, 0, first.offset)
    assert driver.console(spec.instance, 100).data.startswith(first.data + more.data), "a restart begins no new log"
    eventually(lambda: driver.console(spec.instance, 1).data.count(b"\n") <= 1)


def test_a_console_gives_no_half_characters_and_goes_with_the_instance(driver: Driver, rig: Rig) -> None:
    spec = build(driver, rig)
    driver.start(spec.instance)
    rig.write_console(spec.instance, "\n🦆".encode()[:-1])
    piece = driver.console(spec.instance, 1)
    assert piece.data == b""
    rig.write_console(spec.instance, "🦆".encode()[-1:])
    assert driver.console(spec.instance, 0, piece.offset).data == "🦆".encode()

    driver.remove_domain(spec.instance)
    driver.remove_disk(spec.instance)
    with pytest.raises(Fault):
        driver.console(spec.instance, 1)
