"""Whether etcd, Placement, libvirt and the node answer. None means yes; else what they do instead."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import requests

from placet.errors import PlacetError
from placet.onebox.records import Records
from placet.onebox.settings import EtcdSettings, PlacementSettings, Settings

TIMEOUT_S = 3


def etcd(settings: EtcdSettings) -> str | None:
    """Whether it can commit: its /health makes a proposal."""
    certificate = (settings.cert, settings.key) if settings.cert and settings.key else None
    try:
        answer = requests.get(f"{settings.url}/health", timeout=TIMEOUT_S, verify=settings.ca or True, cert=certificate)
        healthy = answer.json().get("health") == "true"
    except (requests.RequestException, ValueError, AttributeError) as problem:
        return _brief(problem)
    return None if healthy else f"says {answer.text.strip()[:80]}"


def placement(settings: PlacementSettings) -> str | None:
    """Whether it is Placement: its root lists versions and needs no token."""
    try:
        answer = requests.get(settings.url, timeout=TIMEOUT_S)
        versions = answer.json()["versions"]
    except (requests.RequestException, ValueError, KeyError, TypeError) as problem:
        return _brief(problem)
    return None if answer.ok and versions else f"says {answer.status_code}"


def libvirtd(uri: str) -> str | None:
    """Whether a connection opens and answers."""
    try:
        with connection(uri) as found:
            found.getLibVersion()
    except libvirt.libvirtError as problem:
        return str(problem)
    return None


def node(settings: Settings, uuid: str | None, started_at: float) -> str | None:
    """Whether the node that started then has put its `alive`; one that is older is left from an earlier start."""
    if uuid is None:
        return "has no identity yet"
    try:
        alive = Records(settings).alive(uuid)
    except PlacetError as problem:
        return str(problem)
    if alive is None or alive.started_at < started_at - 1:
        return "has not registered yet"
    return None


def listens(path: Path) -> str | None:
    """Whether somebody takes connections at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return "does not answer"
    return None


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """A libvirt connection that prints nothing by itself. Raises libvirt.libvirtError."""
    libvirt.registerErrorHandler(_ignore, None)
    found = libvirt.open(uri)
    try:
        yield found
    finally:
        found.close()


def _ignore(_context: object, _error: object) -> None:
    """libvirt would print what is raised as an exception anyway."""


def _brief(problem: BaseException) -> str:
    if isinstance(problem, requests.ConnectionError):
        return "does not answer"
    if isinstance(problem, (json.JSONDecodeError, KeyError, TypeError, AttributeError)):
        return "answers, but as something else"
    return str(problem)[:120]
