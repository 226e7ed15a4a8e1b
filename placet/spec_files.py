"""The specs of what a node has built, kept on the node: should etcd lose them, they can be written there again.

One file an instance, 0600 in a directory of 0700: a spec holds user-data and keys.
"""

from __future__ import annotations

import os
from pathlib import Path

from placet.log import warn
from placet.model import BadRecord, Spec, decode, encode

SUFFIX = ".json"


class SpecFiles:
    """`remember` before anything is made of an instance, `forget` once nothing of it is left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remember(self, spec: Spec) -> None:
        """Write it down, whole or not at all. Raises OSError."""
        path = self._path(spec.instance)
        part = path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode(spec))
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def forget(self, instance: str) -> None:
        """One that is not there is no error."""
        self._path(instance).unlink(missing_ok=True)

    def all(self) -> dict[str, Spec]:
        """Every spec that can be read, by its instance."""
        found = map(_read, self._directory.glob(f"*{SUFFIX}"))
        return {spec.instance: spec for spec in found if spec is not None}

    def made_for(self, instance: str) -> str | None:
        """The request of the spec that was last remembered of an instance; None when there is none to be read."""
        path = self._path(instance)
        spec = _read(path) if path.exists() else None
        return None if spec is None else spec.request_id

    def _path(self, instance: str) -> Path:
        return self._directory / f"{instance}{SUFFIX}"


def _read(path: Path) -> Spec | None:
    try:
        return decode(Spec, path.read_bytes(), str(path))
    except (OSError, BadRecord) as problem:
        warn("spec-file", reason=problem)
        return None
