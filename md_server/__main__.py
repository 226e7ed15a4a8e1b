"""argv → the parts, wired → served until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from md_server.admission import Admission, Limits
from md_server.answers import Answers
from md_server.connection import Connection
from md_server.listening import device_index, listen
from md_server.privileges import drop_privileges
from md_server.publishing import Publishing
from md_server.tokens import Tokens
from placet.errors import PlacetError, Unreachable
from placet.guest_records import GuestsByAddress, PublishedFiles
from placet.log import log, start_logging, warn
from placet.metadata import GuestRecord

DEVICE_CHECK_S = 1.0
WARN_AGAIN_S = 60.0


def main() -> int:
    """The program; returns its exit code."""
    options = _options()
    start_logging("info")
    try:
        listening = _listen(options)
        _drop_privileges()
        publishing = Publishing(PublishedFiles(Path(options.published)), time.time)
        tokens = Tokens(secrets.token_bytes(32))
        answers = Answers(_finder(Path(options.records)), tokens, publishing, time.time)
        asyncio.run(_serve(listening, answers, options.device, options.until_eof))
    except PlacetError as problem:
        warn("metadata-service-failed", problem=problem)
        return problem.exit_code
    return 0


def _drop_privileges() -> None:
    try:
        drop_privileges()
    except OSError as problem:  # a sandbox that does not let it has taken more away, or is somebody's choice
        warn("privileges-kept", reason=problem.strerror)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="md_server", description="Tell guests about themselves.", allow_abbrev=False)
    parser.add_argument("--records", required=True, metavar="DIR", help="the guests' records, one file each")
    parser.add_argument("--published", required=True, metavar="DIR", help="where to keep what guests publish")
    parser.add_argument("--device", required=True, metavar="BRIDGE", help="the guests' bridge; '' for any device")
    parser.add_argument("--address", default="169.254.169.254", help="the address to listen at (%(default)s)")
    parser.add_argument("--address6", default="fe80::a9fe:a9fe", help="and the one of IPv6 (%(default)s; '': none)")
    parser.add_argument("--port", type=int, default=80, help="the port to listen at (%(default)s; 0 takes a free one)")
    parser.add_argument("--wait", type=float, default=30.0, metavar="S", help="how long to wait for the device")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


def _listen(options: argparse.Namespace) -> list[socket.socket]:
    """IPv4 must be; where the machine has no IPv6, that is told and done without."""
    found = [listen(options.address, options.port, options.device, options.wait)]
    if options.address6:
        try:
            found.append(listen(options.address6, found[0].getsockname()[1], options.device, options.wait))
        except Unreachable as problem:
            warn("metadata-service-without-ipv6", reason=problem)
    return found


def _finder(records: Path) -> Callable[[str], GuestRecord | None]:
    guests = GuestsByAddress(records)
    told: dict[str, float] = {}

    def find(source: str) -> GuestRecord | None:
        guest = guests.find(source, time.time_ns())
        while guests.problems:
            _warn_seldom(told, guests.problems.pop())
        if guest is None:
            _warn_seldom(told, f"{source} is no guest's address")
        return guest

    return find


def _warn_seldom(told: dict[str, float], problem: str) -> None:
    """What guests can cause at will is told once a minute."""
    now = time.monotonic()
    if now - told.get(problem, -WARN_AGAIN_S) < WARN_AGAIN_S:
        return
    if len(told) > 1000:
        told.clear()
    told[problem] = now
    warn("guest-unknown", problem=problem)


async def _serve(listening: list[socket.socket], answers: Answers, device: str, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: warn("connection-failed", problem=context["message"]))
    admission = Admission(Limits())
    servers = [await loop.create_server(lambda: Connection(answers.answer, admission), sock=s) for s in listening]
    addresses = ",".join(one.getsockname()[0] for one in listening)
    log("metadata-service-started", address=addresses, port=listening[0].getsockname()[1], device=device or None)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if until_eof:
        loop.add_reader(sys.stdin.fileno(), _stop_at_eof, sys.stdin.fileno(), stopped)
    try:
        await _until_stopped(stopped, device)
    finally:
        for server in servers:
            server.close()
        log("metadata-service-stopped")


def _stop_at_eof(descriptor: int, stopped: asyncio.Event) -> None:
    if not os.read(descriptor, 4096):
        asyncio.get_running_loop().remove_reader(descriptor)
        stopped.set()


async def _until_stopped(stopped: asyncio.Event, device: str) -> None:
    """Return once told to stop. Raises Unreachable when the device is gone or another: the socket hears it no more."""
    bound = device_index(device) if device else None
    while True:
        try:
            await asyncio.wait_for(stopped.wait(), DEVICE_CHECK_S)
        except asyncio.TimeoutError:
            if device and device_index(device) != bound:
                raise Unreachable(f"network device {device} was removed; start this service again") from None
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
