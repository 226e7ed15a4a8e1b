"""etcd3's messages on a current protobuf."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.internal import api_implementation

from placet.store import etcd3_package
from placet.store.etcd3_package import etcd3, etcdrpc


def test_messages_are_made_by_the_compiled_protobuf() -> None:
    assert api_implementation.Type() != "python"


def test_a_message_goes_the_way_to_etcd_and_back() -> None:
    inner = etcdrpc.RangeRequest(key=b"a", range_end=b"b", limit=3, sort_order=etcdrpc.RangeRequest.DESCEND)
    sent = etcdrpc.TxnRequest(success=[etcdrpc.RequestOp(request_range=inner)])
    assert sent.SerializeToString() == b"\x12\x0c\n\n\n\x01a\x12\x01b\x18\x03(\x02"
    assert etcdrpc.TxnRequest.FromString(sent.SerializeToString()) == sent


def test_the_client_and_the_stubs_use_these_messages() -> None:
    assert etcd3.etcdrpc.TxnRequest is etcdrpc.TxnRequest
    assert etcd3.etcdrpc.TxnRequest.DESCRIPTOR.full_name == "etcdserverpb.TxnRequest"


def test_another_package_of_that_name_is_told(tmp_path: Path) -> None:
    other = tmp_path / "kv_pb2.py"
    other.write_text("DESCRIPTOR = None\n")
    with pytest.raises(ImportError, match=r"kv_pb2\.py is not of the etcd3 package that requirements\.txt names"):
        etcd3_package._make("x", other)
