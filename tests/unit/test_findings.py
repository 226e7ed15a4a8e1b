"""The table of findings is complete, and what it does not know is shown all the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import placet
from placet import findings
from placet.cli.doctor import lines_of
from placet.errand_records import AuditReport, Finding
from placet.findings import KINDS, finding, is_safe, remedy, repaired
from placet.model import decode, encode

SOURCES = sorted(Path(placet.__file__).parent.rglob("*.py"))


def test_every_kind_that_is_told_is_in_the_table_and_the_other_way_round() -> None:
    told = {kind for source in SOURCES for kind in re.findall(r'\bfinding\(\s*"([a-z-]+)"', source.read_text())}
    assert told == KINDS.keys()


def test_what_is_mended_without_asking_is_called_safe_and_the_other_way_round() -> None:
    menders = [text for source in SOURCES if "_mendings" in (text := source.read_text())]
    mended = {kind for source in menders for kind in re.findall(r'^ +"([a-z-]+)": self\._\w+,$', source, re.M)}
    by_hand = {"lost-cloud", "other-etcd"}  # the cloud's own record and a node's memory: no one finding's mending
    assert mended and mended | by_hand == {kind for kind, what in KINDS.items() if what.safe}


def test_a_finding_of_no_known_kind_cannot_be_made() -> None:
    with pytest.raises(KeyError, match="no-such-kind"):
        finding("no-such-kind", "vm", "…")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_has_a_remedy_in_which_every_field_is_filled(kind: str) -> None:
    text = remedy(finding(kind, "SUBJECT", "…", "NODE"))
    assert text and not set(text) & set("{}")
    assert is_safe(finding(kind, "SUBJECT", "…")) is KINDS[kind].safe


def test_a_kind_that_a_newer_node_tells_is_shown_and_never_mended() -> None:
    newer = Finding("quantum-drift", "vm", "it is both", "n")
    report = decode(AuditReport, encode(AuditReport("n", "cloud", 1.0, (newer,))), "key")
    assert report.findings == (newer,)
    assert not is_safe(newer)
    lines = "\n".join(lines_of(newer, fix=True))
    assert "quantum-drift" in lines and "it is both" in lines and "use a newer schedule.py" in lines


def test_what_is_repaired_says_so() -> None:
    assert repaired(finding("stray", "vm", "…")).repaired
    assert findings.KINDS["stray"].safe
