"""The metadata service with real guests: what they are told, by both addresses, and what they tell of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from placet import keys
from tests.lab.lab import Lab, lab
from tests.support.guest import Guest
from tests.support.nodes import until

QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:128"
REQUEST = "{method} {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: {length}\\r\\n\\r\\n{body}"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Lab]:
    with lab(nodes=1, node_settings={"metadata_service": True}) as found:
        yield found


@pytest.fixture(scope="module")
def guest(cloud: Lab) -> Iterator[Guest]:
    with closing(Guest(cloud.nodes[0].host.uri, place(cloud, "web"))) as found:
        yield found


def place(cloud: Lab, name: str, *words: str) -> str:
    """The UUID of an instance whose guest has said that it is ready."""
    told = cloud.schedule(QUERY, "--name", name, "--wait-for", "ready", *words)
    assert told.code == 0, told.err
    return str(shown(cloud, name)["uuid"])


def shown(cloud: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cloud.schedule("show", name, "-f", "json").out)
    return found


def ask(guest: Guest, path: str, host: str, method: str = "GET", body: str = "") -> tuple[str, str]:
    """The status line and the body that a guest gets."""
    request = REQUEST.format(method=method, path=path, length=len(body), body=body)
    head, _, answer = guest.shell(f"printf '{request}' | timeout 60 nc {host} 80").partition("\r\n\r\n")
    return head.splitlines()[0], answer


def test_a_guest_says_by_itself_that_it_is_ready(cloud: Lab, guest: Guest) -> None:
    found = shown(cloud, "web")
    assert found["stage"] == "ready" and found["ready_at"] is not None
    assert found["stages"]["ready"] >= found["stages"]["ip"]


@pytest.mark.parametrize("host", ["169.254.169.254", "fe80::a9fe:a9fe%eth0"])
def test_a_guest_is_told_of_itself_at_both_addresses(guest: Guest, host: str) -> None:
    until(lambda: "tentative" not in guest.shell("ip -6 address show dev eth0 scope link"), "its address is its own")
    assert ask(guest, "/latest/meta-data/hostname", host) == ("HTTP/1.1 200 OK", "web")


def test_what_a_guest_publishes_is_shown(cloud: Lab, guest: Guest) -> None:
    assert ask(guest, "/placet/v1/data/colour", "169.254.169.254", "PUT", "blue")[0] == "HTTP/1.1 200 OK"
    until(lambda: shown(cloud, "web")["data"] == {"colour": "blue"}, "it is shown")


def test_a_guest_that_has_nothing_but_the_service_and_needs_a_token_comes_up(cloud: Lab) -> None:
    uuid = place(cloud, "strict", "--config-drive", "none", "--metadata-tokens", "required")
    with closing(Guest(cloud.nodes[0].host.uri, uuid)) as strict:
        assert strict.shell("hostname") == "strict"
        for path in ("/latest/user-data", "/openstack/latest/meta_data.json", "/placet/v1/data/"):
            assert ask(strict, path, "169.254.169.254")[0] == "HTTP/1.1 401 Unauthorized"


def test_nothing_of_it_is_left_when_the_instance_is_gone(cloud: Lab) -> None:
    uuid = place(cloud, "brief")
    assert cloud.store.get(keys.published(cloud.nodes[0].uuid, uuid)) is not None
    assert cloud.schedule("destroy", "brief").code == 0
    assert cloud.store.get(keys.published(cloud.nodes[0].uuid, uuid)) is None
    assert not list((cloud.nodes[0].state_dir / "published").glob(f"{uuid}*"))
