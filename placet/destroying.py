"""Asking that an instance goes. It goes when its node has carried that out; nothing else ever takes one away.

This module reads and writes etcd alone, but for `force`: giving up on a node frees in Placement what it held.
"""

from __future__ import annotations

from collections.abc import Callable

from placet import keys
from placet.claims import Claims
from placet.closing import closing
from placet.errors import Conflict, NotFound, NotYet
from placet.following import follow
from placet.model import BadRecord, Index, Mark, decode, encode
from placet.node_records import Status
from placet.store import Absent, Compare, CreatedAt, Delete, Present, Put, Store
from placet.story import Note, Story


class Destroyer:
    """`clock` gives seconds since the epoch, `monotonic` those that deadlines are measured by."""

    def __init__(self, store: Store, story: Story, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._store = store
        self._story = story
        self._clock = clock
        self._monotonic = monotonic

    def destroy(self, instance: str, by: str, timeout_s: float) -> bool:
        """Ask that an instance goes and wait until it is gone. False when it was gone before.

        Raises NotFound for a UUID that never was, NotYet when something holds it at the timeout: the destroy stands,
        and is carried out when that is over.
        """
        node = self._node_of(instance)
        if node is None:
            return self._drop_intent(instance)  # gone; or being placed anew under an earlier one's UUID
        spec = keys.spec(node, instance)
        mark = Put(keys.destroy(node, instance), encode(Mark(by, self._clock(), instance)))
        if not self._story.transact([Present(spec)], [mark], Note(instance, "destroy-asked", f"of node {node}")):
            return self._drop_intent(instance)
        self._wait_until_gone(instance, node, timeout_s)
        return True

    def force(self, instance: str, by: str, claims: Claims) -> bool:
        """Give an instance up with its silent node: what it held is free at once. False when it was gone before.

        The destroy stays for the node, which carries it out before it is alive again. Raises Conflict while the node
        is alive, NotFound, Unreachable (then ask again: each step can be repeated).
        """
        node = self._node_of(instance)
        if node is None:
            return self._drop_intent(instance)
        mark = Put(keys.destroy(node, instance), encode(Mark(by, self._clock(), instance)))
        silent: list[Compare] = [Absent(keys.alive(node)), Present(keys.spec(node, instance))]
        if not self._story.transact(silent, [mark], Note(instance, "destroy-forced", f"its node {node} is given up")):
            if self._store.get(keys.alive(node)) is None:
                return self._drop_intent(instance)  # the node was there meanwhile, and has destroyed it
            raise Conflict(f"node {node} is alive and can destroy {instance} itself: ask without --force")
        claims.release(instance, node)
        compares, operations = closing(self._store, instance, node, self._clock())
        return self._story.transact(compares, operations, Note(instance, "released", "while its node is silent"))

    def _node_of(self, instance: str) -> str | None:
        """Where it is or was going to be; None when it is gone. Raises NotFound for a UUID that never was."""
        entry = self._store.get(keys.instance(instance))
        if entry is None and self._store.get(keys.intent(instance)) is None:
            entry = self._store.get(keys.instance(instance))  # was its intent committed just now?
            node = None if entry else self._node_with_spec(instance)
            if entry is None and node is None:
                raise NotFound(f"no instance {instance}; nothing was destroyed")
            if node is not None:
                return node
        if entry is None:
            return None
        index = decode(Index, entry.value, entry.key)
        return index.node if index.deleted_at is None else None

    def _node_with_spec(self, instance: str) -> str | None:
        """The node of a spec that no index speaks of: a forged one, or one whose index was lost."""
        suffix = f"/specs/{instance}"
        found = (entry.key for entry in self._store.scan(keys.NODES).entries if entry.key.endswith(suffix))
        return next((keys.node_of(key) for key in found), None)

    def _drop_intent(self, instance: str) -> bool:
        """Take away an intent, so that its commit fails and it is aborted; False when there is none (any more)."""
        entry = self._store.get(keys.intent(instance))
        return entry is not None and self._story.transact(
            [CreatedAt(entry.key, entry.create_revision)],
            [Delete(entry.key)],
            Note(instance, "destroyed", "while it was being placed"),
        )

    def _wait_until_gone(self, instance: str, node: str, timeout_s: float) -> None:
        deadline = self._monotonic() + timeout_s
        for entry in follow(self._store, keys.spec(node, instance), deadline, self._monotonic):
            if entry is None:
                return
        if self._store.get(keys.alive(node)) is None:
            raise NotYet(f"{instance} goes when its node {node} is back: it is silent now; if it is lost, add --force")
        raise NotYet(f"{instance} is not gone after {timeout_s:g} s: its node is at {self._task(node, instance)}")

    def _task(self, node: str, instance: str) -> str:
        entry = self._store.get(keys.status(node, instance))
        try:
            status = decode(Status, entry.value, entry.key) if entry else None
        except BadRecord:
            status = None
        return status.task if status and status.task else "other work"
