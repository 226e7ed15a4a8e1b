"""Placement as up.sh runs it, for a bench: the same gunicorn, settings and tables, on a database of the bench's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from placet.onebox import placement_database
from placet.onebox.layout import StateDirectory
from placet.onebox.services import services
from placet.onebox.settings import EtcdSettings, LibvirtSettings, NetworkSettings, PlacementSettings, Settings
from tests.support.services import Process, free_port


@contextlib.contextmanager
def served(directory: Path, database: Path) -> Iterator[str]:
    """Its endpoint, while it runs. `directory` becomes a state directory; the tables are made if they are missing."""
    url = f"sqlite:///{database}"
    state = StateDirectory(directory)
    state.make()
    placement_database.prepare(url, state)
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = Settings(
        EtcdSettings("127.0.0.1", 0), PlacementSettings(endpoint, url), LibvirtSettings(""), NetworkSettings("", "", "")
    )
    service = next(each for each in services(settings, state) if each.name == "placement")
    process = Process(list(service.argv), state.log("placement"), dict(service.env))
    try:
        process.wait_until_answers(endpoint)
        yield endpoint
    finally:
        process.stop()
