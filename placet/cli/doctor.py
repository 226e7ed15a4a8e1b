"""The verb doctor: what disagrees, and its repair."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any

from placet import findings, wiring
from placet.cli import output
from placet.config import load_schedule
from placet.errand_records import Finding

FOUND, FIXED = 6, 7
COLUMNS = ("kind", "subject", "node", "repaired", "detail", "remedy")
WIDTH = 80


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verbs."""
    doctor = verbs.add_parser(
        "doctor",
        help="compare Placement, etcd and the hypervisors",
        description="Compare Placement, etcd and every node's hypervisor. Exit code 0: they agree; 6: something was "
        "found (and is left); 7: all that was found is fixed.",
    )
    doctor.add_argument("--fix", action="store_true", help="repair what is safe to repair")
    output.add_format(doctor)
    doctor.set_defaults(verb=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    found = wiring.doctor(config, wiring.store(config)).examine(arguments.fix)
    if arguments.format == "table" and not arguments.column:
        _print(found, arguments.fix)
    else:
        output.show_rows([_row(each) for each in found], COLUMNS, arguments)
    if not found:
        return 0
    return FIXED if all(each.repaired for each in found) else FOUND


def _row(found: Finding) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "subject": found.subject,
        "node": found.node,
        "repaired": found.repaired,
        "safe": findings.is_safe(found),
        "detail": found.detail,
        "remedy": findings.remedy(found),
    }


def _print(found: list[Finding], fix: bool) -> None:
    for each in found:
        print("\n".join(lines_of(each, fix)))
    left = sum(not each.repaired for each in found)
    if not found:
        print("clean: Placement, etcd and the hypervisors agree")
    else:
        print(f"{len(found)} found, {len(found) - left} fixed, {left} left", file=sys.stderr)


def lines_of(found: Finding, fix: bool) -> list[str]:
    """A finding as people read it; `fix` tells whether mending was asked for. UUIDs and commands stay whole."""
    where = [f"node: {found.node}"] if found.node and found.node != found.subject else []
    wrap = textwrap.TextWrapper(
        WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    told = [*where, found.detail, f"{_doing(found, fix)}: {findings.remedy(found)}"]
    return [output.clean(f"{found.kind}  {found.subject}"), *(wrap.fill(output.clean(line)) for line in told)]


def _doing(found: Finding, fix: bool) -> str:
    if found.repaired:
        return "fixed"
    if findings.is_safe(found):
        return "--fix could not" if fix else "--fix will"
    return "remedy"
