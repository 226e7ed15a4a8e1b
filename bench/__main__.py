"""`python -m bench` lists the benches; `python -m bench NAME` runs one."""

from __future__ import annotations

import argparse
import sys

from bench import address, boot, boots, claim, claims, converge, metadata, soak, watch
from bench.rows import show

BENCHES = {
    "address": (address.run, "how soon after its lease a guest's IP is in etcd"),
    "boot": (boot.run, "create-to-IP, 20 VMs at once, the agent at rest; against the libvirt binding alone"),
    "boots": (boots.run, "records real boots, for simulated nodes to repeat"),
    "claim": (claim.run, "where the time of one schedule.py goes"),
    "claims": (claims.run, "claims a second and one claim's time on up to 10,000 nodes, against plain and bare ways"),
    "converge": (converge.run, "how long after each fault all agree again; a resync; an outage"),
    "metadata": (metadata.run, "the metadata service under load, at rest and while VMs are built"),
    "soak": (soak.run, "creates and destroys at a steady rate on simulated nodes; doctor clean"),
    "watch": (watch.run, "how soon a spec is with its node's worker, 1,000 simulated nodes watching"),
}


def main() -> int:
    """Exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", allow_abbrev=False)
    parser.add_argument("name", nargs="?", choices=BENCHES)
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    if arguments.name is None:
        for name, (_, what) in BENCHES.items():
            print(f"{name:<8} {what}")
        return 0
    rows = BENCHES[arguments.name][0]()
    show(rows, arguments.format)
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
