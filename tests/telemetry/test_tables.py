"""Keys, verdicts and sessions: the Ibis part of the rules."""

from __future__ import annotations

import math
from datetime import timedelta

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.telemetry.builders import ANCHOR, TEST, TRAIN, Note, Span, drops, tables
from tracetune import privacy
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.tables import (
    classify_spans,
    collect_verdicts,
    kept_turns,
    safe_id,
    sessions_in_test,
)

OPTIONS = TelemetryOptions()
MICRO = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (Span([Note()]), None),
        (Span([Note()], name="routing_agent_v2"), "other_name"),
        (Span([Note()], name=None), "other_name"),
        (Span([Note()], kind="LLM"), "other_kind"),
        (Span([Note()], kind=None), "other_kind"),
        (Span([Note()], kind="agent"), None),
        (Span([Note()], parent="00000000000000ff"), "child_span"),
        (Span([Note()], parent=" "), None),
        (Span([Note()], name="x", kind="LLM", parent="00000000000000ff"), "other_name"),
        (Span([Note()], start=ANCHOR), "outside_window"),
        (Span([Note()], start=ANCHOR - MICRO), None),
        (Span([Note()], start=ANCHOR - timedelta(days=30)), None),
        (Span([Note()], start=ANCHOR - timedelta(days=30) - MICRO), "outside_window"),
        (Span([]), "no_annotation"),
        (Span([Note(name="note")]), "no_annotation"),
        (Span([Note(name="Human_Approval")]), "no_annotation"),
        # A model's approval is an annotation; that nobody decided is found out later.
        (Span([Note(kind="LLM")]), None),
    ],
)
def test_key_drops(span: Span, reason: str | None) -> None:
    assert drops([span]) == [reason]


def test_a_span_on_the_boundary_belongs_to_the_later_window() -> None:
    cut = ANCHOR - timedelta(days=7)
    spans, notes = tables([Span(start=cut - MICRO), Span(start=cut), Span(start=ANCHOR)])
    units = classify_spans(spans, notes, OPTIONS, "2026-03-01T00:00:00Z").order_by("start_time")
    assert units.window.to_pyarrow().to_pylist() == ["train", "test", None]


def test_every_span_gives_one_row_however_many_annotations_it_has() -> None:
    spans, notes = tables([Span([Note(), Note("rejected"), Note(kind="LLM")]), Span()])
    assert classify_spans(spans, notes, OPTIONS, ANCHOR).count().to_pyarrow().as_py() == 2


def test_tables_hold_no_text_and_no_personal_id() -> None:
    secret = "jane.doe@example.com"
    spans, notes = tables(
        [
            Span(
                [Note(identifier=secret, explanation=secret, metadata={"k": secret})],
                prompt=secret,
                session=secret,
            ),
            Span([Note()], session=secret),
        ]
    )
    units = classify_spans(spans, notes, OPTIONS, ANCHOR)
    verdicts = collect_verdicts(units, notes, OPTIONS)
    written = str(units.to_pyarrow().to_pylist()) + str(verdicts.to_pyarrow().to_pylist())
    assert secret not in written
    sessions = set(units.session_id.to_pyarrow().to_pylist())
    assert sessions == {privacy.safe_id(secret)}
    assert set(verdicts.columns) == {
        "span_id",
        "annotation_id",
        "name",
        "annotator_kind",
        "identifier",
        "updated_at",
        "human",
        "verdict",
        "decides",
    }


@pytest.mark.parametrize(
    ("note", "verdict"),
    [
        (Note("approved"), "approved"),
        (Note("  APPROVED\n"), "approved"),
        (Note("\u00a0Rejected\u2003"), "rejected"),
        (Note("rejected", score=0.9), "rejected"),
        (Note("approved", score=0.1), "approved"),
        (Note("unsure", score=0.9), None),
        (Note("nan", score=0.9), None),
        (Note(None, score=0.5), "approved"),
        (Note(None, score=0.4999), "rejected"),
        (Note("", score=0.9), "approved"),
        (Note(" \t ", score=0.1), "rejected"),
        (Note(None, score=math.nan), None),
        (Note(None, score=None), None),
        (Note(None, score=math.inf), "approved"),
        (Note(None, score=0), "rejected"),
        (Note(None, score=1), "approved"),
    ],
)
def test_the_label_wins_and_missing_values_are_no_verdict(note: Note, verdict: str | None) -> None:
    spans, notes = tables([Span([note])])
    units = classify_spans(spans, notes, OPTIONS, ANCHOR)
    (row,) = collect_verdicts(units, notes, OPTIONS).to_pyarrow().to_pylist()
    assert row["verdict"] == verdict
    assert row["decides"] is (verdict is not None)


@pytest.mark.parametrize(
    ("kind", "human"),
    [("HUMAN", True), ("human", True), ("LLM", False), ("CODE", False), (None, False)],
)
def test_only_people_decide(kind: str | None, human: bool) -> None:
    spans, notes = tables([Span([Note(kind=kind)])])
    units = classify_spans(spans, notes, OPTIONS, ANCHOR)
    (row,) = collect_verdicts(units, notes, OPTIONS).to_pyarrow().to_pylist()
    assert row["human"] is human
    assert row["decides"] is human


def test_names_kinds_and_threshold_are_parameters() -> None:
    options = TelemetryOptions.model_validate(
        {
            "span": {"name": "router", "kind": "chain"},
            "verdicts": {
                "names": ["review"],
                "kinds": ["LLM"],
                "labels": {"approved": "Good", "rejected": "bad"},
                "threshold": 0.8,
            },
        }
    )
    notes = [
        Note("GOOD", name="review", kind="LLM"),
        Note(None, score=0.7, name="review", kind="LLM"),
    ]
    spans, annotations = tables([Span(notes, name="router", kind="CHAIN")])
    units = classify_spans(spans, annotations, options, ANCHOR)
    rows = collect_verdicts(units, annotations, options).order_by("identifier").to_pyarrow()
    assert rows["verdict"].to_pylist() == ["approved", "rejected"]
    assert rows["decides"].to_pylist() == [True, True]


def turn(session: str | None, start=TRAIN, prompt="hello", output="good day", **more) -> Span:
    return Span((), prompt, output, "chat_turn", "CHAIN", session=session, start=start, **more)


def reaching(*spans: Span) -> list[str]:
    table, _ = tables(spans)
    return sessions_in_test(table, OPTIONS, ANCHOR).session_id.to_pyarrow().to_pylist()


def test_a_session_with_a_kept_turn_in_the_test_window_is_a_test_session() -> None:
    found = reaching(
        turn("both"), turn("both", TEST), turn("old"), turn("old"), turn("new", TEST),
        turn("new", TEST), turn("after", ANCHOR), turn("after", ANCHOR),
    )  # fmt: skip
    assert found == ["both", "new"]


@pytest.mark.parametrize(
    "last",
    [
        turn("s", TEST, prompt="  \t\n"),
        turn("s", TEST, prompt="\u00a0\u2003\u000b\u001c\u0085"),
        turn("s", TEST, output=""),
        turn("s", TEST, output=["a", "list"]),
        turn("s", TEST, output=None),
        turn("s", TEST, parent="00000000000000aa"),
        turn("unknown", TEST),
        turn("", TEST),
        turn(None, TEST),
    ],
)
def test_a_turn_that_is_not_kept_moves_no_session(last: Span) -> None:
    assert reaching(turn("s"), turn("s"), last) == []


def test_a_session_of_one_kept_turn_is_none() -> None:
    assert reaching(turn("s", TEST), turn("s", prompt=" ")) == []


def test_session_ids_are_compared_stripped() -> None:
    assert reaching(turn(" s "), turn("s", TEST)) == ["s"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=20))
def test_blank_means_the_same_as_in_python(texts: list[str]) -> None:
    table, _ = tables([turn("s", prompt=text) for text in ["a", "b", *texts]])
    kept = kept_turns(table, OPTIONS).count().to_pyarrow().as_py()
    assert kept == 2 + sum(bool(text.strip()) for text in texts)


IDS = st.one_of(
    st.uuids().map(str),
    st.integers(0, 16**32).map("{:032x}".format),
    st.integers(0, 10**16).map("{:016d}".format),
    st.from_regex(r"\A[A-Za-z0-9._:/#@ +-]{1,40}\Z"),
    st.text(min_size=1, max_size=20),
    st.sampled_from(["sk-abc", "user_token_1", "sess-0001", "+1 415 555 0132", "a@b.co"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=30), st.booleans())
def test_safe_ids_are_the_same_in_both_languages(ids: list[str], telemetry: bool) -> None:
    ids = [text.replace("\0", "") or "x" for text in ids]
    table = ibis.memtable({"n": list(range(len(ids))), "id": ids})
    found = table.select("n", out=safe_id(table.id, telemetry=telemetry)).order_by("n")
    assert found.to_pyarrow()["out"].to_pylist() == [
        privacy.safe_id(text, telemetry=telemetry) for text in ids
    ]


def test_the_pinned_versions_create_overwrite_and_read_in_batches(tmp_path) -> None:
    """Ibis 12 with sqlglot >= 30.18 or duckdb >= 2 breaks each of these three."""
    connection = ibis.duckdb.connect()
    table = ibis.memtable({"n": list(range(5000)), "text": [f"t{n % 7}" for n in range(5000)]})
    connection.create_table("t", table)
    connection.create_table("t", table.filter(table.n < 4000), overwrite=True)
    assert "t" in connection.list_tables()
    connection.table("t").to_parquet(tmp_path / "t.parquet")
    back = connection.read_parquet(tmp_path / "t.parquet").order_by("n")
    with back.to_pyarrow_batches(chunk_size=100) as batches:
        numbers = [n for batch in batches for n in batch["n"].to_pylist()]
    assert numbers == list(range(4000))
    connection.drop_table("t")
