"""What several tests of images start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile_http import Web, hostile_http


@pytest.fixture
def web() -> Iterator[Web]:
    with hostile_http() as found:
        yield found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    return directory
