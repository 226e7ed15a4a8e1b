"""The verbs of instances that are placed: ip, list, show, destroy."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from placet import wiring
from placet.cli import output
from placet.cli.words import seconds
from placet.config import ScheduleConfig, load_schedule
from placet.errors import NotFound, PlacetError

if TYPE_CHECKING:
    from placet.instances import Instance, Instances
    from placet.model import Spec

COLUMNS = ("name", "uuid", "state", "stage", "node", "ip", "age")
DESTROY_WAIT_S = 60.0


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
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
    if arguments.format == "table":
        _tell_warnings(rows)
    return 0


def _tell_warnings(rows: list[dict[str, Any]]) -> None:
    """A line on stderr for each; its console's lines are for `show`."""
    for row in rows:
        if row["warning"]:
            print(f"{row['name']}: {output.clean(row['warning'].partition(';')[0])}; see `show`", file=sys.stderr)


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
        "warning": instance.status.warning if instance.status else None,
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
        **_inputs(spec),
        "power": status.power.value if status else None,
        "task": "destroying" if instance.destroying else status.task if status else None,
        "fault": f"{status.fault.code}: {status.fault.message}" if status and status.fault else None,
        "addresses": [f"{each.ip} ({each.confirmed_by or 'reserved'})" for each in status.addresses] if status else [],
        "stages": {stage: round(at - start, 2) for stage, at in stages.items()},
        "ready_at": output.iso(instance.published.ready_at) if instance.published else None,
        "data": dict(instance.published.data) if instance.published else {},
        "deleted_at": output.iso(instance.index.deleted_at),
        "node_uuid": instance.index.node,
        "why": dict(instance.index.why),
    }


def _inputs(spec: Spec | None) -> dict[str, Any]:
    """What the guest is given, as far as people want to see it: no user-data, of files and keys but the names."""
    if spec is None:
        return dict.fromkeys(("hostname", "properties", "keys", "files", "config_drive", "metadata_tokens"))
    keys = [key.split(maxsplit=2) for key in spec.keys]
    return {
        "hostname": spec.hostname or spec.name,
        "properties": dict(sorted(spec.properties.items())),
        "keys": [" ".join([*words[:1], *words[2:]]) for words in keys],
        "files": [file.path for file in spec.files],
        "config_drive": spec.config_drive,
        "metadata_tokens": spec.metadata_tokens,
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
    instances = wiring.instances(store)
    try:
        instance = instances.find(word, config.project)
    except NotFound:
        if not _was_there(instances, word, config.project):
            raise
        print(f"{word} was gone already", file=sys.stderr)
        return
    destroyer = wiring.destroyer(store)
    if arguments.force:
        _, claims = wiring.placement(config, store)
        done = destroyer.force(instance, "schedule.py", claims)
    else:
        done = destroyer.destroy(instance, "schedule.py", arguments.wait_timeout)
    if not done:
        print(f"{instance} was gone already", file=sys.stderr)


def _was_there(instances: Instances, name: str, project: str) -> bool:
    try:
        instances.find_gone(name, project)
    except NotFound:
        return False
    return True
