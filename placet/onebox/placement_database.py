"""Placement's configuration file and its tables. Two workers that both make them on an empty SQLite race and die."""

from __future__ import annotations

import configparser
import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from placet.onebox.layout import StateDirectory
from placet.onebox.services import placement_conf
from placet.onebox.steps import StepFailed


def prepare(database: str, state: StateDirectory) -> None:
    """Write placement.conf, and bring the tables to this release's form unless they are known to have it."""
    conf = placement_conf(state)
    _write_conf(conf, database)
    done = conf.with_name("tables-are-of")
    wanted = f"{version('openstack-placement')} {database}\n"
    if done.exists() and done.read_text() == wanted:
        return
    log = state.log("placement-tables")
    manage = Path(sys.executable).with_name("placement-manage")
    with log.open("wb") as output:
        command = [str(manage), "--config-file", str(conf), "db", "sync"]
        found = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False)
    if found.returncode != 0:
        raise StepFailed(
            "Placement's tables could not be made",
            "look at the log: is there room on the disk, does the database answer, is its driver in .venv "
            "(postgresql+psycopg2://…: .venv/bin/pip install psycopg2-binary)?",
            log,
        )
    done.touch(mode=0o600)
    done.write_text(wanted)


def _write_conf(path: Path, database: str) -> None:
    conf = configparser.ConfigParser(interpolation=None)
    # noauth2: whoever reaches the port with the token `admin` may do all; hence 127.0.0.1
    conf["api"] = {"auth_strategy": "noauth2"}
    conf["placement_database"] = {"connection": database.replace("$", "$$")}
    text = io.StringIO()
    conf.write(text)
    path.touch(mode=0o600)
    path.write_text(text.getvalue())
