"""Text of a guest's made harmless for a terminal: no escape sequence, no control character reaches it. Pure.

The sequences are ECMA-48's: CSI (5.4), control strings (5.6), and what else begins with ESC (ISO 2022).
"""

from __future__ import annotations

import re
import unicodedata

STRING = r"\x1b[\]PX^_][^\x07\x1b\n]{0,256}"
SEQUENCE = re.compile(rf"\x1b\[[0-?]*[ -/]*[@-~]|{STRING}(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\`-~]")
UNFINISHED = re.compile(rf"(?:\r{{1,64}}|\x1b[ -/]{{0,8}}|\x1b\[[0-?]{{0,64}}[ -/]{{0,8}}|{STRING}\x1b?)\Z")
LINE_END = re.compile(r"\r+\n?")


class PlainText:
    """What a guest writes, piece by piece: lines and printable characters; the rest is left out or shown as `?`."""

    def __init__(self) -> None:
        self._kept = ""

    def plain(self, piece: str) -> str:
        """The next piece made plain. What a sequence begins is kept until its end comes."""
        text = self._kept + piece
        unfinished = UNFINISHED.search(text)
        self._kept = text[unfinished.start() :] if unfinished else ""
        return plain(text[: len(text) - len(self._kept)])


def plain(text: str) -> str:
    """The whole of a text made plain."""
    text = LINE_END.sub("\n", SEQUENCE.sub("", text))
    return "".join(character if _is_harmless(character) else "?" for character in text)


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"
