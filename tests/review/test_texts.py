"""Texts as a terminal may show them."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tracetune.review.texts import harmless, has_controls, one_line, restored

ANY = st.text(st.characters(exclude_categories=["Cs"]))


@given(ANY)
def test_nothing_that_commands_a_terminal_is_left(text):
    shown = harmless(text)
    assert not has_controls(shown)
    assert harmless(shown) == shown
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}


@given(ANY)
def test_plain_text_stays_as_it_is(text):
    plain = "".join(c for c in text if unicodedata.category(c)[0] not in "CZ")
    assert harmless(plain) == plain


@given(st.text("ab\x1b\x07\u202e\u200f\x7f\x85 \n"))
def test_what_was_replaced_comes_back(text):
    assert restored(harmless(text), text) == text


def test_examples():
    assert harmless("a\x1b[31mb\u202ec\td\n\x7f\x9b") == "a␛[31mb<U+202E>c\td\n␡<U+009B>"
    assert restored("␛ new ␇", "a\x1b") == "\x1b new ␇"
    assert one_line("two\nlines and more", 12) == "two lines a…"
    assert has_controls("\r")
    assert not has_controls("family 👩‍👩‍👧 \u200f")
