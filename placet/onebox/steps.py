"""One line a step, with its time, and what to do when one fails. The only module here that prints."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TextIO

from placet.errors import PlacetError

WIDTH = 80
INDENT = " " * 21
TAIL_LINES = 10


class StepFailed(PlacetError):
    """A step that did not come about: what failed, where its log is, what to do."""

    def __init__(self, message: str, remedy: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.log = log


class Steps:
    """Runs steps and prints their lines."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._out = out
        self._clock = clock

    def run(self, name: str, action: Callable[[], str]) -> None:
        """Carry out one step; its line says what `action` returns. A StepFailed goes on to the caller."""
        began = self._clock()
        try:
            text = action()
        except (PlacetError, OSError):
            self._line(name, self._clock() - began, "failed")
            raise
        self._line(name, self._clock() - began, text)

    def say(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)

    def note(self, text: str) -> None:
        """A remark under the step before it."""
        for line in _wrapped(text):
            self.say(INDENT + line)

    def _line(self, name: str, seconds: float, text: str) -> None:
        first, *more = _wrapped(text)
        self.say(f"{name:<10} {seconds:6.1f} s  {first}")
        for line in more:
            self.say(INDENT + line)


def explain(problem: Exception) -> str:
    """What a person is told of a failure: what, the end of the log, what to do."""
    lines = textwrap.wrap(f"up.sh: {problem}", WIDTH, subsequent_indent="  ", break_long_words=False)
    if not isinstance(problem, StepFailed):
        return "\n".join(lines)
    if problem.log is not None:
        tail = log_tail(problem.log)
        lines += [f"  the end of {problem.log}:", *(f"    {line}" for line in tail)] if tail else []
    remedy = textwrap.wrap(
        f"what to do: {problem.remedy}", WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False
    )
    return "\n".join([*lines, *remedy])


def log_tail(path: Path) -> list[str]:
    """The last lines of a log, cut to what a terminal shows."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 64 * 1024))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [line[: 2 * WIDTH] for line in text.splitlines()[-TAIL_LINES:]]


def _wrapped(text: str) -> list[str]:
    width = WIDTH - len(INDENT)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
