"""The layout of the keys in etcd, below the cloud's prefix (docs/architecture.md has the table). Pure."""

from __future__ import annotations

ALIVE = "alive/"
CLOSED = "closed/"
NODES = "nodes/"
INSTANCES = "instances/"
INTENTS = "intents/"
IMAGES = "images/"
SUBNETS = "subnets/"
EVENTS = "events/"
NAMES = "names/"
PUBLISHED = "published/"
GROUPS = "groups/"
ZONES = "zones/"
CLOUD = "cloud"


def alive(node: str) -> str:
    return f"alive/{node}"


def identity(node: str) -> str:
    return f"nodes/{node}/identity"


def seen(node: str) -> str:
    return f"nodes/{node}/seen"


def closed(node: str) -> str:
    return f"closed/{node}"


def specs(node: str) -> str:
    return f"nodes/{node}/specs/"


def spec(node: str, instance: str) -> str:
    return f"nodes/{node}/specs/{instance}"


def destroys(node: str) -> str:
    return f"nodes/{node}/destroys/"


def destroy(node: str, instance: str) -> str:
    return f"nodes/{node}/destroys/{instance}"


def statuses(node: str) -> str:
    return f"nodes/{node}/status/"


def status(node: str, instance: str) -> str:
    return f"nodes/{node}/status/{instance}"


def published(node: str, instance: str) -> str:
    return f"published/{node}/{instance}"


def operations(node: str) -> str:
    return f"nodes/{node}/operations/"


def operation(node: str, identifier: str) -> str:
    return f"nodes/{node}/operations/{identifier}"


def results(node: str) -> str:
    return f"nodes/{node}/results/"


def result(node: str, identifier: str) -> str:
    return f"nodes/{node}/results/{identifier}"


def events(subject: str) -> str:
    return f"events/{subject}/"


def event(subject: str, microseconds: int, writer: str) -> str:
    return f"events/{subject}/{microseconds:017d}-{writer}"


def instance(uuid: str) -> str:
    return f"instances/{uuid}"


def intent(uuid: str) -> str:
    return f"intents/{uuid}"


def name(project: str, word: str) -> str:
    return f"names/{project}/{word}"


def image(word: str) -> str:
    return f"images/{word}"


def ssh_key(project: str, word: str) -> str:
    return f"keys/{project}/{word}"


def subnet(number: int) -> str:
    return f"subnets/{number}"


def group(project: str, word: str) -> str:
    return f"groups/{project}/{word}"


def group_members(project: str, word: str, node: str | None = None) -> str:
    """The prefix of a group's members, or of those on one node."""
    return f"groups/{project}/{word}/{node}/" if node else f"groups/{project}/{word}/"


def group_member(project: str, word: str, node: str, instance: str) -> str:
    return f"groups/{project}/{word}/{node}/{instance}"


def zone(word: str) -> str:
    return f"zones/{word}"


def node_of(key: str) -> str:
    """The node that a key below `nodes/` belongs to."""
    return key.split("/", 2)[1]


def last(key: str) -> str:
    """The last part of a key: a UUID or a name."""
    return key.rsplit("/", 1)[-1]
