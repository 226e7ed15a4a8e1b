"""How words of the command line become values."""

from __future__ import annotations


def seconds(text: str) -> float:
    """A number of seconds; argparse tells the user when this raises ValueError."""
    found = float(text)
    if not 0 <= found < float("inf"):
        raise ValueError(text)
    return found


def count(text: str) -> int:
    """A whole number that is not negative; argparse tells the user when this raises ValueError."""
    found = int(text)
    if found < 0:
        raise ValueError(text)
    return found
