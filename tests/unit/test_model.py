"""Records in etcd: they come back as they went, unknown fields are kept, unknown versions refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.lifecycle import Power, Stage, State
from placet.model import MAX_RECORD_BYTES, BadRecord, ImageRef, Nic, Spec, decode, encode
from placet.node_records import Address, FaultRecord, Status

SPEC = Spec(
    instance="i",
    node="n",
    name="web",
    image=ImageRef("/a.qcow2", "qcow2"),
    allocations={"n": {"VCPU": 2, "DISK_GB": 3}, "pool": {"DISK_GB": 4}},
    nics=(Nic("52:54:00:00:00:01"),),
    created_at=1.5,
    request_id="r",
    keys=("ssh-ed25519 AAAA",),
)
STATUS = Status(
    instance="i",
    node="n",
    state=State.ERROR,
    stage=Stage.IMAGE,
    stages={"claimed": 1.0, "image": 2.0},
    updated_at=3.0,
    power=Power.SHUTOFF,
    addresses=(Address("198.19.0.2", "52:54:00:00:00:01", confirmed_by="lease"),),
    fault=FaultRecord("disk-full", "image", "no room"),
)


def test_records_come_back_as_they_went() -> None:
    assert decode(Spec, encode(SPEC), "k") == SPEC
    assert decode(Status, encode(STATUS), "k") == STATUS


def test_amounts_are_summed_over_providers() -> None:
    assert (SPEC.amount("DISK_GB"), SPEC.amount("VCPU"), SPEC.amount("MEMORY_MB")) == (7, 2, 0)


def test_unknown_fields_are_kept_and_written_back() -> None:
    newer = json.dumps({**json.loads(encode(SPEC)), "tpm": "2.0"}).encode()
    assert json.loads(encode(decode(Spec, newer, "k")))["tpm"] == "2.0"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "version None"),
        (b'{"version": 2}', "version 2"),
        (b'{"version": 1}', "missing"),
        (b" " * (MAX_RECORD_BYTES + 1), "over the"),
        (encode(SPEC).replace(b'"nics":[', b'"nics":[1,'), "nics[0]"),
        (encode(SPEC).replace(b'"VCPU":2', b'"VCPU":"2"'), "allocations.n.VCPU: expected a whole number"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(value: bytes, words: str) -> None:
    with pytest.raises(BadRecord) as caught:
        decode(Spec, value, "nodes/n/specs/i")
    assert words in str(caught.value)
    assert str(caught.value).startswith("nodes/n/specs/i: ")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_a_bad_record(value: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(Spec, value, "k")
