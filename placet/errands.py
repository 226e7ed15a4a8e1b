"""An errand where it is carried out: the question below `operations/`, the answer below `results/`, under one lease.

The lease is the asker's. It ends when nobody waits any more, and takes both with it.
"""

from __future__ import annotations

import json

from placet import keys
from placet.errors import LeaseGone
from placet.model import encode
from placet.store import Entry, Present, Put, Store


class Errands:
    """Those of one node. Thread-safe; every call raises Unreachable."""

    def __init__(self, node: str, store: Store) -> None:
        self._node = node
        self._store = store

    def read(self, operation: str) -> Entry | None:
        """The question, an Errand; None when nobody waits for its answer, or that is there."""
        question = self._store.get(keys.operation(self._node, operation))
        if question is None:
            return None
        result = self._store.get(keys.result(self._node, operation))
        return question if result is None or _goes_on(result) else None

    def answer(self, question: Entry, record: object) -> bool:
        """Put a record where the asker looks for it; False when that one has gone."""
        result = Put(keys.result(self._node, keys.last(question.key)), encode(record), question.lease)
        try:
            return self._store.transact([Present(question.key)], [result])
        except LeaseGone:
            return False


def _goes_on(result: Entry) -> bool:
    """Whether a result says of itself that more is to come: then an agent that has ended since was at it."""
    try:
        return json.loads(result.value).get("done") is False
    except (ValueError, AttributeError):
        return False
