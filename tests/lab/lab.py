"""A lab: N hosts with real agents and a control plane, on one machine, joined by nothing but a switch of its own.

    with lab(nodes=3) as cloud:
        told = cloud.schedule("resources=VCPU:1", "--wait")
        cloud.nodes[0].link.cut()

This process stays in the machine's own namespaces. It reaches etcd and Placement by loopback, through a relay whose
listening sockets are made here and which runs at the switch; each node reaches them through one of its own.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import yaml

from placet.config import BESIDE_SCRIPT
from placet.store.etcd import EtcdStore
from tests.lab.control import PLACEMENT_PORT, Control, etcd_client, etcd_port
from tests.lab.hosts import Host
from tests.lab.link import Link
from tests.lab.nodes import LabNode
from tests.lab.switch import ADDRESS, Switch, address_of
from tests.support.commands import DEADLINE_S, Told, run_command
from tests.support.guest_images import put_mini_image
from tests.support.services import fast_directory, free_port

T = TypeVar("T")
PREFIX = "placet-lab-"


class Lab:
    """`directory` has a directory for each node; `control.directory` the data of etcd and Placement."""

    def __init__(self, directory: Path, data: Path, nodes: int, etcds: int, settings: Mapping[str, Any]) -> None:
        self.directory = directory
        self.nodes: list[LabNode] = []
        self._settings = settings
        self._etcd_ports = [etcd_port(number) for number in range(1, etcds + 1)]
        self._reached = {port: free_port() for port in (*self._etcd_ports, PLACEMENT_PORT)}
        self._switch = Switch(directory / "switch")
        self._hosts = [Host(f"node-{number}", directory / f"node-{number}") for number in range(1, nodes + 1)]
        self.control = Control(self._switch, data, etcds, self._reached)
        self.link: Link
        self.store: EtcdStore
        self._cleanup = contextlib.ExitStack()

    @property
    def etcd_client(self) -> dict[str, object]:
        """The `etcd:` keys with which this process reaches etcd."""
        return etcd_client([self._reached[port] for port in self._etcd_ports])

    @property
    def placement_endpoint(self) -> str:
        """Where this process reaches Placement."""
        return f"http://127.0.0.1:{self._reached[PLACEMENT_PORT]}"

    @property
    def image(self) -> Path:
        """The small guest image; what a request that names none gets."""
        return self.directory / "images" / "mini.qcow2"

    @property
    def schedule_config(self) -> Path:
        """The schedule.yaml with which this process uses the cloud."""
        return self.directory / "schedule.yaml"

    def schedule(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = DEADLINE_S) -> Told:
        """Run schedule.py as a user does. One that is not done in time fails the test, with its threads' stacks."""
        command = [sys.executable, str(BESIDE_SCRIPT / "schedule.py"), "--config", str(self.schedule_config)]
        return run_command([*command, *words], env, timeout)

    def up(self, start_agents: bool = True) -> None:
        """Start everything, as much at the same time as can be; returns when the nodes are ready."""
        self._cleanup.callback(_each, lambda each: each.down(), [self._switch, *self._hosts])
        self._switch.up()
        self.link = self._front_link()
        _at_once([self.control.start, self._hosts_up, lambda: put_mini_image(self.image)])
        self.store = self._cleanup.enter_context(contextlib.closing(EtcdStore(self.etcd_client)))
        self._write_schedule_config()
        self.nodes = _each(self._join, enumerate(self._hosts, start=1))
        if start_agents:
            for node in self.nodes:
                node.start_agent()
            for node in self.nodes:
                node.wait_ready()

    def down(self) -> None:
        """End everything; nothing is left but `directory` itself."""
        self._cleanup.close()

    def _hosts_up(self) -> None:
        """The first one finds out what QEMU can do; the others are told."""
        first, *others = self._hosts
        first.up()
        first.run("virsh", "--connect", first.uri, "capabilities")
        for other in others:
            other.capabilities = first.directory / "cache"
        _each(lambda other: other.up(), others)

    def _front_link(self) -> Link:
        """The relay by which this process reaches the control plane."""
        with contextlib.ExitStack() as sockets:
            routes = {}
            for port, reached in self._reached.items():
                listener = sockets.enter_context(socket.socket())
                listener.bind(("127.0.0.1", reached))
                listener.listen()
                routes[f"fd:{listener.fileno()}"] = f"{ADDRESS}:{port}"
            return Link(self._switch, routes, [int(source.partition(":")[2]) for source in routes])

    def _join(self, numbered: tuple[int, Host]) -> LabNode:
        """Connect a host to the switch, and through it to the control plane."""
        number, host = numbered
        self._switch.attach(host, number)
        ports = (*self._etcd_ports, PLACEMENT_PORT)
        link = Link(host, {f"127.0.0.1:{port}": f"{ADDRESS}:{port}" for port in ports})
        return LabNode(host, number, self._switch, link, self.store, self._compute_config(host, number))

    def _compute_config(self, host: Host, number: int) -> dict[str, Any]:
        return {
            "name": host.name,
            "address": address_of(number),
            "state_dir": str(host.directory / "state"),
            "etcd": etcd_client(self._etcd_ports),
            "placement": {"endpoint": f"http://127.0.0.1:{PLACEMENT_PORT}"},
            "libvirt_uri": host.uri,
            "image_dirs": [str(self.image.parent)],
            "metadata_service": False,
            **self._settings,
        }

    def _write_schedule_config(self) -> None:
        config = {
            "etcd": self.etcd_client,
            "placement": {"endpoint": self.placement_endpoint},
            "defaults": {"MEMORY_MB": 128, "image": str(self.image)},
        }
        self.schedule_config.write_text(yaml.safe_dump(config))


@contextlib.contextmanager
def lab(
    nodes: int = 3, etcds: int = 1, node_settings: Mapping[str, Any] | None = None, start_agents: bool = True
) -> Iterator[Lab]:
    """A lab for the length of a `with`. `node_settings` are added to each compute.yaml; `etcds` is 1 or 3."""
    with fast_directory("lab") as data:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
        try:
            directory.chmod(0o711)  # QEMU's user passes through
            made = Lab(directory, data, nodes, etcds, node_settings or {})
            try:
                made.up(start_agents)
                yield made
            finally:
                made.down()
        finally:
            shutil.rmtree(directory)


def _each(do: Callable[[T], Any], those: Iterable[T]) -> list[Any]:
    """What `do` returns for each, all at the same time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(do, those))


def _at_once(actions: Iterable[Callable[[], object]]) -> None:
    _each(lambda action: action(), actions)
