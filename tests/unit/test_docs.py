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
