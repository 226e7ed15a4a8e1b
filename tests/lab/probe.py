"""What a test sees of a lab from outside it: who is reached from within a host, and what is left on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from tests.lab.namespaces import Namespaces

CONNECT = """\
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as connection:
        connection.sendall(b"GET /health HTTP/1.0\\r\\n\\r\\n")
        print("answers" if connection.recv(1) else "closed")
except ConnectionRefusedError:
    print("refused")
except TimeoutError:
    print("silent")
except OSError as problem:
    print(problem.strerror)
"""


def reach(place: Namespaces, port: int, address: str = "127.0.0.1", within_s: float = 30) -> str:
    """What becomes of a connection from inside: `answers`, `closed`, `refused`, `silent`, or the system's words."""
    return place.run(sys.executable, "-c", CONNECT, address, str(port), str(within_s)).strip()


def traces(directory: Path) -> set[str]:
    """What a lab could leave on this machine: mounts, interfaces, named namespaces, and processes that have to do with
    its directory."""
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    named = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {
        *Path("/proc/mounts").read_text().splitlines(),
        *(link["ifname"] for link in links),
        *named.splitlines(),
        *(f"process {pid}" for pid in processes_of(directory)),
    }


def processes_of(directory: Path) -> set[int]:
    """The processes whose command line names a directory."""
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(directory) in " ".join(process.info["cmdline"] or ())
    }
