"""Runs the tools that do the work, and says in one line what went wrong when one fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from placet.errors import PlacetError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_LINES_SHOWN = 5


class BuildFailed(PlacetError):
    """The image can't be built; the message names the step or tool and what to do."""


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None,
        text_input: str | None = None) -> str:  # fmt: skip
    """Run a tool to its end; `env` adds to the environment. Returns its stdout.

    Raises BuildFailed with the tool's name and the last lines that it printed.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": SYSTEM_PATH, **(env or {})}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, input=text_input, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BuildFailed(f"{command[0]} can't be run: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildFailed(failure(command, done.returncode, done.stderr or done.stdout))
    return done.stdout


def failure(command: Sequence[str | Path], exit_status: int, output: str) -> str:
    """One line for a tool that failed: its name, its subcommand if it has one, and the last lines of its output."""
    subcommand = [str(word) for word in command[1:2] if not str(word).startswith(("-", "/"))]
    name = " ".join([Path(command[0]).name, *subcommand])
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = "; ".join(lines[-OUTPUT_LINES_SHOWN:]) or "it printed nothing"
    return f"{name} failed with exit status {exit_status}: {said}"


def require(tools: Mapping[str, str]) -> None:
    """Raise BuildFailed, naming the packages, if one of the tools (name -> Debian package) isn't on this host."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool, path=SYSTEM_PATH) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise BuildFailed(f"this host lacks {', '.join(missing)}: apt-get install {packages}")
