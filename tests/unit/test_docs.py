"""What the documents say of the tests is so."""

from __future__ import annotations

import re

import pytest

from placet.config import BESIDE_SCRIPT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISES = sorted(set(NAMED.findall((BESIDE_SCRIPT / "docs" / "guarantees.md").read_text())))


def test_there_are_promises() -> None:
    assert len(PROMISES) > 30


@pytest.mark.parametrize(("file", "name"), PROMISES)
def test_each_test_that_a_promise_names_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (BESIDE_SCRIPT / file).read_text()


def test_each_file_that_the_promises_name_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", (BESIDE_SCRIPT / "docs" / "guarantees.md").read_text()))
    assert named and not [file for file in named if not (BESIDE_SCRIPT / file).exists()]
