"""The decision that placed an instance, shown later: as recorded today, as recorded once, and as nobody should."""

from __future__ import annotations

import json

import pytest

from placet import keys
from placet.model import Index, encode
from placet.store import Put
from tests.support.clouds import TestCloud, new_uuid
from tests.support.commands import ScheduleCommand
from tests.support.nodes import FakeMachine
from tests.support.offers import SMALL


def test_why_tells_the_decision_also_of_one_that_is_gone(
    command: ScheduleCommand, cloud: TestCloud, machine: FakeMachine
) -> None:
    node, other, instance = cloud.add_node("n1"), new_uuid(), new_uuid()
    why = {
        "policy": "spread",
        "looked_at": "sample",
        "looked": 16,
        "alive": 412,
        "nodes": [
            {"node": other, "name": "n2", "left": 0.9, "outcome": "taken by others"},
            {"node": node, "name": "n1", "left": 0.8123, "outcome": "chosen"},
        ],
        "lost": [other],
        "group": {"name": "db", "policy": "affinity"},
    }
    index = Index(instance, node, "web", "default", new_uuid(), "", 1_000_000.0, why, deleted_at=1_000_100.0)
    cloud.store.transact([], [Put(keys.instance(instance), encode(index))])
    told = command("why", "web")
    assert (told.code, told.out.splitlines()) == (
        0,
        [
            f"web ({instance}) was placed at 1970-01-12T13:46:40Z, destroyed at 1970-01-12T13:48:20Z",
            "node       n1",
            "policy     spread: the node that would have most left of its scarcest resource",
            "looked at  16 of about 412 nodes that were up",
            "group      db (affinity)",
            "in vain    n2",
            "",
            "NAME  LEFT  OUTCOME",
            "n2    90%   taken by others",
            "n1    81%   chosen",
        ],
    )
    found = json.loads(command("why", instance, "-f", "json").out)
    assert found["nodes"] == why["nodes"] and found["lost"] == [other] and found["deleted_at"]
    assert command("why", instance, "-f", "value", "-c", "policy").out == "spread\n"
    assert command("why", "nobody").code == 1


@pytest.mark.parametrize(
    ("why", "line"),
    [
        ({"policy": "spread", "free_share": 0.5, "lost": []}, "50%   chosen"),
        ({"policy": "written again by doctor"}, "policy     written again by doctor"),
        ({}, "policy     not recorded"),
        ({"policy": 7, "nodes": "odd", "lost": 3, "group": [], "alive": {}, "more": "\x1b[31m"}, "more       ?[31m"),
        ({"policy": "pack", "nodes": [1, {"left": "x"}], "lost": [None]}, "in vain    None"),
    ],
)
def test_why_shows_old_and_odd_records_too(
    command: ScheduleCommand, cloud: TestCloud, why: dict[str, object], line: str
) -> None:
    instance = new_uuid()
    index = Index(instance, new_uuid(), "web", "default", new_uuid(), "", 1.0, why)
    cloud.store.transact([], [Put(keys.instance(instance), encode(index))])
    told = command("why", instance)
    assert told.code == 0 and line in told.out


def test_what_was_decided_can_be_asked_of_a_real_placement(command: ScheduleCommand, cloud: TestCloud) -> None:
    cloud.add_node("n1")
    assert command(SMALL, "--name", "web").code == 0
    found = json.loads(command("why", "web", "-f", "json").out)
    assert (found["node"], found["policy"]) == ("n1", "spread")
    assert found["nodes"][-1]["outcome"] == "chosen" and found["nodes"][-1]["left"] == 0.75
