"""Fixtures that several layers share. The real services start once a session."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.services import Etcd, PlacementServer, etcd_server, placement_server

# the same examples each time: what fails, fails for everybody. `--hypothesis-profile=default` looks further
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and so would the programs that tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    with etcd_server() as server:
        yield server


@pytest.fixture(scope="session")
def placement() -> Iterator[PlacementServer]:
    with placement_server() as server:
        yield server
