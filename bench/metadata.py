"""The metadata service of a node at rest and while VMs are built there: requests a second, how long one takes, memory.

A lab's node with its real agent, md_server and guests; beside the guests, on the same bridge, sixteen addresses in a
network namespace from which the load comes. Before a figure counts every document of every guest is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace

import psutil

from bench.load import Burst, Plan
from bench.rows import Row
from placet import metadata
from placet.config import BESIDE_SCRIPT
from placet.guest_records import GuestRecords
from placet.metadata import GuestRecord, Tree
from placet.model import Nic
from placet.node_records import Address
from tests.lab.lab import Lab, lab
from tests.lab.namespaces import Namespaces, enter_command
from tests.lab.nodes import LabNode

GUESTS = 16
SUBNET = "198.18.77"
BRIDGE = "placet0"
PACE = 1100.0
PACE_WHILE_BUILDING = 220.0
SECONDS = 15.0
SECONDS_WHILE_BUILDING = 30.0
BUILDERS = 2
QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:128"
LIVE = ("/latest/meta-data/hostname", "/latest/meta-data/local-ipv4", "/openstack/latest/meta_data.json")


def run() -> list[Row]:
    """All rows of this bench."""
    with lab(nodes=1, node_settings={"metadata_service": True}) as cloud:
        node = cloud.nodes[0]
        with _clients(node) as clients:
            records = [_record(number) for number in range(GUESTS)]
            files = GuestRecords(node.state_dir / "metadata")
            for record in records:
                files.write(record)
            _compare_all(clients, records)
            rows = [*_at_rest(clients, records), *_while_building(cloud, clients, records)]
        rows.append(Row("its resident memory after all that", _service(node).memory_info().rss / 2**20, "MiB", "<= 60"))
    return rows


def _at_rest(clients: Namespaces, records: list[GuestRecord]) -> list[Row]:
    kept, fresh = (Plan("169.254.169.254", SECONDS, _expected(records, LIVE), PACE, keep) for keep in (True, False))
    fastest = _burst(clients, replace(kept, rate=None))
    return [
        *_rows(f"at rest, {PACE:g}/s asked for, connections kept", _burst(clients, kept), 1000),
        *_rows(f"at rest, {PACE:g}/s asked for, each on a new connection", _burst(clients, fresh), 1000),
        Row("at rest, as fast as answers come", fastest.rate, "/s"),
    ]


def _while_building(cloud: Lab, clients: Namespaces, records: list[GuestRecord]) -> list[Row]:
    """Two VMs at a time, built to their IP and destroyed, as long as the load lasts."""
    plan = Plan("169.254.169.254", SECONDS_WHILE_BUILDING, _expected(records, LIVE), PACE_WHILE_BUILDING, keep=False)
    over, built = threading.Event(), list[str]()
    with ThreadPoolExecutor(BUILDERS) as pool:
        builders = [pool.submit(_build_again_and_again, cloud, over, built) for _ in range(BUILDERS)]
        found = _burst(clients, plan)
        over.set()
        for builder in builders:
            builder.result()
    name = f"while VMs are built two at a time, {PACE_WHILE_BUILDING:g}/s asked for, each on a new connection"
    return [*_rows(name, found, 200, None), Row("VMs that were built meanwhile", len(built), "")]


def _rows(name: str, found: Burst, rate: int, p99_ms: int | None = 20) -> list[Row]:
    return [
        Row(name, found.rate, "/s", f">= {rate}"),
        Row("  half of the answers within", found.p50_ms, "ms"),
        Row("  99 % of the answers within", found.p99_ms, "ms", f"<= {p99_ms}" if p99_ms else None),
    ]


def _build_again_and_again(cloud: Lab, over: threading.Event, built: list[str]) -> None:
    while not over.is_set():
        instance = str(uuid.uuid4())
        for words in ((QUERY, "--uuid", instance, "--wait"), ("destroy", instance)):
            told = cloud.schedule(*words)
            if told.code:
                raise AssertionError(f"{words}: exit {told.code}: {told.err}")
        built.append(instance)


@contextmanager
def _clients(node: LabNode) -> Iterator[Namespaces]:
    """Network namespaces on the node's bridge, with the addresses of guests."""
    clients = Namespaces("clients", node.host.directory.parent / "clients")
    try:
        clients.up()
        command = f"ip link add clients type veth peer name eth0 netns {clients.init_pid}"
        node.host.run_in_network(*command.split())
        node.host.run("ip", "link", "set", "clients", "master", BRIDGE, "up")
        node.host.run("ip", "address", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
        clients.run("ip", "link", "set", "eth0", "up")
        for number in range(GUESTS):
            clients.run("ip", "address", "add", f"{_ip(number)}/24", "dev", "eth0")
        clients.run("ip", "route", "add", "default", "via", f"{SUBNET}.1")
        yield clients
    finally:
        clients.down()


def _ip(number: int) -> str:
    return f"{SUBNET}.{10 + number}"


def _record(number: int) -> GuestRecord:
    name, mac = f"bench-{number}", f"52:54:00:bb:00:{number:02x}"
    return GuestRecord(
        instance=str(uuid.uuid4()),
        name=name,
        hostname=name,
        project="default",
        image="/bench",
        nics=(Nic(mac),),
        created_at=0.0,
        addresses=(Address(_ip(number), mac),),
        keys=(f"ssh-ed25519 AAAA{name} {name}",),
        user_data=f"#!/bin/sh\n: {name}\n",
    )


def _expected(records: list[GuestRecord], paths: tuple[str, ...]) -> dict[str, dict[str, str]]:
    return {record.ips[0]: {path: _document(record, path) for path in paths} for record in records}


def _document(record: GuestRecord, path: str) -> str:
    found = metadata.find(metadata.tree(record), path)
    assert found is not None, path
    return found.decode()


def _compare_all(clients: Namespaces, records: list[GuestRecord]) -> None:
    """Each guest asks for all there is."""
    for record in records:
        expected = _expected([record], tuple(_paths(metadata.tree(record))))
        count = len(expected[record.ips[0]])
        found = _burst(clients, Plan("169.254.169.254", count / 500, expected, 500.0))
        assert found.answers >= count, f"{found.answers} answers, of {count} documents"


def _paths(tree: Tree, above: str = "/") -> Iterator[str]:
    yield above
    for name, item in tree.items():
        if isinstance(item, Mapping):
            yield from _paths(item, f"{above}{name}/")
        elif name:
            yield f"{above}{name}"


def _burst(clients: Namespaces, plan: Plan) -> Burst:
    command = [
        *enter_command(clients.init_pid),
        "--",
        "env",
        f"PYTHONPATH={BESIDE_SCRIPT}",
        sys.executable,
        "-m",
        "bench.load",
    ]
    done = subprocess.run(command, input=json.dumps(asdict(plan)), check=True, stdout=subprocess.PIPE, text=True)
    found = Burst(**json.loads(done.stdout))
    if found.wrong:
        raise AssertionError("\n".join(["wrong answers:", *found.wrong]))
    return found


def _service(node: LabNode) -> psutil.Process:
    records = str(node.state_dir / "metadata")
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "md_server" in words and records in words:
            return process
    raise RuntimeError("md_server does not run")
