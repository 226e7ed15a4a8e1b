"""What a guest writes can't steer the terminal it is shown on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.terminal import PlainText, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("Grüße 🦆\u00a0\n", "Grüße 🦆\u00a0\n"),
        ("\x1b[31mred\x1b[0m\n", "red\n"),
        ("\x1b[2J\x1b[H\x1b[?25l\x1bcafter\n", "after\n"),
        ("\x1b]0;title\x07text\n", "text\n"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\\n", "link\n"),
        ("\x1bP$q\x1b\\dcs\n", "dcs\n"),
        ("\x1b(Btext\x1b)0\n", "text\n"),
        ("a\r\nb\r\r\nc\rd\n", "a\nb\nc\nd\n"),
        ("\x00\x07\x08\x7f\n", "????\n"),
        ("\x9b31m\x85\u202egnp.exe\u2028\n", "?31m??gnp.exe?\n"),
        ("\x1b\x1b[31m\n", "?\n"),
        ("\x1b]" + "x" * 400 + "\x07", "?]" + "x" * 400 + "?"),
    ],
)
def test_only_lines_and_printable_characters_are_left(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text(alphabet="\x1b[]()P\\;?0123456789mHJ\x07\r\n\t\x9b ax🦆\u202e", max_size=200) | st.text(max_size=200))
def test_nothing_else_ever_passes(text: str) -> None:
    shown = plain(text)
    assert all(each in "\n\t" or each.isprintable() or each.isspace() for each in shown)
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u2028", "\u202e"} & set(shown)
    assert plain(shown) == shown


@given(st.text(alphabet="\x1b[]P\\;0123456789mH\x07\r\n ax", max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_where_a_text_is_cut_into_pieces_makes_no_difference(text: str, cuts: list[int]) -> None:
    whole, reader, shown = text + "\n\n", PlainText(), ""
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    for start, end in pairwise(places):
        shown += reader.plain(whole[start:end])
    assert shown == plain(whole)


def test_what_a_sequence_begins_is_not_kept_for_ever() -> None:
    reader = PlainText()
    shown = reader.plain("\x1b]") + "".join(reader.plain("x" * 100) for _ in range(5))
    assert shown.startswith("?]xxx")
