"""What etcd says of the whole cloud, read at about one time."""

from __future__ import annotations

from dataclasses import dataclass, field

from placet import keys
from placet.cloud import read_cloud
from placet.errand_records import AuditReport
from placet.model import Spec
from placet.store import Entry, Store


@dataclass
class Cluster:
    """By node: `identities`, `reports` (what nodes answered to an audit). By instance: `specs`, `indexes`. `destroys`
    are the keys of those."""

    cloud: str | None
    alive: frozenset[str]
    identities: dict[str, Entry]
    specs: dict[str, Entry]
    indexes: dict[str, Entry]
    destroys: frozenset[str]
    names: list[Entry]
    intents: frozenset[str]
    reports: dict[str, AuditReport] = field(default_factory=dict)

    def strays(self) -> dict[str, Spec]:
        """The specs that nodes remember and etcd does not, by instance."""
        return {spec.instance: spec for report in self.reports.values() for spec in report.strays}

    def silent(self) -> dict[str, int]:
        """How many instances there are on each node that has some and is not alive; those given up don't count."""
        count: dict[str, int] = {}
        for instance, entry in self.specs.items():
            node = keys.node_of(entry.key)
            if node not in self.alive and keys.destroy(node, instance) not in self.destroys:
                count[node] = count.get(node, 0) + 1
        return count


def read_cluster(store: Store) -> Cluster:
    """All of it. The index is read after the specs: what is placed meanwhile is in both or in neither."""
    below = store.scan(keys.NODES).entries
    return Cluster(
        cloud=read_cloud(store),
        alive=frozenset(keys.last(entry.key) for entry in store.scan(keys.ALIVE).entries),
        identities={keys.node_of(e.key): e for e in below if e.key == keys.identity(keys.node_of(e.key))},
        specs={keys.last(e.key): e for e in below if e.key.startswith(keys.specs(keys.node_of(e.key)))},
        indexes={keys.last(e.key): e for e in store.scan(keys.INSTANCES).entries},
        destroys=frozenset(e.key for e in below if e.key.startswith(keys.destroys(keys.node_of(e.key)))),
        names=list(store.scan(keys.NAMES).entries),
        intents=frozenset(keys.last(e.key) for e in store.scan(keys.INTENTS).entries),
    )
