"""The verb why: the decision that placed an instance, as it was recorded at the time; also of one destroyed of late.

As JSON or YAML: `uuid`, `name`, `node`, `node_uuid`, `at`, `deleted_at`, `policy`, `looked_at` (`sample` or `all`),
`looked` (at how many of the `alive` nodes), `nodes` (`{node, name, left, outcome}` each; `left` is the share, 0 to 1,
that its scarcest resource would have left), `lost` (nodes tried in vain), `group` (`{name, policy}`). What is not known
is null.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from placet import wiring
from placet.cli import output
from placet.config import load_schedule
from placet.errors import NotFound

if TYPE_CHECKING:
    from placet.instances import Instance

COLUMNS = ("name", "left", "outcome")
KNOWN = ("policy", "looked_at", "looked", "alive", "nodes", "lost", "group")
POLICY_WORDS = {
    "spread": "the node that would have most left of its scarcest resource",
    "pack": "the node that would have least left of its scarcest resource",
    "random": "any node",
}


def add_verbs(verbs: Any) -> None:
    """Tell argparse of this module's verb."""
    why = verbs.add_parser(
        "why",
        help="say why an instance is on its node: the decision as it was made",
        description="Say why an instance is on its node: by which policy, which nodes were looked at, what each would "
        "have had left, and what came of it. Also of one that was destroyed within the last day.",
    )
    why.add_argument("instance", metavar="INSTANCE", help="a UUID, 8 or more digits of one, or a name")
    output.add_format(why)
    why.set_defaults(verb=_why)


def _why(arguments: argparse.Namespace) -> int:
    config = load_schedule(arguments.config)
    instances = wiring.instances(wiring.store(config))
    try:
        found = instances.find(arguments.instance, config.project)
    except NotFound:
        found = instances.find_gone(arguments.instance, config.project)
    told = _decision(instances.get(found))
    if arguments.format == "table" and not arguments.column:
        _print(told)
    else:
        output.show_one(told, arguments)
    return 0


def _decision(instance: Instance) -> dict[str, Any]:
    """What is recorded, in today's form: earlier records had but the chosen node's share."""
    index, why = instance.index, instance.index.why
    nodes = [dict(each) for each in _list(why.get("nodes")) if isinstance(each, Mapping)]
    if "free_share" in why and not nodes:
        chosen = {"node": index.node, "name": instance.node_name, "left": why["free_share"], "outcome": "chosen"}
        nodes = [chosen]
    rest = {name: value for name, value in why.items() if name not in (*KNOWN, "free_share")}
    return {
        "uuid": index.instance,
        "name": index.name,
        "node": instance.node_name,
        "node_uuid": index.node,
        "at": output.iso(index.created_at),
        "deleted_at": output.iso(index.deleted_at),
        **{name: why.get(name) for name in KNOWN},
        "nodes": nodes,
        "lost": _list(why.get("lost")),
        **rest,
    }


def _print(told: Mapping[str, Any]) -> None:
    gone = f", destroyed at {told['deleted_at']}" if told["deleted_at"] else ""
    print(output.clean(f"{told['name']} ({told['uuid']}) was placed at {told['at']}{gone}"))
    lines = {
        "node": told["node"],
        "policy": _with_words(told["policy"], POLICY_WORDS),
        "looked at": _looked_at(told),
        "group": _group(told["group"]),
        "in vain": _in_vain(told),
        **{name: value for name, value in told.items() if name not in (*KNOWN, *_HEAD)},
    }
    for name, value in lines.items():
        if value:
            print(output.clean(f"{name:<10} {value}"))
    if told["nodes"]:
        print()
        arguments = argparse.Namespace(format="table", column=None)
        output.show_rows([{**each, "left": _percent(each.get("left"))} for each in told["nodes"]], COLUMNS, arguments)


_HEAD = ("uuid", "name", "node", "node_uuid", "at", "deleted_at")


def _with_words(policy: Any, words: Mapping[str, str]) -> str:
    if policy is None:
        return "not recorded: doctor wrote this entry anew"
    return f"{policy}: {words[policy]}" if policy in words else str(policy)


def _looked_at(told: Mapping[str, Any]) -> str | None:
    if told["alive"] is None:
        return None
    if told["looked_at"] == "sample":
        return f"{told['looked']} of about {told['alive']} nodes that were up"
    return "the one node that was up" if told["alive"] == 1 else f"all {told['alive']} nodes that were up"


def _group(group: Any) -> str | None:
    return f"{group.get('name')} ({group.get('policy')})" if isinstance(group, Mapping) else None


def _in_vain(told: Mapping[str, Any]) -> str | None:
    names = {each.get("node"): each.get("name") for each in told["nodes"]}
    return ", ".join(str(names.get(node) or node) for node in told["lost"]) or None


def _percent(left: Any) -> str | None:
    return f"{left:.0%}" if isinstance(left, (int, float)) else None


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
