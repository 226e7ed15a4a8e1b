"""The verbs of instances: create, ip, list, show, destroy."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from placet import keys, wiring
from placet.cli import output
from placet.cli.words import seconds
from placet.config import ScheduleConfig, load_schedule
from placet.errors import NothingFits, PlacetError, Usage
from placet.lifecycle import Stage
from placet.model import ImageRecord, decode
from placet.query import Query, parse_query
from placet.reconcile import RESTARTS
from placet.request import MAX_USER_DATA_BYTES, Request, check_name, resolve_image

if TYPE_CHECKING:
    from placet.instances import Instance, Instances
    from placet.store import Store

COLUMNS = ("name", "uuid", "state", "stage", "node", "ip", "age")
MAX_COUNT = 1000
WAIT_S = 300.0
DESTROY_WAIT_S = 60.0
KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519", "sk-ecdsa-sha2-")


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    _add_create(verbs)
    ip = verbs.add_parser("ip", help="print an instance's IP alone")
    ip.add_argument("instance", metavar="INSTANCE", help="a UUID, 8 or more digits of one, or a name")
    ip.set_defaults(verb=_ip)
    listing = verbs.add_parser("list", help="list the instances")
    output.add_format(listing)
    listing.set_defaults(verb=_list)
    show = verbs.add_parser("show", help="show all that is known of an instance")
    show.add_argument("instance", metavar="INSTANCE", help="a UUID, 8 or more digits of one, or a name")
    output.add_format(show)
    show.set_defaults(verb=_show)
    destroy = verbs.add_parser("destroy", help="destroy instances and wait until they are gone")
    destroy.add_argument("instances", metavar="INSTANCE", nargs="+", help="UUIDs, 8 or more digits of one, or names")
    destroy.add_argument("--force", action="store_true", help="give it up with its silent node: free what it held now")
    destroy.add_argument("--wait-timeout", type=seconds, default=DESTROY_WAIT_S, metavar="S", help="default: 60")
    destroy.set_defaults(verb=_destroy)


def _add_create(verbs: Any) -> None:
    create = verbs.add_parser("create", help="place an instance; the word can be left out before a query")
    create.add_argument("query", metavar="QUERY", help="Placement's own: resources=VCPU:1,MEMORY_MB:256,DISK_GB:1&…")
    create.add_argument("image", metavar="IMAGE", nargs="?", help="a name, a URL, or a path on the node")
    create.add_argument("--image", dest="image_flag", metavar="IMAGE", help="the same, as a flag")
    create.add_argument("--name", help="a name for it; with --count, NAME-1, NAME-2, …")
    create.add_argument("--uuid", help="its UUID: asking again with it gives the same instance, never a second")
    create.add_argument("--count", type=int, default=1, metavar="N", help="so many of them")
    create.add_argument("--key", action="append", metavar="FILE", help="an ssh public key instead of the default ones")
    create.add_argument("--user-data", metavar="FILE", help="a script or cloud-config for the first boot; - is stdin")
    create.add_argument("--restart", choices=RESTARTS, default="never", help="when it ends by itself (default: never)")
    create.add_argument("--wait", action="store_true", help="wait for the IP and print it")
    create.add_argument("--wait-for", choices=("ip", "agent"), help="wait for this stage (implies --wait)")
    create.add_argument("--wait-timeout", type=seconds, default=WAIT_S, metavar="S", help="default: 300")
    create.set_defaults(verb=_create)


def _create(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    requests = _requests(arguments, config, store)
    try:
        scheduler = wiring.scheduler(config, store)
        for request in requests:
            placed = scheduler.create(request)
            print(f"NOTIFIED TARGET, {placed.node}, OF INSTANCE {placed.instance}", flush=True)
    except NothingFits:
        print("NO ALLOCATIONS LEFT", flush=True)
        raise
    if arguments.wait or arguments.wait_for:
        _wait(wiring.instances(store), requests, Stage(arguments.wait_for or "ip"), arguments.wait_timeout)
    return 0


def _requests(arguments: argparse.Namespace, config: ScheduleConfig, store: Store) -> list[Request]:
    """Everything that was asked, checked before anything is claimed."""
    if arguments.image and arguments.image_flag:
        raise Usage("IMAGE and --image say the same thing; give one of them")
    if not 1 <= arguments.count <= MAX_COUNT:
        raise Usage(f"--count {arguments.count} is not from 1 to {MAX_COUNT}")
    if arguments.uuid and arguments.count > 1:
        raise Usage("--uuid names one instance; it does not go with --count")
    defaults = config.defaults
    amounts = {"VCPU": defaults.VCPU, "MEMORY_MB": defaults.MEMORY_MB, "DISK_GB": defaults.DISK_GB}
    query = parse_query(arguments.query, amounts)
    return [_request(arguments, config, store, query, number) for number in range(1, arguments.count + 1)]


def _request(arguments: argparse.Namespace, config: ScheduleConfig, store: Store, query: Query, number: int) -> Request:
    instance = _uuid(arguments.uuid) if arguments.uuid else wiring.new_uuid()
    name = arguments.name or f"vm-{instance[:8]}"
    if arguments.count > 1 and arguments.name:
        name = f"{name}-{number}"
    word = arguments.image or arguments.image_flag or config.defaults.image
    record = None if "/" in word else _image_record(store, word)
    return Request(
        instance=instance,
        request_id=wiring.new_uuid(),
        name=check_name(name),
        query=query,
        image=resolve_image(word, record, query),
        project=config.project,
        keys=_keys(arguments.key, config.keys),
        user_data=_user_data(arguments.user_data),
        restart=arguments.restart,
    )


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as problem:
        raise Usage(f"--uuid {text!r} is not a UUID, as in 7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10") from problem


def _image_record(store: Store, name: str) -> ImageRecord | None:
    entry = store.get(keys.image(name))
    return decode(ImageRecord, entry.value, entry.key) if entry else None


def _keys(files: list[str] | None, defaults: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for file in files if files is not None else defaults:
        try:
            lines = Path(file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise Usage(f"key {file}: cannot be read ({problem}); --key takes an ssh public key's file") from problem
        words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not words or not all(word.startswith(KEY_TYPES) for word in words):
            raise Usage(f"key {file}: no ssh public key; give the .pub file")
        found.extend(words)
    return tuple(found)


def _user_data(file: str | None) -> str:
    if file is None:
        return ""
    try:
        data = sys.stdin.buffer.read(MAX_USER_DATA_BYTES + 1) if file == "-" else Path(file).read_bytes()
        text = data.decode()
    except OSError as problem:
        raise Usage(f"--user-data {file}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise Usage(f"--user-data {file}: not text in UTF-8") from problem
    if len(data) > MAX_USER_DATA_BYTES:
        raise Usage(f"--user-data {file}: over {MAX_USER_DATA_BYTES // 1024} KiB; let it fetch the rest itself")
    return text


def _wait(instances: Instances, requests: list[Request], stage: Stage, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for request in requests:
        instances.wait_for(request.instance, stage, max(0.0, deadline - time.monotonic()))
        print(instances.ip(request.instance), flush=True)


def _ip(arguments: argparse.Namespace) -> int:
    instances, instance, _ = _found(arguments, arguments.instance)
    print(instances.ip(instance))
    return 0


def _found(arguments: argparse.Namespace, word: str) -> tuple[Instances, str, ScheduleConfig]:
    config = load_schedule(arguments.config)
    instances = wiring.instances(wiring.store(config))
    return instances, instances.find(word, config.project), config


def _list(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    instances = wiring.instances(wiring.store(config))
    rows = [_row(instance) for instance in instances.all()]
    if not rows and arguments.format == "table":
        print("no instances; place one with: schedule.py 'resources=VCPU:1'", file=sys.stderr)
    unknown = ("unknown_for",) if any(row["unknown_for"] for row in rows) else ()
    output.show_rows(rows, COLUMNS + unknown, arguments)
    return 0


def _row(instance: Instance) -> dict[str, Any]:
    index = instance.index
    return {
        "uuid": index.instance,
        "name": index.name,
        "state": instance.state.value,
        "stage": instance.stage.value,
        "node": instance.node_name,
        "ip": instance.ip,
        "created_at": output.iso(index.created_at),
        "age": output.age(time.time() - index.created_at),
        "unknown_since": output.iso(instance.unknown_since),
        "unknown_for": output.age(time.time() - instance.unknown_since) if instance.unknown_since else None,
    }


def _show(arguments: argparse.Namespace) -> int:
    instances, found, _ = _found(arguments, arguments.instance)
    output.show_one(_details(instances.get(found)), arguments)
    return 0


def _details(instance: Instance) -> dict[str, Any]:
    """Everything about an instance; what is not known yet is null."""
    spec, status = instance.spec, instance.status
    row = _row(instance)
    start = instance.index.created_at
    stages = status.stages if status else {}
    return {
        **row,
        "project": instance.index.project,
        "resources": {name: spec.amount(name) for name in _classes(instance)} if spec else None,
        "image": spec.image.source if spec else None,
        "power": status.power.value if status else None,
        "task": "destroying" if instance.destroying else status.task if status else None,
        "fault": f"{status.fault.code}: {status.fault.message}" if status and status.fault else None,
        "addresses": [f"{each.ip} ({each.confirmed_by or 'reserved'})" for each in status.addresses] if status else [],
        "stages": {stage: round(at - start, 2) for stage, at in stages.items()},
        "deleted_at": output.iso(instance.index.deleted_at),
        "node_uuid": instance.index.node,
        "why": dict(instance.index.why),
    }


def _classes(instance: Instance) -> list[str]:
    spec = instance.spec
    return sorted({name for amounts in spec.allocations.values() for name in amounts}) if spec else []


def _destroy(arguments: argparse.Namespace) -> int:
    worst = 0
    for word in arguments.instances:
        try:
            _destroy_one(arguments, word)
        except PlacetError as problem:
            if len(arguments.instances) == 1:
                raise
            print(f"schedule.py: {problem}", file=sys.stderr)
            worst = max(worst, problem.exit_code)
    return worst


def _destroy_one(arguments: argparse.Namespace, word: str) -> None:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    instance = wiring.instances(store).find(word, config.project)
    destroyer = wiring.destroyer(store)
    if arguments.force:
        _, claims = wiring.placement(config, store)
        done = destroyer.force(instance, "schedule.py", claims)
    else:
        done = destroyer.destroy(instance, "schedule.py", arguments.wait_timeout)
    if not done:
        print(f"{instance} was gone already", file=sys.stderr)
