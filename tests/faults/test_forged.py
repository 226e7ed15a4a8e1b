"""Specs that no scheduler has written: each is put aside with a fault and an event, none is ever booted."""

from __future__ import annotations

import json
import time

import pytest

from placet import keys
from placet.candidates import Candidate
from placet.model import MAX_RECORD_BYTES, ImageRef, Nic, Spec, encode
from placet.store import Delete, Put
from tests.faults.asking import domain_count, fault, found, place, story
from tests.faults.conftest import sound
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import TestCloud, new_uuid
from tests.support.nodes import until

AMOUNTS = {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}
KINDS = {
    "nobody claimed it": ("no-allocation", "unclaimed-spec"),
    "other amounts": ("allocation-mismatch", "other-allocation"),
    "another node's": ("bad-spec", "bad-record"),
    "malformed": ("bad-spec", "bad-record"),
    "oversized": ("bad-spec", "bad-record"),
    "unknown version": ("bad-spec", "bad-record"),
}


def forged(kind: str, cloud: Lab, node: LabNode, instance: str) -> bytes:
    """The value of a spec that is wrong in one way."""
    allocations = {node.uuid: AMOUNTS}
    nics = (Nic("52:54:00:00:00:01"),)
    image = ImageRef(str(cloud.image))
    owner = cloud.nodes[1].uuid if kind == "another node's" else node.uuid
    spec = encode(Spec(instance, owner, "forged", image, allocations, nics, time.time(), new_uuid()))
    if kind == "malformed":
        return spec[:-1]
    if kind == "oversized":
        return encode({**json.loads(spec), "user_data": "x" * MAX_RECORD_BYTES})
    if kind == "unknown version":
        return spec.replace(b'"version":1', b'"version":99')
    return spec


def claim_other_amounts(cloud: Lab, node: LabNode, instance: str) -> None:
    candidate = Candidate({node.uuid: {"VCPU": 1, "MEMORY_MB": 64}}, {"": [node.uuid]}, {})
    assert TestCloud.make(cloud.store, cloud.placement_endpoint).claims.claim(instance, candidate)


@pytest.fixture
def forgeries(cloud: Lab, first: LabNode) -> dict[str, str]:
    """One of each kind on the same node, by kind."""
    made = {kind: new_uuid() for kind in KINDS}
    claim_other_amounts(cloud, first, made["other amounts"])
    for kind, instance in made.items():
        value = forged(kind, cloud, first, instance)
        assert cloud.store.transact([], [Put(keys.spec(first.uuid, instance), value)])
    return made


def test_forged_specs_are_put_aside_and_the_nodes_other_work_goes_on(
    cloud: Lab, first: LabNode, forgeries: dict[str, str]
) -> None:
    honest = place(cloud, first, "--wait")
    for kind, instance in forgeries.items():
        code = KINDS[kind][0]
        until(lambda instance=instance: fault(cloud, first, instance), f"{kind}: a fault")  # type: ignore[misc]
        assert fault(cloud, first, instance) == code, kind
        assert any(what == "fault" and reason.startswith(code) for what, reason in story(cloud, instance)), kind
    assert {(KINDS[kind][1], instance) for kind, instance in forgeries.items()} <= found(cloud)
    assert sum(domain_count(cloud, instance) for instance in forgeries.values()) == 0, "none was booted"

    told = cloud.schedule("destroy", *forgeries.values())
    assert told.code == 0, told.err
    sound(cloud)
    assert domain_count(cloud, honest) == 1


def test_a_key_that_is_no_uuid_harms_nobody(cloud: Lab, first: LabNode) -> None:
    key = keys.spec(first.uuid, "..")
    assert cloud.store.transact([], [Put(key, forged("nobody claimed it", cloud, first, new_uuid()))])
    until(lambda: "event=not-a-uuid" in first.agent_log, "the node tells of it")
    assert ("bad-record", "..") in found(cloud)
    assert cloud.store.transact([], [Delete(key)]), "as the doctor advises"
