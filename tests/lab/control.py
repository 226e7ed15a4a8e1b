"""The lab's control plane: etcd, one or a cluster of three, and Placement, which all run at the switch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import requests

from tests.lab.service import Service
from tests.lab.switch import ADDRESS, Switch
from tests.support.services import ETCDCTL_PATIENCE

PLACEMENT_PORT = 8778
ALL_KEYS = {"key": "AA==", "range_end": "AA==", "limit": "1"}  # base64 of \0: from the first key to the last


def etcd_port(number: int) -> int:
    """Where a member answers its clients; the first has number 1. Its peers reach it one port further."""
    return 2369 + 10 * number


def etcd_client(ports: Sequence[int]) -> dict[str, object]:
    """The `etcd:` keys of a configuration: one member, or several as a gRPC target, which fails over between them."""
    *others, last = ports
    if not others:
        return {"host": "127.0.0.1", "port": last}
    return {"host": "ipv4:" + "".join(f"127.0.0.1:{port}," for port in others) + "127.0.0.1", "port": last}


class Control:
    """`directory` holds their data; `reached` is where each of their ports is reached on loopback."""

    def __init__(self, switch: Switch, directory: Path, etcds: int, reached: Mapping[int, int]) -> None:
        self.directory = directory
        self._switch = switch
        self._numbers = range(1, etcds + 1)
        self._urls = [f"http://127.0.0.1:{reached[etcd_port(number)]}" for number in self._numbers]
        self._snapshots = count(1)
        self._cluster = 1
        self.etcds = [self._etcd(number) for number in self._numbers]
        self.placement = self._placement(f"http://127.0.0.1:{reached[PLACEMENT_PORT]}")

    @property
    def etcd(self) -> Service:
        """The only etcd, or the first member."""
        return self.etcds[0]

    def start(self) -> None:
        """Start everything; returns when it answers."""
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(self.start_etcd), pool.submit(self.placement.start)]:
                started.result()

    def start_etcd(self) -> None:
        """Start every member that isn't running; returns when all answer."""
        for member in self.etcds:
            if not member.running:
                member.start(wait=False)
        for member in self.etcds:
            member.wait_until_it_answers()

    def snapshot_etcd(self) -> Path:
        """A snapshot of what the first member has; its file, which is the lab's."""
        path = self.directory / f"snapshot-{next(self._snapshots)}.db"
        self._etcdctl("--endpoints", f"{ADDRESS}:{etcd_port(1)}", "snapshot", "save", str(path))
        return path

    def restore_etcd(self, snapshot: Path) -> None:
        """Go back to a snapshot, as after a loss: a new cluster id, an older revision, leases as they were then."""
        self._drop_etcd()
        for number in self._numbers:
            options = ["--data-dir", str(self._data(number)), *self._membership(number)]
            self._etcdctl("snapshot", "restore", str(snapshot), *options)
        self.start_etcd()

    def empty_etcd(self) -> None:
        """Start over with nothing, as after a loss without a snapshot: a new cluster id, revision 1."""
        self._drop_etcd()
        self.start_etcd()

    def compact_etcd(self) -> int:
        """Forget all revisions but the newest; which that is."""
        revision = int(self._ask("kv/range", ALL_KEYS)["header"]["revision"])
        self._ask("kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def _drop_etcd(self) -> None:
        for member in self.etcds:
            member.kill()
        for number in self._numbers:
            shutil.rmtree(self._data(number))
        self._cluster += 1

    def _etcdctl(self, *words: str) -> None:
        self._switch.run("env", "ETCDCTL_API=3", "etcdctl", *ETCDCTL_PATIENCE, *words)

    def _ask(self, call: str, body: Mapping[str, object]) -> dict[str, Any]:
        """etcd's JSON gateway (etcd.io/docs/v3.4/dev-guide/api_grpc_gateway)."""
        answer = requests.post(f"{self._urls[0]}/v3/{call}", json=body, timeout=60)
        answer.raise_for_status()
        return dict(answer.json())

    def _data(self, number: int) -> Path:
        return self.directory / f"etcd-{number}"

    def _membership(self, number: int) -> list[str]:
        peers = {f"etcd-{each}": f"http://{ADDRESS}:{etcd_port(each) + 1}" for each in self._numbers}
        return [
            *("--name", f"etcd-{number}", "--initial-advertise-peer-urls", peers[f"etcd-{number}"]),
            *("--initial-cluster", ",".join(f"{name}={peer}" for name, peer in peers.items())),
            *("--initial-cluster-token", f"lab-{self._cluster}"),
        ]

    def _etcd(self, number: int) -> Service:
        def command() -> list[str]:
            url, peer = (f"http://{ADDRESS}:{port}" for port in (etcd_port(number), etcd_port(number) + 1))
            listen = ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer]
            return [
                "etcd",
                "--data-dir",
                str(self._data(number)),
                "--logger",
                "zap",
                *listen,
                *self._membership(number),
            ]

        return Service(self._switch, f"etcd-{number}", command, f"{self._urls[number - 1]}/health")

    def _placement(self, url: str) -> Service:
        command = [sys.executable, "-m", "gunicorn", "--bind", f"{ADDRESS}:{PLACEMENT_PORT}", "--workers", "1"]
        command += ["--threads", "1", "placement.wsgi.api:application"]
        env = {
            "OS_PLACEMENT_DATABASE__CONNECTION": f"sqlite:///{self.directory}/placement.sqlite",
            "OS_API__AUTH_STRATEGY": "noauth2",
            "OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP": "True",
        }
        return Service(self._switch, "placement", lambda: command, url, env)
