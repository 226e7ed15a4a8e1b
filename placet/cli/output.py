"""How rows are shown: a table for people, JSON, YAML and CSV for programs, bare values for shells."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from placet.errors import Usage
from placet.schema import nearest

Row = Mapping[str, Any]
FORMATS = ("table", "json", "yaml", "csv", "value")
SHORT_UUID = 8
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
UUID_CELL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def add_format(parser: argparse.ArgumentParser) -> None:
    """The flags `-f` and `-c`, as OpenStack's client has them."""
    parser.add_argument("-f", "--format", choices=FORMATS, default="table", help="how to show it (default: table)")
    parser.add_argument("-c", "--column", action="append", metavar="COLUMN", help="show only this; can be repeated")


def show_rows(rows: Sequence[Row], columns: Sequence[str], arguments: argparse.Namespace) -> None:
    """Many things, a row each. `columns` are those of the table; JSON and YAML have every field."""
    known = list(rows[0]) if rows else list(columns)
    chosen = _chosen(arguments.column, known)
    if arguments.format == "json":
        print(json.dumps([_only(row, chosen or known) for row in rows], indent=2))
    elif arguments.format == "yaml":
        _print_yaml([_only(row, chosen or known) for row in rows])
    elif arguments.format == "csv":
        _print_csv(rows, chosen or known)
    elif arguments.format == "value":
        for row in rows:
            print(" ".join(_text(row.get(name)) for name in chosen or columns))
    else:
        _print_table(rows, chosen or list(columns))


def show_one(row: Row, arguments: argparse.Namespace) -> None:
    """One thing, a line for each field."""
    chosen = _chosen(arguments.column, list(row)) or list(row)
    found = _only(row, chosen)
    if arguments.format == "json":
        print(json.dumps(found, indent=2))
    elif arguments.format == "yaml":
        _print_yaml(found)
    elif arguments.format == "csv":
        _print_csv([found], chosen)
    elif arguments.format == "value":
        for name in chosen:
            print(_text(found[name]))
    else:
        width = max(len(name) for name in chosen)
        for name in chosen:
            print(f"{name:<{width}}  {_text(found[name])}")


def show_line(row: Row, columns: Sequence[str], arguments: argparse.Namespace) -> None:
    """One of many that come one by one: a line of words, or of JSON."""
    chosen = _chosen(arguments.column, list(row)) or list(columns)
    if arguments.format == "json":
        print(json.dumps(_only(row, chosen if arguments.column else list(row))), flush=True)
    else:
        print("  ".join(_text(row.get(name)) for name in chosen), flush=True)


def age(seconds: float) -> str:
    """A duration in its two largest units: `42s`, `3m10s`, `2h05m`, `3d4h`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24}h"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


def iso(seconds: float | None) -> str | None:
    """A time as people and programs read it, in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def size(count: int) -> str | None:
    """A number of bytes for people, `64 MiB`; None when it is 0, which means that nobody knows."""
    if count < 1024:
        return f"{count} B" if count else None
    power = min((count.bit_length() - 1) // 10, 4)
    shown = count / 1024**power
    return f"{shown:.0f} {UNITS[power]}" if shown >= 10 or shown.is_integer() else f"{shown:.1f} {UNITS[power]}"


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that is written anew with each text, and gone in the end; only on a terminal."""
    width = shutil.get_terminal_size().columns - 1 if sys.stderr.isatty() else 0

    def tell(text: str) -> None:
        if width:
            print(f"\r{clean(text)[:width]:<{width}}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if width:
            print(f"\r{'':<{width}}\r", end="", file=sys.stderr, flush=True)


def clean(text: str) -> str:
    """A text without control characters: what comes from a guest or a record cannot steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value) or "-"
    return clean(str(value))


def _chosen(wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    for name in wanted or ():
        if name not in known:
            raise Usage(f"no column {name!r}{nearest(name, known)}")
    return list(wanted or ())


def _only(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in names}


def _print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Columns as wide as they must be; on a terminal too narrow, UUIDs are cut to what still finds them."""
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    lines = _aligned([name.upper() for name in columns], cells)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if width and max(map(len, lines)) > width:
        short = [[cell[:SHORT_UUID] if UUID_CELL.fullmatch(cell) else cell for cell in row] for row in cells]
        lines = _aligned([name.upper() for name in columns], short)
    print("\n".join(lines))


def _aligned(head: list[str], cells: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [head, *cells]]


def _print_yaml(value: Any) -> None:
    import yaml

    print(yaml.safe_dump(value, sort_keys=False).rstrip())


def _print_csv(rows: Sequence[Row], columns: Sequence[str]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(row.get(name)) for name in columns] for row in rows)
