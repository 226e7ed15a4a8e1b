"""The guests' documents, made once for each record and not for each request."""

from __future__ import annotations

from collections.abc import Sequence

from placet import metadata
from placet.metadata import GuestRecord, Tree

KEPT = 64


class Documents:
    """Keeps the trees of the guests that asked of late. A record is the same as long as it is the very same object:
    the reader of records makes a new one when its file changes."""

    def __init__(self) -> None:
        self._trees: dict[str, tuple[GuestRecord, Tree]] = {}

    def find(self, guest: GuestRecord, place: Sequence[str]) -> bytes | None:
        """The document or listing at a path's parts; None when there is none."""
        return metadata.find(self._tree(guest), "/".join(place))

    def _tree(self, guest: GuestRecord) -> Tree:
        record, tree = self._trees.pop(guest.instance, (None, None))
        if tree is None or record is not guest:
            tree = metadata.tree(guest)
        self._trees[guest.instance] = (guest, tree)  # the last to be dropped now
        if len(self._trees) > KEPT:
            del self._trees[next(iter(self._trees))]
        return tree
