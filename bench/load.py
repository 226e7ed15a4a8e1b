"""Requests to a metadata service from several guests' addresses: `python -m bench.load` reads a plan, prints a Burst.

A program of its own, since it runs inside a network namespace. It asks at a given pace, in which a late answer delays
no later request (an answer's time counts from when its request was due), or as fast as answers come. Every answer is
compared with what the plan says it must be.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle


@dataclass(frozen=True)
class Plan:
    """`guests` are addresses to ask from, and which answer each path must have. Without a `rate` (requests a second of
    all guests together) each asks again as soon as it is answered. `keep` is whether connections are kept."""

    host: str
    seconds: float
    guests: dict[str, dict[str, str]]
    rate: float | None = None
    keep: bool = True
    port: int = 80


@dataclass(frozen=True)
class Burst:
    """What came of it; times are milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    answers: int
    wrong: list[str] = field(default_factory=list)


class Guest:
    """One address and the connection from it."""

    def __init__(self, plan: Plan, ip: str, expected: dict[str, str]) -> None:
        self._plan = plan
        self._ip = ip
        self._asked = cycle(expected.items())
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.times_s: list[float] = []
        self.wrong: list[str] = []

    async def run(self, begin: float, pause_s: float | None) -> None:
        """Ask until the plan's time is over; every `pause_s` seconds, or at once."""
        due = begin
        while due < begin + self._plan.seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._ask(*next(self._asked))
            now = time.monotonic()
            self.times_s.append(now - due)
            due = now if pause_s is None else due + pause_s
        if self._connection is not None:
            self._connection[1].close()

    async def _ask(self, path: str, expected: str) -> None:
        if self._connection is None:
            self._connection = await asyncio.open_connection(self._plan.host, self._plan.port, local_addr=(self._ip, 0))
        reader, writer = self._connection
        writer.write(f"GET {path} HTTP/1.1\r\nHost: metadata\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        if not head.startswith("http/1.1 200 ") or body.decode() != expected:
            self.wrong.append(f"{self._ip} {path}: {head.splitlines()[0]} {body!r}"[:200])
        if not self._plan.keep:
            writer.close()
            self._connection = None


async def burst(plan: Plan) -> Burst:
    """Carry out a plan."""
    guests = [Guest(plan, ip, expected) for ip, expected in plan.guests.items()]
    pause_s = None if plan.rate is None else len(guests) / plan.rate
    begin = time.monotonic() + 0.1
    staggered = [begin + (pause_s or 0.0) * number / len(guests) for number in range(len(guests))]
    await asyncio.gather(*(guest.run(at, pause_s) for guest, at in zip(guests, staggered, strict=True)))
    lasted = time.monotonic() - begin
    times_s = sorted(each for guest in guests for each in guest.times_s)
    wrong = [each for guest in guests for each in guest.wrong]
    return Burst(len(times_s) / lasted, _ms(times_s, 0.5), _ms(times_s, 0.99), len(times_s), wrong[:10])


def _ms(ordered_s: Sequence[float], share: float) -> float:
    return 1000 * ordered_s[min(len(ordered_s) - 1, int(len(ordered_s) * share))]


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(burst(Plan(**json.load(sys.stdin)))))))
