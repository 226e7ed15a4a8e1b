"""How fast instances are placed on 100, 1,000 and 10,000 nodes, one at once and many at once, against other ways.

What is compared takes turns on the same Placement and etcd; what was placed is checked before a figure is told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median

from bench.claims_check import check
from bench.claims_sides import Sides, seconds_of, take_turns
from bench.cluster import cluster
from bench.rows import Row
from placet.policies import POLICIES
from tests.support.services import etcd_server

SMALL, MIDDLE, LARGE = SIZES = (100, 1_000, 10_000)
ROUNDS_OF_ONE = 100
ROUNDS = 5
MANY = 400  # a stream: what the first batches alone have to ask is spread over all
CALLERS = 16
SPREAD = 200
LOST_AND_DOUBLED = "overcommitted, lost or doubled"


def run() -> list[Row]:
    """All rows of this bench; only the check's when something was found."""
    with ExitStack() as stack:
        etcd = stack.enter_context(etcd_server())
        sides = {size: Sides(stack.enter_context(cluster(etcd, size))) for size in SIZES}
        for each in sides.values():
            stack.callback(each.close)
        rows = _rates(sides) + _ones(sides) + _programs(sides[LARGE]) + _candidates(sides) + _spreads(sides[MIDDLE])
        wrong = [words for each in sides.values() for words in check(each.cluster, each.placed)]
        total = sum(len(each.placed) for each in sides.values())
    print("\n".join(wrong[:50]), file=sys.stderr, end="\n" if wrong else "")
    checked = Row(f"{LOST_AND_DOUBLED}, of {total}", len(wrong), "", "<= 0")
    return [checked] if wrong else [checked, *rows]


def _rates(sides: dict[int, Sides]) -> list[Row]:
    """Claims a second of those who place many."""
    rows: list[Row] = []
    for size, goal in ((MIDDLE, ">= 50"), (LARGE, ">= 150")):
        side = sides[size]
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "batched": (MANY, partial(side.many, MANY)),
            "bare POST of 50": (MANY, partial(side.bare_many, MANY, 50)),
            "bare POST of 100": (MANY, partial(side.bare_many, MANY, 100)),
            f"{CALLERS} callers at once": (4 * CALLERS, partial(side.callers, 4 * CALLERS, CALLERS)),
            "plain program": (1, side.plain_program),
            "plain loop, limit=1": (1, side.plain_loop),
        }
        seconds = take_turns(ROUNDS, {name: run for name, (_, run) in ways.items()})
        rate = {name: count / seconds[name] for name, (count, _) in ways.items()}
        rows += [Row(f"{side.cluster}: {name}", rate[name], "/s") for name in ways]
        bare = max(rate["bare POST of 50"], rate["bare POST of 100"])
        rows += [
            Row(f"{side.cluster}: batched / plain program", rate["batched"] / rate["plain program"], "", goal),
            Row(f"{side.cluster}: batched / plain loop", rate["batched"] / rate["plain loop, limit=1"], ""),
            Row(f"{side.cluster}: batched / bare POST", rate["batched"] / bare, "", ">= 0.85"),
        ]
    return rows


def _ones(sides: dict[int, Sides]) -> list[Row]:
    """Milliseconds of one claim after the other; what is compared are neighbours, round by round."""
    ways: dict[str, Callable[[], object]] = {}
    for size, side in sides.items():
        ways |= {f"{size} one": side.one, f"{size} bare": side.bare_one}
    seconds = seconds_of(ROUNDS_OF_ONE, ways)
    ms = {name: 1000 * median(found) for name, found in seconds.items()}
    rows = [Row(f"{side.cluster}: one claim", ms[f"{size} one"], "ms") for size, side in sides.items()]
    rows += [Row(f"{side.cluster}: bare candidates and PUT", ms[f"{size} bare"], "ms") for size, side in sides.items()]
    grown = _ratio(seconds[f"{LARGE} one"], seconds[f"{SMALL} one"])
    rows.append(Row("one claim, 10,000 / 100 nodes", grown, "", "<= 1.25"))
    for size, side in sides.items():
        added = _ratio(seconds[f"{size} one"], seconds[f"{size} bare"])
        rows.append(Row(f"{side.cluster}: one claim / bare", added, "", "<= 1.15"))
    return rows


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def _programs(side: Sides) -> list[Row]:
    """Milliseconds of one process, from its start to its end."""
    ways = {"schedule.py": side.program, "plain program": side.plain_program}
    ms = {name: 1000 * each for name, each in take_turns(ROUNDS, ways).items()}
    rows = [Row(f"{side.cluster}: {name}, whole process", each, "ms") for name, each in ms.items()]
    faster = Row(f"{side.cluster}: plain program / schedule.py", ms["plain program"] / ms["schedule.py"], "", ">= 4")
    return [*rows, faster]


def _candidates(sides: dict[int, Sides]) -> list[Row]:
    """Milliseconds of Placement's answers."""
    rows = []
    for side in sides.values():
        ms = take_turns(ROUNDS, {"one node": side.ask_one, "all": side.ask_all})
        rows += [Row(f"{side.cluster}: candidates of {name}", 1000 * each, "ms") for name, each in ms.items()]
    return rows


def _spreads(side: Sides) -> list[Row]:
    """How policies distribute a batch."""
    rows = []
    for policy in POLICIES:
        found = side.spread(policy, SPREAD)
        rows.append(Row(f"{side.cluster}: {policy}: nodes that got any of {SPREAD}", len(found), ""))
        rows.append(Row(f"{side.cluster}: {policy}: the most that one got", found[0], ""))
    return rows
