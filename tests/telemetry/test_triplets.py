"""Searches with feedback become triplets, queries and a catalogue; everything is counted."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.telemetry.builders import ANCHOR, TEST
from tests.telemetry.search_builders import Say, Searched, reasons, relevance, rows_of, sides
from tracetune.errors import DataError
from tracetune.privacy import PrivacyOptions
from tracetune.splits import SplitOptions, assign_by_time, verify
from tracetune.telemetry.options import SearchOptions, TelemetryOptions
from tracetune.telemetry.search_funnel import SEARCH_REASONS, RowCounts, make_set_funnel


def test_a_click_beats_the_first_two_others():
    rows = rows_of(Searched(said=[Say("d2")], session="s1"))
    assert sides(rows) == [("d2", "d1"), ("d2", "d3")]
    [first, _] = rows.triplets
    assert (first.anchor, first.positive, first.negative) == (
        "refund for a cancelled order",
        "Opening hours",
        "How to return an order",
    )
    assert first.provenance.group == "session:s1"
    assert first.id.startswith("triplet-")
    [query] = rows.queries
    assert query.relevant == ["d2"]
    assert [document.id for document in rows.documents] == ["d1", "d2", "d3", "d4"]
    assert rows.funnel.searches == 1
    assert rows.funnel.feedback["positive"] == 1


@pytest.mark.parametrize(("score", "wanted"), [(0.7, True), (0.95, True), (0.69, False)])
def test_relevance_from_the_threshold_on(score, wanted):
    rows = rows_of(Searched(said=[relevance("d3", score)]))
    assert bool(rows.triplets) is wanted
    if not wanted:
        assert reasons(rows) == {"no_positive": 1}


def test_all_positives_against_all_negatives():
    rows = rows_of(Searched(said=[Say("d1"), relevance("d3", 0.8)]))
    assert sides(rows) == [("d1", "d2"), ("d1", "d4"), ("d3", "d2"), ("d3", "d4")]


def test_identifier_names_the_document_when_the_metadata_does_not():
    rows = rows_of(Searched(said=[Say(None, identifier="result_click:d3")]))
    assert rows.queries[0].relevant == ["d3"]


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        (Searched(name="search_service_v2"), "other_name"),
        (Searched(kind="CHAIN"), "other_kind"),
        (Searched(start=ANCHOR - timedelta(days=35)), "outside_window"),
        (Searched(start=ANCHOR), "outside_window"),
        (Searched(said=[]), "no_feedback"),
        (Searched(said=[Say("d1", name="human_approval")]), "no_feedback"),
        (Searched(status="ERROR"), "failed"),
        (Searched(query=None), "no_query"),
        (Searched(query="  "), "no_query"),
        (Searched(query={"text": "refund"}), "no_query"),
        (Searched(query="x" * 20_001), "too_long"),
        (Searched(documents=[]), "no_documents"),
        (Searched(documents=[(None, "text", 1.0)]), "no_documents"),
        (Searched(said=[Say("d1", kind="LLM")]), "not_human"),
        (Searched(said=[Say("d9")]), "unknown_id"),
        (Searched(said=[relevance("d1", None)]), "no_verdict"),
        (Searched(said=[relevance("d1", float("nan"))]), "no_verdict"),
        (Searched(said=[Say(None, identifier="px-app:1")]), "no_verdict"),
        (Searched(said=[Say("d1"), relevance("d1", 0.1)]), "contradiction"),
        (Searched(said=[relevance("d1", 0.2)]), "no_positive"),
        (Searched(documents=[("d1", " ", 1.0), ("d2", "b", 0.5)]), "no_content"),
        (Searched(documents=[("d1", None, 1.0), ("d2", "b", 0.5)]), "no_content"),
        (Searched(documents=[("d1", "a", 1.0)]), "no_negatives"),
        (Searched(documents=[("d1", "a", 1.0), ("d2", "a", 0.5)]), "no_negatives"),
    ],
)
def test_why_a_search_gives_no_triplet(search, reason):
    rows = rows_of(search)
    assert reasons(rows) == {reason: 1}
    assert not rows.triplets
    assert bool(rows.queries) is (reason == "no_negatives")
    assert rows.funnel.read == 1


def test_disputed_documents_stand_on_neither_side():
    rows = rows_of(Searched(said=[Say("d1"), relevance("d2", 0.9), relevance("d2", 0.2)]))
    assert sides(rows) == [("d1", "d3"), ("d1", "d4")]
    assert rows.funnel.feedback == {
        "left_out": 0,
        "not_human": 0,
        "no_id": 0,
        "unknown_id": 0,
        "no_score": 0,
        "contradiction": 2,
        "no_content": 0,
        "positive": 1,
        "negative": 0,
    }


def test_feedback_of_models_is_counted_and_does_not_decide():
    rows = rows_of(Searched(said=[Say("d1"), relevance("d2", 1.0, kind="LLM"), Say("d7")]))
    assert rows.queries[0].relevant == ["d1"]
    assert rows.funnel.feedback["not_human"] == 1
    assert rows.funnel.feedback["unknown_id"] == 1


def test_above_threshold_takes_what_scores_above_the_median_of_the_others():
    options = SearchOptions(strategy="above_threshold", negatives=5)
    rows = rows_of(Searched(said=[Say("d1")]), search=options)
    assert sides(rows) == [("d1", "d2")]  # 0.8, 0.7 and 0.1: the median is 0.7


def test_random_sampling_depends_on_the_seed_alone():
    documents = [(f"d{n}", f"text {n}", None) for n in range(30)]
    options = SearchOptions(strategy="random_sampling", negatives=3)
    draws = [
        sides(rows_of(Searched(documents=documents), search=options, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 3


def test_catalogue_keeps_the_newest_text_and_counts():
    old = [("d1", "old text", 1.0), ("d2", "same", 0.5), ("d2", "twice", 0.4), (7, "number", 0.1)]
    new = [("d1", "new text", 1.0), ("d2", "same", 0.5), ("d5", "", 0.2), (None, "no id", 0.1)]
    rows = rows_of(
        Searched(documents=old, start=ANCHOR - timedelta(days=38), said=[]),
        Searched(documents=new, start=TEST, said=[]),
    )
    assert {d.id: d.text for d in rows.documents} == {"7": "number", "d1": "new text", "d2": "same"}
    counts = rows.funnel.catalogue
    assert counts.searches == 2
    assert counts.two_contents == 1
    assert counts.shown == {
        "no_id": 1,
        "repeated": 1,
        "no_content": 1,
        "too_long": 0,
        "private": 0,
        "used": 5,
    }


def test_equal_triplets_stand_once_and_the_test_window_wins():
    rows = rows_of(Searched(), Searched(start=TEST), Searched())
    assert [row.tags["window"] for row in rows.triplets] == ["test", "test"]
    assert reasons(rows) == {"duplicate": 2}
    assert rows.funnel.triplets.model_dump() == {
        "candidates": 6,
        "duplicate": 4,
        "rows": 2,
        "by_window": {"test": 2},
    }
    assert len(rows.queries) == 1


SECRET = "my mail is jane.doe@example.com"


def test_texts_are_redacted():
    documents = [("d1", f"Contact: {SECRET}", 1.0), ("d2", "Opening hours", 0.5)]
    rows = rows_of(Searched(query=f"find {SECRET}", documents=documents))
    everything = json.dumps(
        [row.model_dump(mode="json") for row in (*rows.triplets, *rows.queries, *rows.documents)]
    )
    assert "jane" not in everything
    assert rows.triplets[0].anchor == "find my mail is <EMAIL>"
    assert rows.privacy.found == {"EMAIL": 2}


def test_policy_drop_leaves_private_texts_out():
    documents = [("d1", "clean", 1.0), ("d2", SECRET, 0.5), ("d3", "other", 0.1)]
    rows = rows_of(
        Searched(query=SECRET, documents=documents),
        Searched(documents=documents),
        privacy=PrivacyOptions(policy="drop"),
    )
    assert reasons(rows) == {"private": 1}
    assert sides(rows) == [("d1", "d3")]
    assert [document.id for document in rows.documents] == ["d1", "d3"]


def test_document_ids_that_may_say_who_somebody_is_are_hashed():
    documents = [("jane.doe@example.com", "a", 1.0), ("d2", "b", 0.5)]
    rows = rows_of(Searched(documents=documents, said=[Say("jane.doe@example.com")]))
    [key] = rows.queries[0].relevant
    assert key.startswith("sha256-")
    assert key in {document.id for document in rows.documents}


def test_same_input_gives_same_rows():
    many = [Searched(query=f"query number {n}", said=[Say("d2")]) for n in range(30)]
    assert rows_of(*many) == rows_of(*many)


def test_splits_drop_the_same_query_and_the_same_session_from_training():
    rows = rows_of(
        Searched(query="where is my parcel", session="a"),
        Searched(query="Where is my PARCEL?", start=TEST, session="b"),
        Searched(query="cancel the hotel booking", session="c"),
        Searched(query="another thing in that session", start=TEST, session="c"),
        Searched(query="warranty of the blue kettle", session="d"),
    )
    both = [*rows.triplets, *rows.queries]
    start = TelemetryOptions().windows_at(ANCHOR).test_start
    manifest = assign_by_time(
        both, test_start=start, test_groups=set(), options=SplitOptions(), seed=1
    )
    verify(manifest, both)
    assert manifest.dropped["query"] == {"near_test": 1, "same_session": 1}
    assert [q.text for q in manifest.select(rows.queries, "train")] == [
        "warranty of the blue kettle"
    ]
    assert len(manifest.select(rows.queries, "test")) == 2


def test_a_funnel_that_does_not_add_up_stops_the_run():
    none = RowCounts(candidates=0, duplicate=0, rows=0, by_window={})
    with pytest.raises(DataError, match="report this"):
        make_set_funnel(
            "feedback",
            reasons=SEARCH_REASONS,
            outcomes=("positive",),
            read=2,
            drops={"no_feedback": 1},
            searches=2,
            said={},
            said_read=0,
            triplets=none,
            queries=none,
        )
