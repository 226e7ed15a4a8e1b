"""Records real boots, each as a line of placet/simulation/boots.py: seconds from the start to IP and to agent."""

from __future__ import annotations

import sys
from statistics import median

from bench.boot import TIMEOUT_S, ThroughPlacet
from bench.rows import Row
from bench.stack import running
from placet import wiring
from placet.lifecycle import Stage

AT_ONCE = (1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4)  # twenty boots, some of them side by side


def run() -> list[Row]:
    """All rows of this bench."""
    boots: list[tuple[float, float]] = []
    with running() as stack:
        placet = ThroughPlacet(stack)
        instances = wiring.instances(wiring.store(stack.schedule))
        for count in AT_ONCE:
            made = [placet.start() for _ in range(count)]
            placet.wait(made)  # sometimes the agent is first
            for instance in made:
                stages = instances.wait_for(instance, Stage.AGENT, TIMEOUT_S).stages
                started, ip, agent = (stages[stage.value] for stage in (Stage.STARTED, Stage.IP, Stage.AGENT))
                boots.append((ip - started, agent - started))
                print(f"    ({boots[-1][0]:.2f}, {boots[-1][1]:.2f}),", file=sys.stderr, flush=True)
            placet.clear()
    return [
        Row(f"start to IP, median of {len(boots)}", median(ip for ip, _ in boots), "s"),
        Row(f"start to agent, median of {len(boots)}", median(agent for _, agent in boots), "s"),
    ]
