"""What `python -m bench claims` lets take turns: the ways in which an instance can be placed on one cluster.

Each is a method that places some and returns nothing; whatever it claims is remembered for the check.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from random import Random
from statistics import median

from bench import reference
from bench.cluster import IMAGE, QUERY, Cluster, query, requests
from placet.candidates import Candidate
from placet.config import BESIDE_SCRIPT
from placet.errors import PlacetError
from placet.placement import Claim
from placet.placing import Placed
from placet.query import for_one_node, for_placement
from placet.request import Request
from placet.store.etcd3_package import etcd3
from placet.wiring import new_uuid

KNOWN_NODES = 256  # among which the bare batches go; how many nodes a batch has to do with does not matter to Placement


class Sides:
    """`placed` is all that schedulers have placed here."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.scheduler = cluster.scheduler()
        self.placed: list[Placed] = []
        self._random = Random(1)  # noqa: S311 - it spreads load, it keeps no secret
        self._query = query()
        self._plain = reference.connect(cluster.config.placement.endpoint)
        self._etcd = etcd3.client(**cluster.config.etcd)
        known = self._random.sample(cluster.nodes, min(KNOWN_NODES, len(cluster.nodes)))
        self._known = cycle([self._ask(node) for node in known])

    def one(self) -> None:
        """`Scheduler.create`."""
        self.placed.append(self.scheduler.create(requests(1)[0]))

    def many(self, count: int) -> None:
        """`Scheduler.create_many`."""
        self._note(self.scheduler.create_many(requests(count)))

    def callers(self, count: int, threads: int) -> None:
        """`Scheduler.create` from many threads at once."""
        with ThreadPoolExecutor(threads) as pool:
            self.placed += pool.map(self.scheduler.create, requests(count))

    def program(self) -> None:
        """`schedule.py`, a process of its own."""
        words = self._run("schedule.py", "--config", str(self.cluster.config_file), QUERY, IMAGE).split()
        self.placed.append(Placed(words[-1], words[2].rstrip(",")))

    def bare_one(self) -> None:
        """Placement alone: candidates of one node, and a claim."""
        self._expect(self.cluster.placement.claim(self._foreign(), self._ask(self._node()), self.cluster.cloud, None))

    def bare_many(self, count: int, size: int) -> None:
        """Placement alone: `POST /allocations` of so many at once, the candidates known."""
        for _ in range(count // size):
            claims = {self._foreign(): next(self._known) for _ in range(size)}
            self._expect(self.cluster.placement.claim_many(claims, self.cluster.cloud))

    def plain_program(self) -> None:
        """The plain algorithm, a process of its own."""
        etcd = self.cluster.config.etcd
        address = [self.cluster.config.placement.endpoint, str(etcd["host"]), str(etcd["port"])]
        self.cluster.foreign.add(self._run("-m", "bench.reference", *address, QUERY).split()[1])

    def plain_loop(self) -> None:
        """The same in a process that stays, with `limit=1`."""
        self.cluster.foreign.add(reference.place(self._plain, self._etcd, f"{QUERY}&limit=1")[1])

    def ask_one(self) -> None:
        """Candidates of one node."""
        self._ask(self._node())

    def ask_all(self) -> None:
        """All candidates."""
        self.cluster.placement.candidates(for_placement(self._query))

    def spread(self, policy: str, count: int) -> list[int]:
        """How many of `count` each node got that got any."""
        before = len(self.placed)
        self._note(self.cluster.scheduler(policy).create_many(requests(count)))
        where = [each.node for each in self.placed[before:]]
        return sorted((where.count(node) for node in set(where)), reverse=True)

    def close(self) -> None:
        self._etcd.close()

    def _note(self, outcomes: Iterable[tuple[Request, Placed | PlacetError]]) -> None:
        for _, outcome in outcomes:
            if not isinstance(outcome, Placed):
                raise outcome
            self.placed.append(outcome)

    def _ask(self, node: str) -> Candidate:
        return self.cluster.placement.candidates(for_one_node(self._query, node))[0]

    def _node(self) -> str:
        return self._random.choice(self.cluster.nodes)

    def _foreign(self) -> str:
        consumer = new_uuid()
        self.cluster.foreign.add(consumer)
        return consumer

    def _expect(self, outcome: Claim) -> None:
        assert outcome is Claim.DONE, f"a bare claim was {outcome.value}"

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=BESIDE_SCRIPT,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
            env=environment(self.cluster.config_file.parent),
        )
        assert done.returncode == 0, f"{words}: exit {done.returncode}: {done.stderr}"
        return done.stdout


def environment(directory: Path) -> dict[str, str]:
    """That of a user's program, whose modules Python has compiled once: it keeps them in `directory`."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**found, "PYTHONPYCACHEPREFIX": str(directory / "compiled")}


def take_turns(rounds: int, sides: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each side's seconds: A B A B …, after a first round that only warms."""
    return {name: median(found) for name, found in seconds_of(rounds, sides).items()}


def seconds_of(rounds: int, sides: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """The same, each round's: for ratios of neighbours, between which the machine's pace has hardly changed."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds
