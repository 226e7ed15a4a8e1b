"""The plain algorithm that this kind of scheduler starts from, as a program: `python -m bench claims` compares with it.

    python -m bench.reference PLACEMENT ETCD_HOST ETCD_PORT QUERY        prints the node and the instance

All candidates, the first one, a claim of it, one put of a spec: no intent, no index, no comparison, nothing that would
find out that two did it at once.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

from keystoneauth1 import adapter, session, token_endpoint

from placet.store.etcd3_package import etcd3

PROJECT = str(uuid.UUID(int=5))


def connect(placement: str) -> adapter.Adapter:
    """A client of Placement."""
    found = session.Session(auth=token_endpoint.Token(placement, "admin"))
    return adapter.Adapter(
        found, service_type="placement", default_microversion="1.39", endpoint_override=placement, raise_exc=False
    )


def place(placement: adapter.Adapter, etcd: Any, query: str) -> tuple[str, str]:
    """One instance: the node and its UUID."""
    found = placement.get(f"/allocation_candidates?{query}").json()["allocation_requests"][0]
    instance = str(uuid.uuid4())
    claim = {
        "allocations": found["allocations"],
        "mappings": found["mappings"],
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
        "project_id": PROJECT,
        "user_id": PROJECT,
    }
    answer = placement.put(f"/allocations/{instance}", json=claim)
    if answer.status_code != 204:
        raise SystemExit(f"the claim was refused: {answer.text}")
    node = next(iter(found["allocations"]))
    etcd.put(f"/reference/{node}/{instance}", json.dumps({"instance": instance, "node": node, **claim}))
    return node, instance


def main(placement: str, host: str, port: str, query: str) -> None:
    """Place one, with connections of its own."""
    print(*place(connect(placement), etcd3.client(host=host, port=int(port)), query))


if __name__ == "__main__":
    main(*sys.argv[1:])
