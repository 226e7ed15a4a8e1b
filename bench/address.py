"""How soon after a guest took its address that is in etcd: from the lease (its file's time) to who waits for the IP."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import psutil

from bench.boot import ThroughPlacet
from bench.rows import Row
from bench.stack import running

BOOTS = 7
LEASES = "var/lib/libvirt/dnsmasq/{bridge}.status"  # what libvirt's helper writes for each lease


def run() -> list[Row]:
    """All rows of this bench."""
    with running() as stack:
        placet = ThroughPlacet(stack)
        leases = _lease_file(stack.compute.network.name, stack.compute.network.bridge)
        late_ms = [_boot(placet, leases) for _ in range(BOOTS)]
    return [
        Row("lease to IP in etcd, median", median(late_ms), "ms", "<= 50"),
        Row(f"lease to IP in etcd, the longest of {BOOTS}", max(late_ms), "ms"),
    ]


def _boot(placet: ThroughPlacet, leases: Path) -> float:
    """Milliseconds for one guest. It is the only one, so the file's last change is its lease."""
    placet.wait([placet.start()])
    seen = time.time()
    late_ms = (seen - leases.stat().st_mtime) * 1000
    if not 0 < late_ms < 5000:
        raise AssertionError(f"{leases} changed {late_ms:.0f} ms before the IP was in etcd: that was another lease")
    placet.clear()
    print(f"one VM: {late_ms:.0f} ms", file=sys.stderr, flush=True)
    return late_ms


def _lease_file(network: str, bridge: str) -> Path:
    """As the DHCP server's own mount namespace has it: up.sh's libvirtd has directories of its own."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "dnsmasq" and any(f"/{network}.conf" in word for word in process.info["cmdline"]):
            return Path(f"/proc/{process.pid}/root") / LEASES.format(bridge=bridge)
    raise RuntimeError(f"no DHCP server of network {network} runs")
