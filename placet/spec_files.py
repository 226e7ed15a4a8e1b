"""The specs of what a node has built, kept on the node: should etcd lose them, they can be written there again."""

from __future__ import annotations

from pathlib import Path

from placet.log import warn
from placet.model import BadRecord, Spec, decode, encode
from placet.record_files import records_in


class SpecFiles:
    """`remember` before anything is made of an instance, `forget` once nothing of it is left. Without a directory they
    are kept for as long as the process lives."""

    def __init__(self, directory: Path | None) -> None:
        self._files = records_in(directory)

    def remember(self, spec: Spec) -> None:
        """Write it down, whole or not at all. Raises OSError."""
        self._files.write(spec.instance, encode(spec))

    def forget(self, instance: str) -> None:
        """One that is not there is no error."""
        self._files.remove(instance)

    def all(self) -> dict[str, Spec]:
        """Every spec that can be read, by its instance."""
        found = map(self._read, self._files.instances())
        return {spec.instance: spec for spec in found if spec is not None}

    def made_for(self, instance: str) -> str | None:
        """The request of the spec that was last remembered of an instance; None when there is none to be read."""
        spec = self._read(instance)
        return None if spec is None else spec.request_id

    def _read(self, instance: str) -> Spec | None:
        try:
            value = self._files.read(instance)
            return None if value is None else decode(Spec, value, str(self._files.path(instance)))
        except (OSError, BadRecord) as problem:
            warn("spec-file", reason=problem)
            return None
