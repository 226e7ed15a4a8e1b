"""The verbs of ssh keys: key add, list, show, remove."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placet import ssh_keys, wiring
from placet.cli import output
from placet.config import load_schedule
from placet.errors import Usage
from placet.request import check_name

if TYPE_CHECKING:
    from placet.key_records import KeyRecords
    from placet.model import KeyRecord

COLUMNS = ("name", "fingerprint", "type", "age")


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    key = verbs.add_parser(
        "key",
        help="add, list, show or remove ssh keys",
        description="ssh public keys by name, for `create --key NAME`.",
    )
    doings = key.add_subparsers(metavar="DOING", required=True, parser_class=type(key))
    add = doings.add_parser("add", help="keep a public key under a name", description="Keep a public key under a name.")
    add.add_argument("name", metavar="NAME", help="small letters, digits and '-'")
    add.add_argument("file", metavar="FILE|-", help="the .pub file; - is stdin")
    add.set_defaults(verb=_add)
    listing = doings.add_parser("list", help="list the keys", description="List the keys of your project.")
    output.add_format(listing)
    listing.set_defaults(verb=_list)
    show = doings.add_parser("show", help="show a key", description="Show a key.")
    remove = doings.add_parser(
        "remove", help="forget a key", description="Forget a key; instances that have it keep it."
    )
    for parser, doing in ((show, _show), (remove, _remove)):
        parser.add_argument("name", metavar="NAME", help="the key's name")
        parser.set_defaults(verb=doing)
    output.add_format(show)


def _add(arguments: argparse.Namespace) -> int:
    name = check_name(arguments.name)
    try:
        line = ssh_keys.parse_public_key(_text(arguments.file))
    except Usage as problem:
        raise Usage(f"key {arguments.file}: {problem}") from problem
    _keys(arguments).add(name, line)
    return 0


def _text(file: str) -> str:
    limit = ssh_keys.MAX_BYTES + 1
    try:
        if file == "-":
            return sys.stdin.buffer.read(limit).decode()
        with Path(file).open("rb") as opened:
            return opened.read(limit).decode()
    except OSError as problem:
        raise Usage(f"{problem.strerror}; give an ssh public key's file") from problem
    except UnicodeDecodeError as problem:
        raise Usage("not text; give the .pub file") from problem


def _list(arguments: argparse.Namespace) -> int:
    rows = [_row(record) for record in _keys(arguments).all()]
    if not rows and arguments.format == "table":
        print("no keys; add one with: schedule.py key add NAME ~/.ssh/id_ed25519.pub", file=sys.stderr)
    output.show_rows(rows, COLUMNS, arguments)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    output.show_one(_row(_keys(arguments).get(arguments.name)), arguments)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    _keys(arguments).remove(arguments.name)
    return 0


def _keys(arguments: argparse.Namespace) -> KeyRecords:
    config = load_schedule(arguments.config)
    return wiring.ssh_keys(config, wiring.store(config))


def _row(record: KeyRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "fingerprint": ssh_keys.fingerprint(record.key),
        "type": ssh_keys.key_type(record.key),
        "comment": ssh_keys.comment(record.key) or None,
        "key": record.key,
        "created_at": output.iso(record.created_at),
        "age": output.age(time.time() - record.created_at),
    }
