"""The wire that loses, delays and cuts calls for other tests: each fate is what it says."""

from __future__ import annotations

import pytest

from placet.candidates import Candidate
from placet.errors import Unreachable
from placet.placement import Claim, Placement
from placet.resources import Inventory
from placet.store import Absent, Put
from placet.store.memory import MemoryStore
from tests.support.lost import Fate, FlakyPlacement, FlakyStore, Killed, Wire, at
from tests.support.placement_model import ModelPlacement


class Rig:
    """A store and a Placement with one provider, each as it is and as it looks over one wire."""

    def __init__(self, fates: dict[int, Fate], late_after: int | None = None) -> None:
        self.wire = Wire(at(fates), late_after)
        self.store, self.placement = MemoryStore(lambda: 0.0), ModelPlacement()
        self.placement.create_provider("node", "node")
        self.placement.put_inventories("node", {"VCPU": Inventory(1)}, 0)
        self.far_store, self.far_placement = (
            FlakyStore(self.store, self.wire),
            FlakyPlacement(self.placement, self.wire),
        )

    def put(self, key: str = "a") -> bool:
        return self.far_store.transact([Absent(key)], [Put(key, b"")])

    def claim(self) -> Claim:
        return self.far_placement.claim("vm", Candidate({"node": {"VCPU": 1}}, {"": ["node"]}, {}), "cloud", None)

    @property
    def is_put(self) -> bool:
        return self.store.get("a") is not None

    @property
    def is_claimed(self) -> bool:
        return bool(self.placement.allocation("vm").allocations)


def test_what_passes_is_carried_out_and_answered_and_counted_over_both_services() -> None:
    rig = Rig({})
    assert rig.put()
    assert not rig.put()
    assert rig.claim() is Claim.DONE
    assert rig.far_store.get("a")
    assert rig.wire.calls == ["store.transact", "store.transact", "placement.claim", "store.get"]


@pytest.mark.parametrize(("fate", "applied"), [(Fate.LOST_REQUEST, False), (Fate.LOST_REPLY, True), (Fate.LATE, False)])
def test_a_call_that_is_lost_is_unreachable_whether_it_was_carried_out_or_not(fate: Fate, applied: bool) -> None:
    rig = Rig({1: fate, 3: fate})
    with pytest.raises(Unreachable, match=r"store\.transact, call 1"):
        rig.put()
    assert rig.is_put is applied
    assert rig.put("another")
    assert rig.claim() is Claim.UNSURE
    assert rig.is_claimed is applied


def test_an_error_whose_answer_is_lost_is_not_heard() -> None:
    rig = Rig({1: Fate.LOST_REPLY})
    with pytest.raises(Unreachable):
        rig.far_placement.traits("unknown")


def test_what_is_late_is_carried_out_when_the_wire_settles_and_only_once() -> None:
    rig = Rig({1: Fate.LATE, 2: Fate.LATE})
    with pytest.raises(Unreachable):
        rig.put()
    assert rig.claim() is Claim.UNSURE
    rig.wire.settle()
    assert (rig.is_put, rig.is_claimed) == (True, True)
    rig.placement.release("vm", rig.placement.allocation("vm"))
    rig.wire.settle()
    assert not rig.is_claimed


@pytest.mark.parametrize("late_after", [0, 1, 2])
def test_what_is_late_by_some_calls_is_carried_out_just_before_the_next(late_after: int) -> None:
    rig = Rig({1: Fate.LATE}, late_after)
    with pytest.raises(Unreachable):
        rig.put()
    for _ in range(late_after):
        assert rig.far_store.get("a") is None
    assert rig.far_store.get("a")


def test_what_comes_too_late_to_be_taken_harms_nobody() -> None:
    rig = Rig({1: Fate.LATE})
    with pytest.raises(Unreachable):
        rig.far_placement.put_traits("unknown", [], 0)
    rig.wire.settle()


@pytest.mark.parametrize(("fate", "applied"), [(Fate.DEATH, False), (Fate.DEATH_AFTER, True)])
def test_a_killed_process_does_nothing_any_more(fate: Fate, applied: bool) -> None:
    rig = Rig({1: fate})
    with pytest.raises(Killed):
        rig.put()
    assert rig.is_put is applied
    with pytest.raises(Killed):
        rig.far_store.get("a")
    with pytest.raises(Killed):
        rig.claim()
    assert rig.wire.calls == ["store.transact"]
    assert not issubclass(Killed, Exception)


def test_what_a_killed_process_had_sent_may_still_arrive() -> None:
    rig = Rig({1: Fate.LATE, 2: Fate.DEATH})
    with pytest.raises(Unreachable):
        rig.put()
    with pytest.raises(Killed):
        rig.claim()
    rig.wire.settle()
    assert (rig.is_put, rig.is_claimed) == (True, False)


def test_every_method_goes_over_the_wire() -> None:
    public = {name for name in vars(Placement) if not name.startswith("_")}
    assert public <= vars(FlakyPlacement).keys()
