"""What a node offers: measured, then bent by the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from placet.compute_config import InventoryConfig
from placet.errors import BadConfig
from placet.inventory import measure, offer
from placet.resources import Inventory

MEASURED = {"VCPU": Inventory(4, 0, 16.0), "MEMORY_MB": Inventory(8000, 512), "DISK_GB": Inventory(0)}


def test_this_machine_offers_all_three(tmp_path: Path) -> None:
    found = measure(tmp_path)
    assert set(found) == {"VCPU", "MEMORY_MB", "DISK_GB"}
    assert found["VCPU"].capacity >= 1 and found["MEMORY_MB"].capacity > 0


def test_the_instances_own_disks_are_not_reserved_against(tmp_path: Path) -> None:
    before = measure(tmp_path)["DISK_GB"].reserved
    (tmp_path / "disk").write_bytes(b"x" * 2**20)
    assert measure(tmp_path)["DISK_GB"].reserved <= before + 1


def test_the_configuration_bends_what_was_measured() -> None:
    wanted = {"VCPU": InventoryConfig(allocation_ratio=1.0), "CUSTOM_GPU": InventoryConfig(total=2)}
    found = offer(MEASURED, wanted)
    assert found["VCPU"].capacity == 4
    assert found["CUSTOM_GPU"].capacity == 2
    assert found["MEMORY_MB"].capacity == 7488


def test_a_class_with_nothing_to_give_is_left_out() -> None:
    assert "DISK_GB" not in offer(MEASURED, {})


def test_a_class_of_which_the_configuration_says_none_is_left_out() -> None:
    assert offer(MEASURED, {"MEMORY_MB": InventoryConfig(total=0)}).keys() == {"VCPU"}


def test_how_much_an_instance_may_have_is_the_configurations_to_say() -> None:
    found = offer(MEASURED, {"CUSTOM_GPU": InventoryConfig(total=8, min_unit=2, max_unit=6, step_size=2)})
    assert found["CUSTOM_GPU"] == Inventory(8, 0, 1.0, 6, 2, 2)
    assert found["VCPU"].max_unit == 4


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"CUSTOM_GPU": InventoryConfig(reserved=1)}, r"inventory\.CUSTOM_GPU\.total: missing"),
        ({"VCPU": InventoryConfig(reserved=5)}, "5 is more than the total, 4"),
    ],
)
def test_an_impossible_inventory_is_told(wanted: dict[str, InventoryConfig], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        offer(MEASURED, wanted)
