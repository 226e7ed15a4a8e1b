"""What an operator does with a node: take it out of use and back, forget one that is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from placet import keys
from placet.claims import Claims
from placet.errors import Conflict, NotFound
from placet.model import BadRecord, Mark, decode, encode, is_uuid
from placet.node_records import Alive, Identity, Subnet
from placet.placement import Placement
from placet.registration import PROVIDER_PREFIX
from placet.schema import similar
from placet.specs import is_live
from placet.store import Absent, Delete, Entry, Put, Store
from placet.story import Note, Story

PER_TRANSACTION = 50


class Nodes:
    """`clock` gives seconds since the epoch."""

    def __init__(self, store: Store, story: Story, clock: Callable[[], float]) -> None:
        self._store = store
        self._story = story
        self._clock = clock

    def find(self, word: str) -> str:
        """The UUID that a node's name or UUID stands for. Raises NotFound, Conflict when two have the name."""
        identities = {
            keys.node_of(entry.key): entry
            for entry in self._store.scan(keys.NODES).entries
            if entry.key == keys.identity(keys.node_of(entry.key))
        }
        if word in identities:
            return word
        found = [node for node, entry in identities.items() if name_of(entry) == word]
        if len(found) > 1:
            raise Conflict(f"{len(found)} nodes are called {word!r}: {', '.join(sorted(found))}; give the UUID")
        if not found:
            hint = similar(word, map(name_of, identities.values()))
            raise NotFound(f"no node {word!r}{hint}; `schedule.py nodes` shows what there is")
        return found[0]

    def find_alive(self, word: str) -> str:
        """The same, for whoever wants a node that is up if there is one: it does not read what all nodes have."""
        if is_uuid(word) and any(map(self._store.get, (keys.alive(word), keys.identity(word)))):
            return word
        quoted = json.dumps(word).encode()  # of ten thousand records, few are worth decoding
        some = (entry for entry in self._store.scan(keys.ALIVE).entries if quoted in entry.value)
        alive = (decode(Alive, entry.value, entry.key) for entry in some)
        found = [each.node for each in alive if each.name == word]
        return found[0] if len(found) == 1 else self.find(word)

    def name(self, node: str) -> str | None:
        """What a node is called, whether it is up or not; None for what is no node."""
        entry = self._store.get(keys.identity(node))
        return name_of(entry) if entry else None

    def drain(self, node: str, by: str) -> bool:
        """Place nothing new there; what runs goes on. False when it was so."""
        mark = Put(keys.closed(node), encode(Mark(by, self._clock())))
        return self._story.transact([Absent(keys.closed(node))], [mark], Note(node, "drained"))

    def undrain(self, node: str) -> bool:
        """Take instances again. False when it did."""
        if self._store.get(keys.closed(node)) is None:
            return False
        return self._story.transact([], [Delete(keys.closed(node))], Note(node, "undrained"))

    def forget(self, node: str, placement: Placement, claims: Claims) -> None:
        """Remove a node that is lost from Placement and etcd. Each step can be repeated.

        What was destroyed by force there stays so: should the node return, it removes that first. Raises Conflict
        while it is alive, or has instances that nobody has given up.
        """
        if self._store.get(keys.alive(node)) is not None:
            raise Conflict(f"node {node} is alive; stop its agent first")
        kept = self._instances(keys.specs(node)) - self._instances(keys.destroys(node))
        if kept:
            raise Conflict(f"node {node} has {_counted(kept)}: schedule.py destroy --force UUID, then forget it")
        provider = placement.provider(node)
        if provider is not None:
            if not provider.name.startswith(PROVIDER_PREFIX):
                raise Conflict(f"{node} is a resource provider of somebody else's ({provider.name})")
            for each in placement.tree(node):  # those nested in it first
                self._release(each, placement, claims)
                if not placement.delete_provider(each):
                    raise Conflict(f"provider {each} still has allocations in Placement: schedule.py doctor shows them")
        self._delete(node)

    def _instances(self, prefix: str) -> set[str]:
        return {keys.last(entry.key) for entry in self._store.scan(prefix).entries}

    def _release(self, provider: str, placement: Placement, claims: Claims) -> None:
        """What nobody speaks for: left by schedulers that died, and the node no longer sweeps."""
        for consumer in placement.provider_allocations(provider):
            if self._store.get(keys.intent(consumer)) is None and not is_live(self._store, consumer):
                claims.release(consumer, provider)

    def _delete(self, node: str) -> None:
        """All its keys but the destroys; the identity last, so that it can be found until all is done."""
        identity = keys.identity(node)
        keep = (keys.destroys(node), identity)
        below = [e.key for e in self._store.scan(f"{keys.NODES}{node}/").entries if not e.key.startswith(keep)]
        subnets = [entry.key for entry in self._store.scan(keys.SUBNETS).entries if _owner(entry) == node]
        published = [entry.key for entry in self._store.scan(f"{keys.PUBLISHED}{node}/").entries]
        gone = [*below, *published, *subnets, keys.closed(node)]
        for start in range(0, len(gone), PER_TRANSACTION):
            self._take(node, gone[start : start + PER_TRANSACTION])
        self._take(node, [identity], Note(node, "forgotten"))

    def _take(self, node: str, gone: Iterable[str], *notes: Note) -> None:
        if not self._story.transact([Absent(keys.alive(node))], [Delete(key) for key in gone], *notes):
            raise Conflict(f"node {node} has come back while it was being forgotten; what is left of it stays")


def name_of(identity: Entry) -> str:
    """A node's name, for people."""
    try:
        return decode(Identity, identity.value, identity.key).name
    except BadRecord:
        return keys.node_of(identity.key)


def _owner(entry: Entry) -> str | None:
    try:
        return decode(Subnet, entry.value, entry.key).node
    except BadRecord:
        return None


def _counted(found: set[str]) -> str:
    one = min(found)
    return f"instance {one}" if len(found) == 1 else f"{len(found)} instances ({one}, …)"
