"""Structured log lines: one event name, then key=value, on stderr. `log("placed", instance=…, node=…)`."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

_LOGGER = logging.getLogger("placet")


def start_logging(level: str) -> None:
    """Send lines at `level` and above to stderr. Called once, by an entry point."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(level.upper())


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """One line about one event."""
    if _LOGGER.isEnabledFor(level):
        words = " ".join(f"{name}={_quoted(value)}" for name, value in facts.items() if value is not None)
        _LOGGER.log(level, "event=%s %s", event, words)


def debug(event: str, **facts: Any) -> None:
    """A line for those who look closely."""
    log(event, logging.DEBUG, **facts)


def warn(event: str, **facts: Any) -> None:
    """A line about what someone should look at."""
    log(event, logging.WARNING, **facts)


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text and not set(text) & set(' "=\n\t') else '"' + text.replace('"', "'").replace("\n", " ") + '"'
