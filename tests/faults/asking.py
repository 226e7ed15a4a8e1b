"""What fault tests ask of the cloud: by schedule.py as users do, and at the hosts themselves."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import yaml

from placet import keys
from tests.lab.lab import Lab
from tests.lab.nodes import LabNode
from tests.support.clouds import new_uuid
from tests.support.commands import Told
from tests.support.nodes import until

QUERY = "resources=VCPU:1,DISK_GB:1,MEMORY_MB:128"
BOOT_S = 240.0


def place(cloud: Lab, node: LabNode, *words: str, uuid: str | None = None) -> str:
    """Ask for an instance on one node; its UUID. `words` are flags."""
    uuid = uuid or new_uuid()
    told = cloud.schedule(on(node), "--uuid", uuid, *words)
    assert told.code == 0, told.err
    return uuid


def on(node: LabNode) -> str:
    """The query for the smallest instance on one node alone."""
    return f"{QUERY}&in_tree={node.uuid}"


def schedule_by(cloud: Lab, config: Path, *words: str, **placement: object) -> Told:
    """schedule.py with other settings for Placement."""
    settings = yaml.safe_load(cloud.schedule_config.read_text())
    settings["placement"].update(placement)
    config.write_text(yaml.safe_dump(settings))
    return cloud.schedule("--config", str(config), *words)


def shown(cloud: Lab, instance: str) -> dict[str, Any]:
    """All that `show` tells of it."""
    told = cloud.schedule("show", instance, "-f", "json")
    assert told.code == 0, told.err
    return dict(json.loads(told.out))


def state(cloud: Lab, instance: str) -> str:
    return str(shown(cloud, instance)["state"])


def story(cloud: Lab, instance: str) -> list[tuple[str, str]]:
    """Its events: what, and why."""
    told = cloud.schedule("events", instance, "-f", "json")
    assert told.code == 0, told.err
    return [(event["what"], event["reason"]) for event in json.loads(told.out)]


def found(cloud: Lab) -> set[tuple[str, str]]:
    """What the doctor finds: which kind, about what."""
    told = cloud.schedule("doctor", "-f", "json")
    rows = json.loads(told.out)
    assert told.code == (6 if rows else 0), told
    return {(row["kind"], row["subject"]) for row in rows}


def status(cloud: Lab, node: LabNode, instance: str) -> dict[str, Any]:
    """Its node's word as it stands in etcd, empty while there is none."""
    entry = cloud.store.get(keys.status(node.uuid, instance))
    return dict(json.loads(entry.value)) if entry else {}


def reached(cloud: Lab, node: LabNode, instance: str, stage: str) -> bool:
    return stage in status(cloud, node, instance).get("stages", ())


def fault(cloud: Lab, node: LabNode, instance: str) -> str | None:
    """The stable word of why it is in ERROR."""
    return (status(cloud, node, instance).get("fault") or {}).get("code")


def is_alive(cloud: Lab, node: LabNode) -> bool:
    return cloud.store.get(keys.alive(node.uuid)) is not None


def domain_count(cloud: Lab, instance: str) -> int:
    """On all hosts together."""
    return sum(has_domain(node, instance) for node in cloud.nodes)


def has_domain(node: LabNode, instance: str) -> bool:
    return instance in node.host.run("virsh", "--connect", node.host.uri, "list", "--all", "--name").split()


def qemu(instance: str) -> psutil.Process | None:
    """The process that runs it, on whichever host."""
    for process in psutil.process_iter(["cmdline"]):
        if f"guest={instance}," in " ".join(process.info["cmdline"] or ()):
            return process
    return None


def qemu_pid(instance: str) -> int:
    """A guest that was never stopped keeps this."""
    process = qemu(instance)
    assert process is not None, f"{instance} does not run"
    return process.pid


def shut_down(cloud: Lab, node: LabNode, instance: str) -> None:
    """Once up, the guest powers itself off: its agent runs `poweroff`. A power button would need acpid up, too."""
    until(lambda: reached(cloud, node, instance, "agent"), f"{instance}: its agent answers", BOOT_S)
    until(lambda: _takes_shutdown(node, instance), f"{instance}: its agent takes the word", BOOT_S)


def _takes_shutdown(node: LabNode, instance: str) -> bool:
    """Not when libvirt gives its agent up, whose guest is slow on a busy machine, after some seconds."""
    try:
        node.host.run("virsh", "--connect", node.host.uri, "shutdown", instance, "--mode", "agent")
    except subprocess.CalledProcessError as refused:
        return "domain is not running" in refused.stderr  # it has heard an earlier word
    return True


def kill_qemu(instance: str) -> None:
    """As the kernel does when memory is short."""
    process = qemu(instance)
    assert process is not None, f"{instance} does not run"
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
