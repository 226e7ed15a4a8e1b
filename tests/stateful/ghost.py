"""What must have happened for something to be allowed: a second, simple record of the history, beside the product's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from placet import keys
from placet.model import BadRecord, Intent, Spec, decode
from placet.store import Delete, Entry, Operation, Put

Life = tuple[str, str]  # an instance's UUID and the id of the request that made it: one UUID may have several lives

UNKNOWN = "a spec that nobody can read"


@dataclass
class Ghost:
    """`specs` are the requests whose specs are there, `intents` those that are being placed; `placed` all that were.

    `asked` are the lives that were asked to go, with their node; `gone` those that their node removed whole. `promised`
    are those whose maker was told that they are placed, with the node it was told; `refused` those whose maker was told
    that they are not. `tampered` are the UUIDs that somebody meddled with by hand.
    """

    specs: dict[tuple[str, str], str] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)
    placed: set[tuple[str, Life]] = field(default_factory=set)
    asked: set[tuple[str, Life]] = field(default_factory=set)
    gone: set[Life] = field(default_factory=set)
    promised: dict[Life, str] = field(default_factory=dict)
    refused: set[Life] = field(default_factory=set)
    tampered: set[str] = field(default_factory=set)
    bent: set[str] = field(default_factory=set)  # nodes whose inventory or allocations somebody edited
    restored: bool = False

    def written(self, operations: Sequence[Operation], entries: Mapping[str, Entry]) -> None:
        """Hear of a transaction just before it takes effect on `entries`."""
        deleted = {each.key for each in operations if isinstance(each, Delete)}
        for operation in operations:
            parts = operation.key.split("/")
            if parts[0] == "intents":
                self._intent(parts[1], operation)
            if len(parts) != 4 or parts[0] != "nodes":
                continue
            node, kind, instance = parts[1:]
            if kind == "specs" and isinstance(operation, Put):
                self._spec_put(node, instance, operation.value, entries)
            elif kind == "specs" and (node, instance) in self.specs:
                request = self.specs.pop((node, instance))
                if keys.destroy(node, instance) in deleted:
                    self.gone.add((instance, request))
            elif kind == "destroys" and isinstance(operation, Put):
                self.asked.add((node, (instance, self.specs.get((node, instance), UNKNOWN))))

    def _intent(self, instance: str, operation: Operation) -> None:
        if isinstance(operation, Put):
            self.intents[instance] = decode(Intent, operation.value, operation.key).request_id
        else:
            self.intents.pop(instance, None)

    def _spec_put(self, node: str, instance: str, value: bytes, entries: Mapping[str, Entry]) -> None:
        try:
            request = decode(Spec, value, "").request_id
        except BadRecord:
            return  # it takes nothing away from what was there
        life = (instance, request)
        is_new = self.specs.get((node, instance)) != request
        assert not (is_new and life in self.gone), f"{life} was destroyed, and comes back on {node}"
        is_meant = self.intents.get(instance) == request or (node, life) in self.placed or instance in self.tampered
        assert is_meant, f"{life} is placed, and its intent is gone"
        if self.intents.get(instance) == request:
            assert keys.alive(node) in entries, f"{life} is placed on {node}, which is not alive"
            assert keys.closed(node) not in entries, f"{life} is placed on {node}, which is drained"
        self.specs[node, instance] = request
        self.placed.add((node, life))

    def restore(self, entries: dict[str, Entry]) -> None:
        """etcd is as it was once: what is asked to go there is so again, whoever has its UUID by now."""
        self.restored = True
        self.specs.clear()
        self.intents.clear()
        for key, entry in entries.items():
            parts = key.split("/")
            if len(parts) == 4 and parts[2] == "specs":
                try:
                    self.specs[parts[1], parts[3]] = decode(Spec, entry.value, key).request_id
                except BadRecord:
                    continue

    def is_asked(self, node: str, life: Life) -> bool:
        """Where a spec was forged or spoiled, or etcd is an older one, it is the UUID that was asked to go."""
        if life[0] in self.tampered or self.restored:
            return any(where == node and asked == life[0] for where, (asked, _) in self.asked)
        return (node, life) in self.asked
