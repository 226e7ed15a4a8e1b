"""The promises of docs/guarantees.md as one check of all three authorities, read by other means than the product's.

etcd's keys as JSON, Placement's API, libvirt's domains, the nodes' files. `problems` is empty when all agree; it says
in a line each what does not. What is being built or destroyed is no agreement yet: `wait_until_sound` waits for it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import requests

from placet.store import Store

SETTLED_S = 240.0
HEADERS = {"x-auth-token": "admin", "openstack-api-version": "placement 1.39"}
Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A node as seen from outside: its UUID, its libvirtd, its state directory."""

    node: str
    uri: str
    state_dir: Path


@dataclass
class Seen:
    """What the three authorities say, each by instance where it is about one."""

    specs: dict[str, Record] = field(default_factory=dict)
    statuses: dict[str, Record] = field(default_factory=dict)
    indexes: dict[str, Record] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    held: dict[str, Record] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)
    domains: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    traces: dict[str, set[str]] = field(default_factory=dict)
    litter: list[str] = field(default_factory=list)


def problems(store: Store, placement: str, places: Sequence[Place]) -> list[str]:
    """Every promise that does not hold right now, a line each."""
    seen = Seen()
    _read_etcd(store, seen)
    _read_placement(placement, seen)
    for place in places:
        _read_libvirt(place, seen)
        _read_files(place, seen)
    return [*_of_specs(seen), *_of_leftovers(seen), *seen.over, *seen.litter]


def wait_until_sound(store: Store, placement: str, places: Sequence[Place], timeout_s: float = SETTLED_S) -> None:
    """Wait until nothing is under way and all agree. Fails with what does not."""
    deadline = time.monotonic() + timeout_s
    while found := problems(store, placement, places):
        assert time.monotonic() < deadline, "\n".join(["not sound:", *found])
        time.sleep(0.2)


def _read_etcd(store: Store, seen: Seen) -> None:
    for entry in store.scan("").entries:
        parts = entry.key.split("/")
        if entry.key.startswith("nodes/") and parts[2] == "specs":
            seen.specs[parts[3]] = json.loads(entry.value)
        elif entry.key.startswith("nodes/") and parts[2] == "status":
            seen.statuses[parts[3]] = json.loads(entry.value)
        elif parts[0] == "instances":
            seen.indexes[parts[1]] = json.loads(entry.value)
        elif parts[0] == "names":
            seen.names[parts[2]] = json.loads(entry.value)["instance"]
        elif parts[0] == "published":
            seen.traces.setdefault(parts[2], set()).add(entry.key)
        elif parts[0] == "intents" or (entry.key.startswith("nodes/") and parts[2] in ("destroys", "operations")):
            seen.pending.append(entry.key)


def _read_placement(endpoint: str, seen: Seen) -> None:
    for provider in _get(endpoint, "/resource_providers")["resource_providers"]:
        path = f"/resource_providers/{provider['uuid']}"
        for consumer, held in _get(endpoint, f"{path}/allocations")["allocations"].items():
            seen.held.setdefault(consumer, {})[provider["uuid"]] = held["resources"]
        offered = _get(endpoint, f"{path}/inventories")["inventories"]
        for name, used in _get(endpoint, f"{path}/usages")["usages"].items():
            inventory = offered[name]
            if used > (inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"]:
                seen.over.append(f"{provider['uuid']}: {used} of {name} are used, more than there is")


def _get(endpoint: str, path: str) -> Record:
    answer = requests.get(endpoint + path, headers=HEADERS, timeout=60)
    answer.raise_for_status()
    found: Record = answer.json()
    return found


def _read_libvirt(place: Place, seen: Seen) -> None:
    libvirtd = libvirt.open(place.uri)
    try:
        for domain in libvirtd.listAllDomains():
            if (state := _state(domain)) is not None:
                seen.domains.setdefault(domain.name(), []).append((place.node, state))
        for pool in libvirtd.listAllStoragePools():
            seen.litter.append(f"{place.node}: the storage pool {pool.name()} is left")
    finally:
        libvirtd.close()


def _state(domain: libvirt.virDomain) -> int | None:
    """None when it went since it was listed."""
    try:
        return int(domain.state()[0])
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _read_files(place: Place, seen: Seen) -> None:
    for directory in ("instances", "instances/dhcp", "metadata", "published", "specs"):
        for path in (place.state_dir / directory).glob("*"):
            if _is_uuid(path.stem):
                seen.traces.setdefault(path.stem, set()).add(f"{place.node}: {directory}/{path.name}")
    for path in (place.state_dir / "images").rglob("*.part"):
        seen.litter.append(f"{place.node}: {path.name} is left of a download")


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _of_specs(seen: Seen) -> Iterator[str]:
    """Each spec has its index, allocation, domain and disk, or is in ERROR and says why."""
    for instance, spec in seen.specs.items():
        index, status = seen.indexes.get(instance), seen.statuses.get(instance)
        if index is None or index.get("deleted_at") or index["node"] != spec["node"]:
            yield f"{instance}: has a spec, and its index says {index}"
        if status is None or status["state"] == "BUILD":
            yield f"{instance}: is being built: {status}"
        elif status["state"] == "ERROR":
            if not status.get("fault", {}).get("message"):
                yield f"{instance}: is in ERROR and does not say why"
        else:
            yield from _of_guest(seen, instance, spec, status)


def _of_guest(seen: Seen, instance: str, spec: Record, status: Record) -> Iterator[str]:
    if seen.held.get(instance) != spec["allocations"]:
        yield f"{instance}: holds {seen.held.get(instance)}, its spec says {spec['allocations']}"
    domains = seen.domains.get(instance, [])
    if [node for node, _ in domains] != [spec["node"]]:
        yield f"{instance}: should be on {spec['node']}, has domains {domains}"
    wanted = {"ACTIVE": libvirt.VIR_DOMAIN_RUNNING, "SHUTOFF": libvirt.VIR_DOMAIN_SHUTOFF}.get(status["state"])
    if wanted is not None and any(state != wanted for _, state in domains):
        yield f"{instance}: is said to be {status['state']}, and libvirt says {domains}"
    if status["state"] == "ACTIVE" and "ip" not in status["stages"]:
        yield f"{instance}: has no IP yet"
    if not any("instances/" in trace for trace in seen.traces.get(instance, ())):
        yield f"{instance}: has no directory"


def _of_leftovers(seen: Seen) -> Iterator[str]:
    """Nothing is there of what has no spec; nothing is there twice; nothing is under way."""
    yield from (f"{key}: is under way" for key in seen.pending)
    for what, found in (("a status", seen.statuses), ("an allocation", seen.held), ("a domain", seen.domains)):
        yield from (f"{instance}: has {what} and no spec" for instance in found.keys() - seen.specs.keys())
    for instance, traces in seen.traces.items():
        if instance not in seen.specs:
            yield f"{instance}: has no spec, and left {', '.join(sorted(traces))}"
    for instance, index in seen.indexes.items():
        if not index.get("deleted_at") and instance not in seen.specs:
            yield f"{instance}: has an index that is not closed, and no spec"
    yield from (f"{instance}: has {len(found)} domains" for instance, found in seen.domains.items() if len(found) > 1)
    for name, times in Counter(spec["name"] for spec in seen.specs.values()).items():
        if times > 1:
            yield f"the name {name} is {times} instances'"
    yield from (
        f"the name {name} is of {holder}, which is gone"
        for name, holder in seen.names.items()
        if holder not in seen.specs
    )
