"""How far synthetic rows are from real ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthesis.builders import ROUTING, example
from tracetune.evaluation.distance import compare, figure

OUTPUT = ROUTING.output


def rows(texts: list[str], agent: str = "hr_agent", first: int = 0):
    return [example(text, {"agent": agent}, first + n) for n, text in enumerate(texts)]


REAL = rows(["who signs my leave", "how many days are left", "is Friday a day off", "pay my bill"])


def test_the_same_rows_are_at_no_distance():
    found = compare(REAL, REAL, OUTPUT, seed=1)
    assert found["status"] == "compared"
    assert found["label_distance"] == 0.0
    assert found["synthetic"]["nearest_real"] == {"p10": 1.0, "p50": 1.0, "p90": 1.0}
    assert found["real"]["nearest_real"]["p90"] < 1.0
    assert found["real"]["words"] == found["synthetic"]["words"]
    assert found["real"]["distinct_1"] == found["synthetic"]["distinct_1"]


def test_other_labels_and_repeated_words_are_seen():
    copies = rows(["reset my password now"] * 4, "code_agent", 50)
    found = compare(REAL, copies, OUTPUT, seed=1)
    assert found["label_distance"] == 1.0
    assert found["synthetic"]["labels"] == {"code_agent": 1.0}
    assert found["synthetic"]["nearest_own"]["p50"] == 1.0
    assert found["synthetic"]["distinct_1"] < found["real"]["distinct_1"]
    assert 0 < found["by_chance"] <= 1


def test_without_synthetic_rows_there_is_nothing_to_compare_and_the_figure_says_so():
    found = compare(REAL, [], OUTPUT, seed=1)
    assert found["status"] == "none"
    assert "no synthetic row" in json.dumps(figure(found).to_plotly_json(), default=str)


def test_the_figure_shows_both_kinds_with_their_numbers():
    drawn = figure(compare(REAL, rows(["pay this bill", "sign here"], first=9), OUTPUT, seed=1))
    assert {trace.name for trace in drawn.data} == {"real", "synthetic"}
    assert "4 real, 2 synthetic rows" in drawn.layout.title.text


@given(st.lists(st.text("ab ", max_size=12), min_size=1, max_size=8), st.integers(0, 3))
@pytest.mark.filterwarnings("error")
def test_any_texts_can_be_compared(texts, seed):
    written = rows([text + "." for text in texts], first=30)
    found = compare(REAL, written, OUTPUT, seed=seed)
    assert found["synthetic"]["n"] == len(texts)
    json.dumps(found, allow_nan=False)
    assert found == compare(REAL, written, OUTPUT, seed=seed)
    assert compare([], written, OUTPUT, seed=seed)["label_distance"] is None


def test_of_many_rows_a_draw_is_compared_and_said(monkeypatch):
    monkeypatch.setattr("tracetune.evaluation.distance.MOST_ROWS", 3)
    found = compare(REAL, rows(["pay this bill"], first=9), OUTPUT, seed=1)
    assert (found["real"]["n"], found["real"]["rows"]) == (3, 4)
