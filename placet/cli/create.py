"""The verb create: the words become requests, all of them checked before anything is claimed."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from placet import guest_inputs, keys, smbios, wiring
from placet.cli.inputs import read_files, read_keys, read_user_data
from placet.cli.placing import add_placing, read_placing
from placet.cli.previews import add_dry_run, check_dry_run, dry_run
from placet.cli.words import seconds
from placet.config import ScheduleConfig, load_schedule
from placet.errors import NothingFits, PlacetError, Usage
from placet.image_requirements import query_for_image
from placet.lifecycle import RESTARTS, Stage
from placet.model import ImageRecord, decode
from placet.readiness import STAGES, deadlines_of
from placet.request import AUTO, CONFIG_DRIVES, METADATA_TOKENS, Request, check_name, choose, resolve_image
from placet.schema import changed

if TYPE_CHECKING:
    from placet.instances import Instances
    from placet.scheduler import Scheduler
    from placet.store import Store

MAX_COUNT = 1000
WAIT_S = 300.0


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verb."""
    create = verbs.add_parser("create", help="place an instance; the word can be left out before a query")
    create.add_argument("query", metavar="QUERY", help="Placement's own: resources=VCPU:1,MEMORY_MB:256,DISK_GB:1&…")
    create.add_argument("image", metavar="IMAGE", nargs="?", help="a name, a URL, or a path on the node")
    create.add_argument("--image", dest="image_flag", metavar="IMAGE", help="the same, as a flag")
    create.add_argument("--name", help="a name for it; with --count, NAME-1, NAME-2, …")
    create.add_argument("--uuid", help="its UUID: asking again with it gives the same instance, never a second")
    create.add_argument("--count", type=int, default=1, metavar="N", help="so many of them")
    create.add_argument("--restart", choices=RESTARTS, default="never", help="when it ends by itself (default: never)")
    add_placing(create.add_argument_group("where it may go (docs/scheduling.md)"))
    _add_inputs(create.add_argument_group("what the guest is given (docs/guests.md)"))
    add_dry_run(create)
    create.add_argument("--wait", action="store_true", help="wait for the IP and print it")
    create.add_argument("--wait-for", choices=STAGES, help="wait for this stage (implies --wait)")
    create.add_argument("--wait-timeout", type=seconds, default=WAIT_S, metavar="S", help="default: 300")
    create.set_defaults(verb=_create)


def _add_inputs(group: Any) -> None:
    group.add_argument(
        "--key", action="append", metavar="NAME|FILE", help="an ssh public key instead of the default ones; repeatable"
    )
    group.add_argument("--user-data", metavar="FILE", help="for its first boot: cloud-config, a script, …; - is stdin")
    group.add_argument("--hostname", help="its host name, or full domain name (default: its name)")
    group.add_argument(
        "--property", action="append", default=[], metavar="K=V", help="a word of yours for it to read; repeatable"
    )
    group.add_argument(
        "--file", action="append", default=[], metavar="GUESTPATH=LOCAL", help="a small file to put there; repeatable"
    )
    group.add_argument(
        "--config-drive",
        choices=(AUTO, *CONFIG_DRIVES),
        default=AUTO,
        help="the layout of its config drive (default: the image's, else openstack)",
    )
    group.add_argument(
        "--metadata-tokens",
        choices=(AUTO, *METADATA_TOKENS),
        default=AUTO,
        help="whether the metadata service wants a token (default: the image's, else optional)",
    )


def _create(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    store = wiring.store(config)
    requests = _requests(arguments, config, store)
    if arguments.dry_run:
        return dry_run(arguments, config, store, requests[0])
    try:
        _place(wiring.scheduler(config, store), requests)
    except NothingFits:
        print("NO ALLOCATIONS LEFT", flush=True)
        raise
    if arguments.wait or arguments.wait_for:
        _wait(wiring.instances(store), requests, Stage(arguments.wait_for or "ip"), arguments.wait_timeout)
    return 0


def _place(scheduler: Scheduler, requests: list[Request]) -> None:
    """Tell of each as it is placed; then raise what kept one of the others from it: no room before all else."""
    problems: list[PlacetError] = []
    for _, outcome in scheduler.create_many(requests):
        if isinstance(outcome, PlacetError):
            problems.append(outcome)
        else:
            print(f"NOTIFIED TARGET, {outcome.node}, OF INSTANCE {outcome.instance}", flush=True)
    if not problems:
        return
    if len(requests) > 1:
        print(f"{len(requests) - len(problems)} of {len(requests)} were placed", file=sys.stderr)
    raise next((problem for problem in problems if isinstance(problem, NothingFits)), problems[0])


def _wait(instances: Instances, requests: list[Request], stage: Stage, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for request in requests:
        instances.wait_for(request.instance, stage, max(0.0, deadline - time.monotonic()))
        print(instances.ip(request.instance), flush=True)


def _requests(arguments: argparse.Namespace, config: ScheduleConfig, store: Store) -> list[Request]:
    """Everything that was asked; what one instance and the next have in common is read once."""
    _check_words(arguments)
    first = _request(arguments, config, store)
    return [_named(first, arguments, number) for number in range(1, arguments.count + 1)]


def _check_words(arguments: argparse.Namespace) -> None:
    check_dry_run(arguments)
    if arguments.image and arguments.image_flag:
        raise Usage("IMAGE and --image say the same thing; give one of them")
    if not 1 <= arguments.count <= MAX_COUNT:
        raise Usage(f"--count {arguments.count} is not from 1 to {MAX_COUNT}")
    for flag in ("uuid", "hostname"):
        if getattr(arguments, flag) is not None and arguments.count > 1:
            raise Usage(f"--{flag} is one instance's own; it does not go with --count")


def _named(request: Request, arguments: argparse.Namespace, number: int) -> Request:
    """The same request for the next of --count."""
    instance = _uuid(arguments.uuid) if arguments.uuid else _new_uuid(request)
    name = arguments.name or f"vm-{instance[:8]}"
    if arguments.count > 1 and arguments.name:
        name = f"{name}-{number}"
    return changed(request, instance=instance, request_id=wiring.new_uuid(), name=check_name(name))


def _new_uuid(request: Request) -> str:
    uuid = wiring.new_uuid()
    return smbios.ec2_uuid(uuid) if smbios.is_ec2(request.config_drive, request.metadata_tokens) else uuid


def _request(arguments: argparse.Namespace, config: ScheduleConfig, store: Store) -> Request:
    """A request that has no instance yet."""
    word = arguments.image or arguments.image_flag or config.defaults.image
    record = _record(word, store)
    query = query_for_image(arguments.query, config.defaults.amounts, record)
    placing = read_placing(arguments, store, query)
    user_data, encoding = read_user_data(arguments.user_data)
    return Request(
        instance="",
        request_id="",
        name="",
        query=placing.query,
        image=resolve_image(word, record, placing.query),
        project=config.project,
        keys=read_keys(config.keys if arguments.key is None else arguments.key, store, config.project),
        user_data=user_data,
        user_data_encoding=encoding,
        hostname=guest_inputs.check_hostname(arguments.hostname) if arguments.hostname is not None else "",
        files=read_files(arguments.file),
        properties=guest_inputs.parse_properties(arguments.property),
        config_drive=choose(arguments.config_drive, CONFIG_DRIVES, record, "config_drive"),
        metadata_tokens=choose(arguments.metadata_tokens, METADATA_TOKENS, record, "metadata_tokens"),
        deadlines=deadlines_of(record.properties if record else {}),
        restart=arguments.restart,
        group=placing.group,
        group_policy=placing.group_policy,
        host=placing.host,
        avoid=placing.avoid,
    )


def _record(word: str, store: Store) -> ImageRecord | None:
    entry = None if "/" in word else store.get(keys.image(word))
    return decode(ImageRecord, entry.value, entry.key) if entry else None


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as problem:
        raise Usage(f"--uuid {text!r} is not a UUID, as in 7b0c6a3e-6d1f-4c7e-9a55-0e2f6f6f3a10") from problem
