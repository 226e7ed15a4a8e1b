"""The command line of `./up.sh`. Decides nothing: choose.py does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from placet.errors import Usage

VERBS = ("up", "status", "down", "destroy")
ETCD_PORT, PLACEMENT_PORT = 2379, 8080


@dataclass(frozen=True)
class UpOptions:
    """What `up` was told; None is what was not said, and then an earlier run's choice stands."""

    listen: str | None = None
    join: str | None = None
    etcd: str | None = None
    etcd_port: int | None = None
    etcd_ca: str | None = None
    etcd_cert: str | None = None
    etcd_key: str | None = None
    placement: str | None = None
    placement_port: int | None = None
    placement_db: str | None = None
    placement_workers: int | None = None
    own_libvirt: bool = False
    network: str | None = None
    no_vm: bool = False


@dataclass(frozen=True)
class Command:
    """One invocation."""

    verb: str
    up: UpOptions = UpOptions()
    yes: bool = False


def parse(argv: Sequence[str]) -> Command:
    """The verb and its options; `up` when there is no verb. Exits with 2 as argparse does."""
    words = list(argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "up")
    found = vars(_parser().parse_args(words))
    verb = found.pop("verb")
    if verb == "up":
        return Command(verb, up=UpOptions(**found))
    return Command(verb, yes=found.get("yes", False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="up.sh",
        description="A cloud on this machine.",
        epilog="Everything lies in $PLACET_STATE_DIR.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_up(verbs.add_parser("up", help="start what is not running (the default)", allow_abbrev=False))
    verbs.add_parser("status", help="what runs; exit 0 when all does", allow_abbrev=False)
    verbs.add_parser("down", help="stop what was started; guests and data stay", allow_abbrev=False)
    destroy = verbs.add_parser("destroy", help="remove guests, networks and data as well", allow_abbrev=False)
    destroy.add_argument("--yes", action="store_true", help="don't ask")
    return parser


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("--listen", metavar="ADDR", help="serve etcd and Placement at this address, too")
    up.add_argument("--join", metavar="HOST[:ETCD[:PLACEMENT]]", help="bring a node to the cloud at HOST")
    up.add_argument("--etcd", metavar="HOST:PORT", help="use this etcd instead of one of our own")
    up.add_argument("--etcd-port", type=_port, metavar="N", help="our etcd's port; its peer port is N+1")
    for name, what in (("ca", "authority"), ("cert", "certificate"), ("key", "private key")):
        up.add_argument(f"--etcd-{name}", type=_file, metavar="FILE", help=f"TLS with client certificates: {what}")
    up.add_argument("--placement", metavar="URL", help="use this Placement instead of one of our own")
    up.add_argument("--placement-port", type=_port, metavar="N", help="our Placement's port")
    up.add_argument("--placement-db", metavar="URL", help="postgresql+psycopg2://… instead of SQLite")
    up.add_argument("--placement-workers", type=_count, metavar="N", help="processes; more than 1 not on SQLite")
    up.add_argument("--own-libvirt", action="store_true", help="a libvirtd of our own beside the machine's")
    up.add_argument("--network", metavar="CIDR", help="the guests' range, /24 or wider")
    up.add_argument("--no-vm", action="store_true", help="don't make a first VM")


def host_and_port(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT in its parts. Raises Usage."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise Usage(f"{option} {text}: expected HOST:PORT")
    return host, int(port)


def join_target(text: str) -> tuple[str, int, int]:
    """HOST, etcd's port and Placement's. Raises Usage."""
    host, *ports = text.split(":")
    if not host or len(ports) > 2 or not all(port.isdigit() for port in ports):
        raise Usage(f"--join {text}: expected HOST, HOST:ETCDPORT or HOST:ETCDPORT:PLACEMENTPORT")
    numbers = [int(port) for port in ports]
    etcd_port = numbers[0] if numbers else ETCD_PORT
    return host, etcd_port, numbers[1] if len(numbers) > 1 else PLACEMENT_PORT


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to 65534)")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return int(text)


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return str(Path(text).resolve())
