"""Sessions become trajectories, conversations and held-out turns; every turn is accounted for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.telemetry.builders import ANCHOR, TEST, TRAIN
from tests.telemetry.session_builders import (
    MINUTE,
    Judged,
    Said,
    dialogue,
    dropped,
    rows_of,
    tables,
)
from tracetune.errors import DataError
from tracetune.files import canonical_json
from tracetune.splits import SplitOptions, assign_by_time, verify
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.session_tables import classify_sessions, classify_turns
from tracetune.telemetry.trajectories import SessionRows


def test_a_session_becomes_a_trajectory_in_the_shape_of_the_document() -> None:
    rows = rows_of(dialogue("s1", 3), [Judged(label=" Success ", score=0.9)])
    (trajectory,) = rows.trajectories
    plain = json.loads(trajectory.model_dump_json())
    assert {"session_id", "turns", "session_outcome", "session_score"} < set(plain)
    assert plain["session_id"] == "s1"
    assert (plain["session_outcome"], plain["session_score"]) == ("success", 0.9)
    assert plain["turns"][1] == {
        "turn_id": 2,
        "query": "s1 asks thing 1",
        "response": "s1 hears answer 1",
        "timestamp": "2026-02-09T00:01:00.000000Z",
        "span_id": f"{1:016x}",
        "metadata": {"trace_id": f"{1:032x}"},
    }
    assert trajectory.id.startswith("trajectory-")
    assert len(trajectory.id) == len("trajectory-") + 20
    assert trajectory.provenance.group == "session:s1"
    assert trajectory.provenance.created_at == TRAIN + 2 * MINUTE


def test_a_training_session_is_one_row_with_every_answer_in_the_completion() -> None:
    (row,) = rows_of(dialogue("s1", 3), system_prompt="Be kind.").examples
    assert [m.role for m in row.prompt] == ["system", "user"]
    assert row.prompt[0].content == "Be kind."
    assert [m.role for m in row.completion] == ["assistant", "user"] * 2 + ["assistant"]
    assert row.completion[-1].content == "s1 hears answer 2"
    assert row.tags == {"session": "s1", "window": "train", "outcome": "none"}
    assert row.provenance.ids["span_ids"].split() == [f"{n:016x}" for n in range(3)]
    assert rows_of(dialogue("s1"), system_prompt=None).examples[0].prompt[0].role == "user"


def test_a_held_out_session_is_one_row_per_answer() -> None:
    rows = rows_of(dialogue("s1", 3, TEST)).examples
    assert [row.tags["turn"] for row in rows] == ["1", "2", "3"]
    assert [[m.role for m in row.prompt] for row in rows] == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user", "assistant", "user", "assistant", "user"],
    ]
    assert rows[2].prompt[2].content == "s1 hears answer 0"
    assert [row.completion[0].content for row in rows] == [f"s1 hears answer {n}" for n in range(3)]
    assert rows[1].provenance.ids["span_id"] == f"{1:016x}"


def test_a_session_that_reaches_into_the_test_window_is_wholly_test() -> None:
    start = ANCHOR - timedelta(days=7)
    said = [*dialogue("s1", 2, start - MINUTE), *dialogue("s2", 2, start - timedelta(hours=1))]
    rows = rows_of(said).examples
    assert {row.tags["session"]: row.tags["window"] for row in rows} == {
        "s1": "test",
        "s2": "train",
    }
    manifest = assign_by_time(
        rows, test_start=start, test_groups=(), options=SplitOptions(), seed=1
    )
    assert manifest.counts["sft"] == {"train": 1, "validation": 0, "test": 2, "dropped": 0}
    verify(manifest, rows)


def test_every_turn_and_session_is_counted() -> None:
    said = [
        Said(name="routing_agent"),
        Said(parent="00000000000000aa"),
        Said(session=None),
        Said(session="  "),
        Said(session="unknown"),
        Said(start=ANCHOR),
        Said(query=" \n\t"),
        Said(response=None),
        Said(query=["no", "text"]),
        *dialogue("s1", 1),
        *dialogue("old", 2, ANCHOR - timedelta(days=31)),
        *dialogue("bad", 2),
        *dialogue("low", 3),
        *dialogue("train", 2),
        *dialogue("test", 2, TEST),
    ]
    judged = [
        Judged("bad", "failure", 0.9),
        Judged("low", "success", 0.1),
        Judged("train"),
        Judged("test"),
    ]
    rows = rows_of(said, judged, outcomes=["success"], min_score=0.5)
    assert dropped(rows) == {
        "other_name": 1,
        "child_span": 1,
        "no_session": 3,
        "after_anchor": 1,
        "blank_turn": 3,
        "too_few_turns": 1,
        "outside_window": 2,
        "other_outcome": 2,
        "low_score": 3,
    }
    funnel = rows.funnel
    assert funnel.read == len(said)
    assert funnel.turns == 4
    assert funnel.sessions.read == 6
    assert {s.reason: (s.dropped, s.turns) for s in funnel.sessions.steps if s.dropped} == {
        "too_few_turns": (1, 1),
        "outside_window": (1, 2),
        "other_outcome": (1, 2),
        "low_score": (1, 3),
    }
    assert (funnel.sessions.trajectories, len(rows.trajectories)) == (4, 4)
    assert (funnel.sessions.conversations, funnel.sessions.held_out) == (1, 1)
    assert funnel.examples == len(rows.examples) == 3
    assert funnel.by_outcome == {"failure": 1, "success": 3}
    with pytest.raises(DataError, match="counted twice"):
        funnel.model_copy(update={"turns": 5}).check()


def test_blank_turns_go_before_short_sessions() -> None:
    rows = rows_of([*dialogue("s1", 2), Said("s2", "one"), Said("s2", "two", "\u3000")])
    assert [t.session_id for t in rows.trajectories] == ["s1"]
    assert dropped(rows) == {"blank_turn": 1, "too_few_turns": 1}


def test_min_turns_is_a_parameter() -> None:
    said = [*dialogue("s1", 2), *dialogue("s3", 4)]
    assert [t.session_id for t in rows_of(said, min_turns=3).trajectories] == ["s3"]
    assert len(rows_of(dialogue("s1", 1), min_turns=1).trajectories) == 1


def test_the_evaluation_of_the_session_counts_then_that_of_a_span_never_a_model() -> None:
    def outcome(*judged: Judged) -> tuple[str | None, float | None, str]:
        (found,) = rows_of(dialogue("s1"), judged).trajectories
        return found.session_outcome, found.session_score, found.tags["evaluated_on"]

    span = Judged(f"{1:016x}", "partial", 0.5, on_span=True, minute=9)
    assert outcome() == (None, None, "none")
    assert outcome(Judged(kind="LLM"), Judged(kind="CODE")) == (None, None, "none")
    assert outcome(Judged(name="helpfulness")) == (None, None, "none")
    assert outcome(span) == ("partial", 0.5, "span")
    assert outcome(span, Judged()) == ("success", 0.9, "session")
    assert outcome(span, Judged(kind="LLM")) == ("partial", 0.5, "span")
    assert outcome(Judged(label=None, score=0.3)) == (None, 0.3, "session")
    assert outcome(Judged(label=" ", score=float("nan")), span) == ("partial", 0.5, "span")
    # Of several people the most recent; of one moment the later annotation.
    assert outcome(Judged(minute=2), Judged(label="failure", minute=1))[0] == "success"
    assert outcome(Judged(minute=1), Judged(label="failure", minute=1))[0] == "failure"


def test_sessions_without_an_evaluation_stay_unless_a_filter_asks() -> None:
    said = [*dialogue("s1"), *dialogue("s2")]
    judged = [Judged("s1")]
    assert len(rows_of(said, judged).examples) == 2
    for asks in ({"require_evaluation": True}, {"outcomes": ["success"]}, {"min_score": 0.5}):
        rows = rows_of(said, judged, **asks)
        assert [row.tags["session"] for row in rows.examples] == ["s1"]
        assert len(rows.trajectories) == 2
    assert dropped(rows_of(said, judged, require_evaluation=True)) == {"no_evaluation": 2}


def test_a_turn_sent_again_counts_once() -> None:
    first, second = dialogue("s1", 2)
    retries = [
        first,
        replace(first, span_id="00000000000000ff"),  # a client sent it again
        replace(first, span_id="00000000000000aa"),
        second,
        replace(second, start=second.start + MINUTE),  # said again later: another turn
        replace(first, session="s2"),
        replace(second, session="s2"),
    ]
    rows = rows_of(retries)
    assert dropped(rows) == {"duplicate_turn": 2}
    assert [turn.span_id for turn in rows.trajectories[0].turns] == [
        f"{0:016x}",
        f"{3:016x}",
        f"{4:016x}",
    ]
    # One that is only long enough because a turn stands there twice is too short.
    assert rows_of([first, replace(first, span_id="00000000000000ff")]).trajectories == []


def test_a_span_that_stands_twice_counts_once_but_not_with_other_words() -> None:
    said = dialogue("s1", 2)
    said[0].span_id = said_again = "00000000000000aa"
    rows = rows_of([*said, replace(said[0], span_id=said_again)])
    assert rows.funnel.dropped("duplicate_turn") == 1
    assert len(rows.trajectories[0].turns) == 2
    with pytest.raises(DataError, match="stands more than once"):
        rows_of([*said, replace(said[0], response="something else")])


def test_wrong_clocks_keep_the_order_of_start_and_span_id_and_are_counted() -> None:
    said = [
        Said("s1", "second", "b", TRAIN + MINUTE, span_id="00000000000000bb"),
        Said("s1", "first", "a", TRAIN, end=TRAIN + 5 * MINUTE, span_id="00000000000000cc"),
        Said("s1", "fourth", "d", TRAIN + 2 * MINUTE, span_id="00000000000000ee"),
        Said("s1", "third", "c", TRAIN + 2 * MINUTE, end=TRAIN, span_id="00000000000000dd"),
    ]
    rows = rows_of(said)
    turns = rows.trajectories[0].turns
    assert [turn.query for turn in turns] == ["first", "second", "third", "fourth"]
    assert [turn.turn_id for turn in turns] == [1, 2, 3, 4]
    assert rows.funnel.clocks.end_before_start == 1
    assert rows.funnel.clocks.overlapping == 1


@pytest.mark.parametrize(
    ("table", "column"),
    [("spans", "start_time"), ("spans", "end_time"), ("sessions", "updated_at")],
)
def test_times_without_a_zone_are_refused(table: str, column: str) -> None:
    spans, annotations, sessions = tables(dialogue("s1"), [Judged()])
    naive = {"spans": spans, "sessions": sessions}
    naive[table] = naive[table].mutate(**{column: naive[table][column].cast("timestamp(6)")})
    options = TelemetryOptions()

    def classify() -> None:
        turns = classify_turns(naive["spans"], options, ANCHOR)
        classify_sessions(turns, naive["sessions"], spans, annotations, options, ANCHOR)

    with pytest.raises(DataError, match=f"table {table}, column {column}: .* without a time"):
        classify()
    with pytest.raises(ValueError, match="no time zone"):
        classify_turns(spans, options, "2026-03-01T00:00:00")


def test_the_same_conversation_is_one_row_the_earliest() -> None:
    again = [replace(turn, session="s2", start=turn.start + MINUTE / 2) for turn in dialogue("s1")]
    rows = rows_of([*again, *dialogue("s1")])
    assert [row.tags["session"] for row in rows.examples] == ["s1"]
    assert len(rows.trajectories) == 2
    assert rows.funnel.dropped("duplicate") == 2
    held_out = [replace(turn, start=turn.start + (TEST - TRAIN)) for turn in [*again[:1], *again]]
    held_out += [replace(turn, start=turn.start + (TEST - TRAIN)) for turn in dialogue("s1", 3)]
    rows = rows_of(held_out[1:])
    assert rows.funnel.held_out_turns.model_dump() == {"candidates": 5, "duplicate": 2, "rows": 3}


def test_what_is_private_is_redacted_everywhere_or_the_session_is_left_out() -> None:
    secret = "jane.doe@example.com"
    said = [
        Said("s1", f"I am {secret}", json.dumps({"password": "hunter2!x"})),
        Said("s1", "and?", f"noted {secret}", TRAIN + MINUTE),
        *[replace(turn, session=secret) for turn in dialogue("x")],
    ]
    judged = [Judged("s1", f"ask {secret}")]
    rows = rows_of(said, judged)
    text = canonical_json(
        [row.model_dump(mode="json") for row in rows.trajectories + rows.examples]
    )
    assert secret not in text
    assert "hunter2" not in text
    assert "<EMAIL>" in text
    assert {row.session_outcome for row in rows.trajectories} == {"ask <EMAIL>", None}
    left = rows_of(said, judged, privacy="drop")
    assert len(left.trajectories) == 1
    assert left.funnel.dropped("private") == 2
    assert left.privacy.spans_dropped == 2


def test_the_order_of_spans_and_a_second_run_change_nothing() -> None:
    said = [*dialogue("s2", 3), *dialogue("s1", 2), *dialogue("s3", 2, TEST)]
    for number, turn in enumerate(said):
        turn.span_id = f"{number:016x}"

    def facts(rows: SessionRows) -> list[Any]:
        plain = [row.model_dump(mode="json") for row in [*rows.trajectories, *rows.examples]]
        for row in plain:
            for place in [row, *row.get("turns", [])]:
                place.get("metadata", {}).pop("trace_id", None)
            row["provenance"]["ids"].pop("trace_id", None)
            row.pop("id")  # holds the trace of the builder
            row["provenance"]["ids"].pop("trajectory_id", None)
        return plain

    assert facts(rows_of(said)) == facts(rows_of(said[::-1]))
    assert rows_of(said).trajectories == rows_of(said).trajectories
