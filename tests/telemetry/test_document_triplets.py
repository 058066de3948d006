"""Annotations of single documents become a set of triplets of their own."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.telemetry.builders import ANCHOR, TEST
from tests.telemetry.search_builders import (
    Mark,
    Say,
    Searched,
    irrelevant,
    pairs,
    relevance,
    rows_of,
    sides,
)
from tracetune.privacy import PrivacyOptions
from tracetune.splits import SplitOptions, assign_by_time, verify
from tracetune.telemetry.document_rules import DocumentVerdict, decide_documents
from tracetune.telemetry.options import (
    DocumentAnnotationOptions,
    SearchOptions,
    TelemetryOptions,
    VerdictOptions,
)
from tracetune.telemetry.search_rules import Result, Search
from tracetune.telemetry.triplets import SearchRows
from tracetune.training.embedding_options import EmbeddingOptions

BOTH = ("feedback", "documents")
MARKED = (Mark(0), irrelevant(1), irrelevant(2), Mark(3))
TWO = (Mark(0), irrelevant(1))


def only(*searches: Searched, **more: Any) -> SearchRows:
    return rows_of(*searches, sets=("documents",), **more)


def reasons(rows: SearchRows) -> dict[str, int]:
    return {s.reason: s.dropped for s in rows.funnel.document_set.steps if s.dropped}


def outcomes(rows: SearchRows) -> dict[str, int]:
    return {name: count for name, count in rows.funnel.document_set.said.items() if count}


def test_every_relevant_document_against_every_irrelevant_one():
    rows = rows_of(Searched(said=[], marks=MARKED, session="s1"))
    assert pairs(rows.document_triplets) == [("d1", "d2"), ("d1", "d3"), ("d4", "d2"), ("d4", "d3")]
    first = rows.document_triplets[0]
    assert (first.anchor, first.positive, first.negative) == (
        "refund for a cancelled order",
        "How to return an order",
        "Opening hours",
    )
    assert first.provenance.group == "session:s1"
    assert first.tags == {"window": "train", "set": "documents"}
    assert outcomes(rows) == {"relevant": 2, "irrelevant": 2}


def test_it_is_a_set_of_its_own_that_is_not_used_unless_asked_for():
    search = Searched(said=[Say("d2")], marks=TWO)
    rows = rows_of(search)
    assert sides(rows) == [("d2", "d1"), ("d2", "d3")]
    assert {row.tags["set"] for row in rows.triplets} == {"feedback"}
    assert [query.relevant for query in rows.queries] == [["d2"]]
    assert pairs(rows.document_triplets) == [("d1", "d2")]
    assert rows.funnel.used.by_set == {"feedback": 2}
    alone = only(search)
    assert sides(alone) == pairs(rows.document_triplets)
    assert [query.relevant for query in alone.queries] == [["d1"]]
    assert alone.document_triplets == rows.document_triplets


@pytest.mark.parametrize(
    ("mark", "outcome"),
    [
        (Mark(2, "irrelevant"), "irrelevant"),
        (Mark(2, " UNRELATED "), "irrelevant"),
        (Mark(2, "Relevant\n"), "relevant"),
        (Mark(2, "relevant", score=0.0), "relevant"),  # the label wins
        (Mark(2, "irrelevant", score=1.0), "irrelevant"),
        (Mark(2, None, score=0.5), "relevant"),
        (Mark(2, " ", score=0.49), "irrelevant"),
        (Mark(2, None), "no_verdict"),
        (Mark(2, None, score=float("nan")), "no_verdict"),
        (Mark(2, "unsure", score=1.0), "no_verdict"),
        (Mark(2, kind="LLM"), "not_human"),
        (Mark(2, kind="CODE"), "not_human"),
        (Mark(9), "unknown_position"),
        (Mark(-1), "unknown_position"),
        (Mark(4), "no_id"),
        (Mark(5), "no_content"),
    ],
)
def test_what_one_annotation_says(mark, outcome):
    documents = [
        *(("d1", "a", 0.9), ("d2", "b", 0.8), ("d3", "c", 0.7)),
        *(("d4", "d", 0.6), (None, "e", 0.5), ("d6", None, 0.4)),
    ]
    rows = rows_of(Searched(documents=documents, said=[], marks=[*TWO, mark]))
    expected = {"relevant": 1, "irrelevant": 1}
    expected[outcome] = expected.get(outcome, 0) + 1
    assert outcomes(rows) == expected


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        (Searched(name="search_v2", marks=TWO), "other_name"),
        (Searched(kind="RERANKER", marks=TWO), "other_kind"),
        (Searched(start=ANCHOR, marks=TWO), "outside_window"),
        (Searched(marks=[Mark(0, name="freshness")]), "no_annotation"),
        (Searched(status="ERROR", marks=TWO), "failed"),
        (Searched(query=" ", marks=TWO), "no_query"),
        (Searched(query="x" * 20_001, marks=TWO), "too_long"),
        (Searched(documents=[], marks=TWO), "no_documents"),
        (Searched(marks=[Mark(0, kind="LLM"), irrelevant(1, kind="LLM")]), "not_human"),
        (Searched(marks=[Mark(7), irrelevant(8)]), "no_verdict"),
        (Searched(marks=[Mark(0, "unsure")]), "no_verdict"),
        (Searched(marks=[Mark(0), irrelevant(0, who="ben"), irrelevant(1)]), "contradiction"),
        (Searched(marks=[irrelevant(0), irrelevant(1)]), "no_relevant"),
        (Searched(documents=[("d1", " ", 1.0), ("d2", "b", 0.5)], marks=TWO), "no_content"),
        (Searched(marks=[Mark(0)]), "no_irrelevant"),
        (Searched(documents=[("d1", "a", 1.0), ("d2", "a", 0.5)], marks=TWO), "no_irrelevant"),
    ],
)
def test_why_a_search_gives_no_triplet(search, reason):
    rows = only(search)
    assert reasons(rows) == {reason: 1}
    assert not rows.document_triplets
    assert not rows.triplets
    assert bool(rows.queries) is (reason == "no_irrelevant")


def test_two_people_who_disagree_put_a_document_on_neither_side():
    marks = [*MARKED, irrelevant(0, who="ben"), Mark(1, who="ben", kind="LLM")]
    rows = only(Searched(marks=marks))
    assert sides(rows) == [("d4", "d2"), ("d4", "d3")]
    assert outcomes(rows) == {"contradiction": 2, "relevant": 1, "irrelevant": 2, "not_human": 1}
    assert [query.relevant for query in rows.queries] == [["d4"]]


def test_a_document_that_stands_twice_gathers_the_opinions_of_both_places():
    documents = [("d1", "a", 1.0), ("d2", "b", 0.8), ("d1", "a", 0.6), ("d3", "c", 0.5)]
    rows = only(
        Searched(documents=documents, marks=[Mark(0), irrelevant(2), Mark(1), irrelevant(3)])
    )
    assert sides(rows) == [("d2", "d3")]
    assert outcomes(rows)["contradiction"] == 2


def test_positions_are_those_of_the_results_also_where_some_are_missing():
    gaps = {f"retrieval.documents.{n}.document.id": f"d{n}" for n in (1, 4)}
    texts = {f"retrieval.documents.{n}.document.content": f"text {n}" for n in (1, 4)}
    marks = [Mark(4), irrelevant(1), irrelevant(0)]
    rows = only(Searched(documents=[], extra=gaps | texts, marks=marks))
    assert sides(rows) == [("d4", "d1")]
    assert outcomes(rows)["unknown_position"] == 1


def test_names_labels_and_threshold_are_configured():
    annotation = DocumentAnnotationOptions(
        name="fit", relevant=(" GOOD ",), irrelevant=("bad",), threshold=0.9
    )
    marks = [
        Mark(0, "good", name="fit"),
        Mark(1, None, score=0.89, name="fit"),
        Mark(2, "Bad", name="fit"),
        Mark(3, "relevant"),
    ]
    rows = only(Searched(marks=marks), search=SearchOptions(document_annotation=annotation))
    assert sides(rows) == [("d1", "d2"), ("d1", "d3")]


def test_who_decides_is_stated_once_for_all():
    options = TelemetryOptions(verdicts=VerdictOptions(kinds=("human", "LLM")))
    assert options.verdicts.kinds == ("human", "LLM")
    with pytest.raises(ValidationError, match="both relevant and irrelevant"):
        DocumentAnnotationOptions(relevant=("yes",), irrelevant=("no", " YES "))


def test_texts_are_redacted_and_private_ones_dropped():
    secret = "my mail is jane.doe@example.com"
    documents = [("d1", "clean", 1.0), ("d2", secret, 0.5), ("d3", "other", 0.1)]
    marks = [Mark(0), irrelevant(1), irrelevant(2)]
    found = only(Searched(query=f"find {secret}", documents=documents, marks=marks))
    text = json.dumps([row.model_dump(mode="json") for row in found.document_triplets])
    assert "jane" not in text
    assert found.document_triplets[0].negative == "my mail is <EMAIL>"
    dropped = only(
        Searched(query=secret, documents=documents, said=[Say("d1")], marks=marks),
        Searched(documents=documents, marks=marks),
        privacy=PrivacyOptions(policy="drop"),
    )
    assert reasons(dropped) == {"private": 1}
    assert sides(dropped) == [("d1", "d3")]
    assert dropped.privacy.spans_dropped == 1


# Both sets together.


def test_equal_triplets_of_both_sets_stand_once():
    rows = rows_of(Searched(said=[Say("d1")], marks=[Mark(0), irrelevant(1)]), sets=BOTH)
    assert sides(rows) == [("d1", "d2"), ("d1", "d3")]
    assert {row.tags["set"] for row in rows.triplets} == {"feedback"}
    used = rows.funnel.used
    assert (used.triplets.candidates, used.triplets.duplicate) == (3, 1)
    assert used.by_set == {"feedback": 2, "documents": 0}
    assert pairs(rows.document_triplets) == [("d1", "d2")]


def test_relevant_documents_of_both_sets_answer_a_query():
    search = Searched(said=[Say("d2")], marks=TWO[:1])
    assert [query.relevant for query in rows_of(search, sets=BOTH).queries] == [["d1", "d2"]]
    assert [query.relevant for query in rows_of(search).queries] == [["d2"]]
    assert [query.relevant for query in only(search).queries] == [["d1"]]


def test_what_one_set_wants_is_no_negative_of_the_other():
    rows = rows_of(Searched(said=[Say("d2")], marks=[Mark(0), irrelevant(3)]), sets=BOTH)
    # Of the feedback alone: d2 against d1 and d3. But d1 is relevant.
    assert sides(rows) == [("d2", "d3"), ("d1", "d4")]
    assert rows.funnel.used.contradiction == 1


def test_what_the_sets_disagree_on_stands_on_neither_side():
    search = Searched(
        said=[Say("d1"), relevance("d3", 0.1)], marks=[irrelevant(0), Mark(2), Mark(3)]
    )
    rows = rows_of(search, sets=BOTH)
    # d1 is wanted and irrelevant, d3 unwanted and relevant; d4 alone is left, with no other side.
    assert sides(rows) == []
    assert [query.relevant for query in rows.queries] == [["d4"]]
    assert rows.funnel.used.contradiction == 4


def test_text_that_one_set_wants_is_no_negative_under_another_id():
    documents = [("d1", "same", 1.0), ("d2", "other", 0.5), ("d3", "same", 0.4), ("d4", "x", 0.1)]
    search = Searched(documents=documents, said=[Say("d2")], marks=[Mark(2), irrelevant(3)])
    # Of the feedback alone: d2 against d1 and d4. But the text of d1 is wanted, as d3.
    assert sides(rows_of(search, sets=BOTH)) == [("d2", "d4"), ("d3", "d4")]


def test_both_sets_share_one_manifest():
    rows = rows_of(
        Searched(query="where is my parcel", session="a", said=[], marks=TWO),
        Searched(query="Where is my PARCEL?", start=TEST, session="b"),
        Searched(query="cancel the hotel booking", session="c", said=[], marks=TWO),
        Searched(query="another thing in that session", start=TEST, session="c", said=[Say("d2")]),
        Searched(query="warranty of the blue kettle", session="d", said=[], marks=TWO),
        sets=BOTH,
    )
    both = [*rows.triplets, *rows.queries]
    start = TelemetryOptions().windows_at(ANCHOR).test_start
    manifest = assign_by_time(
        both, test_start=start, test_groups=set(), options=SplitOptions(), seed=1
    )
    verify(manifest, both)
    assert manifest.dropped["query"] == {"near_test": 1, "same_session": 1}
    train = manifest.select(rows.triplets, "train")
    assert [(row.anchor, row.tags["set"]) for row in train] == [
        ("warranty of the blue kettle", "documents")
    ]


def test_the_test_window_wins_over_both_sets():
    rows = rows_of(Searched(said=[Say("d1")]), Searched(said=[], marks=TWO, start=TEST), sets=BOTH)
    kept = {
        (row.tags["window"], row.tags["set"])
        for row in rows.triplets
        if row.negative == "Opening hours"
    }
    assert kept == {("test", "documents")}
    assert rows.triplets == sorted(rows.triplets, key=lambda row: row.provenance.created_at)


def test_sets_are_named_once_in_any_order():
    assert EmbeddingOptions().sets == ("feedback",)
    assert EmbeddingOptions(sets=("documents", "feedback")).sets == BOTH
    texts = {"documents": BOTH[1:], "documents+feedback": BOTH}
    for text, sets in texts.items():
        assert EmbeddingOptions.model_validate({"sets": text}).sets == sets
    for wrong in ((), ("feedback", "feedback"), ("clicks",), "", "feedback+", "feedback,documents"):
        with pytest.raises(ValidationError):
            EmbeddingOptions.model_validate({"sets": wrong})


# The rules on anything that may come.

DOCUMENTS = st.lists(
    st.tuples(
        st.sampled_from(["d1", "d2", "d3", "d4", None]), st.sampled_from(["a", "b", "c", "d", None])
    ),
    max_size=6,
)
VERDICTS = st.lists(
    st.builds(
        DocumentVerdict,
        position=st.integers(-1, 7),
        human=st.booleans(),
        relevant=st.sampled_from([True, False, None]),
    ),
    min_size=1,
    max_size=12,
)


@given(DOCUMENTS, VERDICTS)
def test_pairs_are_what_people_agree_on(documents, verdicts):
    positions = {place: key for place, (key, _) in enumerate(documents)}
    results: dict[str, Result] = {}
    for key, text in documents:
        if key is not None:
            results.setdefault(key, Result(key, text, None))
    search = Search("s", False, "q", list(results.values()), [])
    lesson = decide_documents(search, verdicts, positions, max_chars=100)
    assert sum(lesson.feedback.values()) == len(verdicts)
    said: dict[str, set[bool]] = {}
    for verdict in verdicts:
        key = positions.get(verdict.position)
        if verdict.human and key is not None and verdict.relevant is not None:
            said.setdefault(key, set()).add(verdict.relevant)
    for positive, negative in lesson.pairs:
        assert said[positive.id] == {True}
        assert said[negative.id] == {False}
        assert all((positive.text, negative.text))
        assert positive.text != negative.text
    good = [r for r in results.values() if said.get(r.id) == {True} and r.text]
    bad = {r.text for r in results.values() if said.get(r.id) == {False} and r.text}
    bad -= {r.text for r in good}
    assert {(p.text, n.text) for p, n in lesson.pairs} == set(
        itertools.product({r.text for r in good}, bad)
    )
    assert bool(lesson.pairs) is (lesson.drop is None)
    shuffled = decide_documents(search, verdicts[::-1], positions, max_chars=100)
    assert shuffled == lesson


@given(
    st.lists(
        st.tuples(DOCUMENTS, VERDICTS, st.lists(st.sampled_from(["d1", "d2", "d3"]))), max_size=3
    )
)
@settings(max_examples=15)
def test_no_triplet_in_use_contradicts_what_somebody_said(searches):
    """Both sets together, through the tables, on whatever was shown and said."""
    rows = rows_of(
        *(
            Searched(
                query=f"query {number}",
                documents=[(key, text, None) for key, text in documents],
                said=[Say(key) for key in clicked],
                marks=[
                    Mark(
                        verdict.position,
                        {True: "relevant", False: "irrelevant", None: "unsure"}[verdict.relevant],
                        kind="HUMAN" if verdict.human else "LLM",
                        who=f"p{place}",
                    )
                    for place, verdict in enumerate(verdicts)
                ],
                start=TEST - timedelta(days=number),
            )
            for number, (documents, verdicts, clicked) in enumerate(searches)
        ),
        sets=BOTH,
    )
    for row in rows.triplets:
        documents, verdicts, clicked = searches[int(row.anchor.split()[1])]
        ids = [key for key, _ in documents]
        said = {
            (ids[v.position], v.relevant)
            for v in verdicts
            if v.human and 0 <= v.position < len(ids) and v.relevant is not None
        }
        positive = row.provenance.ids["positive_id"]
        negative = row.provenance.ids["negative_id"]
        assert (positive, False) not in said
        assert (negative, True) not in said
        assert negative not in clicked
        assert positive in clicked or (positive, True) in said
    for query in rows.queries:
        assert query.relevant
