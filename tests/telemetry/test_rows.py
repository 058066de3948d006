"""From spans to rows: text, redaction, de-duplication, funnel."""

from __future__ import annotations

import json
import pickle
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.telemetry.builders import ANCHOR, TEST, TRAIN, Note, Span, rows_of
from tracetune.errors import DataError
from tracetune.files import canonical_json
from tracetune.privacy import PrivacyOptions
from tracetune.telemetry import rows as rows_module
from tracetune.telemetry.funnel import Funnel, PairCounts, make_funnel
from tracetune.telemetry.options import TelemetryOptions

REJECT = Note("rejected")
FIXED = Note("rejected", metadata={"corrected_output": {"agent": "refunds"}})


def contents(rows) -> list[tuple[str, ...]]:
    return [
        (row.prompt[1].content, row.completion[0].content, row.tags["window"])
        for row in rows.examples
    ]


def test_rows_carry_text_origin_and_tags() -> None:
    span = Span(
        [FIXED],
        prompt="Where is my money?",
        output='{"why": "money", "agent": "billing"}',
        session="s-1",
    )
    rows = rows_of([span])
    (example,), (pair,) = rows.examples, rows.preferences
    assert [m.role for m in example.prompt] == ["system", "user"]
    assert example.prompt[0].content == TelemetryOptions().instruction
    assert example.completion[0].content == '{"agent":"refunds"}'
    # The keys of the rejected side keep their order, the white space is the same on both sides.
    assert pair.rejected[0].content == '{"why":"money","agent":"billing"}'
    assert pair.chosen == example.completion
    for row in (example, pair):
        assert row.provenance.source == "phoenix"
        assert row.provenance.tenant == "demo"
        assert row.provenance.ids == {
            "span_id": "0" * 16,
            "trace_id": "0" * 32,
            "session_id": "s-1",
        }
        assert row.provenance.group == "session:s-1"
        assert row.provenance.created_at == TRAIN
        assert row.tags == {"target": "refunds", "target_source": "corrected", "window": "train"}


def test_without_a_session_the_trace_is_the_group() -> None:
    (example,) = rows_of([Span([Note()], session="unknown")]).examples
    assert example.provenance.group == "trace:" + "0" * 32
    assert "session_id" not in example.provenance.ids


def test_one_row_per_prompt_and_output_the_earliest_stays() -> None:
    rows = rows_of(
        [
            Span([Note()], "same", '{"agent": "a", "x": 1}', start=TRAIN + timedelta(hours=2)),
            Span([Note()], "same", '{"x":1,"agent":"a"}', start=TRAIN + timedelta(hours=1)),
            Span([Note()], "same", '{"agent":"b"}'),
            Span([Note()], "other", '{"agent":"a","x":1}'),
        ]
    )
    assert [row.provenance.ids["span_id"][-1] for row in rows.examples] == ["2", "3", "1"]
    assert rows.funnel.dropped("duplicate") == 1


def test_a_training_row_never_takes_a_test_row_away() -> None:
    rows = rows_of([Span([FIXED], "same"), Span([FIXED], "same", start=TEST)])
    assert [row.tags["window"] for row in rows.examples] == ["test"]
    assert [row.tags["window"] for row in rows.preferences] == ["test"]
    assert rows.funnel.dropped("duplicate") == 1
    assert rows.funnel.pairs == PairCounts(candidates=2, duplicate=1, rows=1)


def test_funnel_of_every_reason() -> None:
    ghost = '{"agent":"ghost"}'
    cases = {
        "other_name": Span([Note()], name="x"),
        "other_kind": Span([Note()], kind="LLM"),
        "child_span": Span([Note()], parent="00000000000000aa"),
        "outside_window": Span([Note()], start=ANCHOR),
        "no_annotation": Span(),
        "malformed": Span([Note()], status="ERROR"),
        "too_long": Span([Note()], prompt="x" * 20_001),
        "not_human": Span([Note(kind="LLM")]),
        "no_verdict": Span([Note(None)]),
        "invalid_correction": Span([Note("rejected", metadata={"corrected_output": "?"})]),
        "identical_pair": Span([Note(), REJECT]),
        "rejected_only": Span([REJECT]),
        "unknown_target": Span([Note()], output=ghost),
        "duplicate": Span([Note()], prompt="twice"),
    }
    options = TelemetryOptions.model_validate({"output": {"known": ["billing", "refunds"]}})
    used = [Span([Note()], prompt="twice"), Span([FIXED]), Span([FIXED], start=TEST)]
    funnel = rows_of([*cases.values(), *used], options).funnel
    assert {step.reason: step.dropped for step in funnel.steps} == {
        **dict.fromkeys(cases, 1),
        "private": 0,
    }
    assert funnel.read == len(cases) + 3
    assert funnel.examples == 3
    assert funnel.pairs == PairCounts(candidates=2, duplicate=0, rows=2)
    assert funnel.by_target_source == {"corrected": 2, "own": 1}
    assert funnel.by_window == {
        "examples": {"test": 1, "train": 2},
        "pairs": {"test": 1, "train": 1},
    }


PLANTED = {
    "EMAIL": "jane.doe@example.com",
    "PHONE": "+1 415 555 0132",
    "CARD": "4111 1111 1111 1111",
    "API_KEY": "sk" + "-live-4f9a8b7c6d5e4f3a2b1c",
    "TOKEN": "Bearer 3f9a8b7c6d5e4f3a2b1c",
}


@pytest.mark.parametrize(("kind", "secret"), PLANTED.items())
def test_no_planted_string_gets_into_a_row(kind: str, secret: str) -> None:
    own = json.dumps({"agent": "billing", "reason": f"asked about {secret}", secret: [secret]})
    fixed = {"agent": "refunds", "reason": {"deep": [secret]}}
    notes = [
        Note(
            "rejected", metadata={"corrected_output": fixed}, explanation=secret, identifier=secret
        )
    ]
    other = [Note(), Note("rejected", metadata={"rejected_output": f"no idea, {secret}"})]
    rows = rows_of(
        [
            Span(notes, f"my data: {secret} thanks", own, session=f"s {secret}"),
            Span(other, f"{secret}", '{"agent":"billing"}', session=secret),
        ]
    )
    assert len(rows.examples) == 2
    assert len(rows.preferences) == 2
    bare = secret.removeprefix("Bearer ")
    for row in [*rows.examples, *rows.preferences]:
        text = canonical_json(row.model_dump(mode="json"))
        assert bare not in text
        assert f"<{kind}>" in text
    assert json.loads(rows.preferences[0].chosen[0].content)["agent"] == "refunds"
    assert json.loads(rows.preferences[0].rejected[0].content)["agent"] == "billing"
    assert rows.privacy.found[kind] >= 6
    assert rows.privacy.left == {}
    assert bare not in rows.funnel.model_dump_json() + rows.privacy.model_dump_json()


def test_the_policy_drop_leaves_such_spans_out() -> None:
    spans = [Span([Note()], prompt="I am jane@example.com"), Span([Note()])]
    rows = rows_of(spans, privacy=PrivacyOptions(policy="drop"))
    assert len(rows.examples) == 1
    assert rows.funnel.dropped("private") == 1
    assert rows.privacy.spans_dropped == 1


def test_a_pair_that_differs_only_in_what_is_redacted_is_identical() -> None:
    note = Note("rejected", metadata={"corrected_output": {"agent": "a", "to": "x@example.com"}})
    rows = rows_of([Span([note], output='{"agent":"a","to":"y@example.com"}')])
    assert rows.funnel.dropped("identical_pair") == 1
    assert rows.preferences == []


def test_prompts_that_differ_only_in_what_is_redacted_are_duplicates() -> None:
    rows = rows_of([Span([Note()], "ask x@example.com"), Span([Note()], "ask y@example.com")])
    assert contents(rows) == [("ask <EMAIL>", '{"agent":"billing"}', "train")]


@pytest.mark.parametrize(
    "prompt", ["🙂🙂", "नमस्ते दुनिया", "\u202eright to left", "a\u0000b", "nan", "x" * 20_000]
)
def test_strange_text_arrives_unchanged(prompt: str) -> None:
    assert [c[0] for c in contents(rows_of([Span([Note()], prompt)]))] == [prompt]


@pytest.mark.parametrize(
    "prompt", [42, 1.5, ["a"], {"query": {"text": "a"}}, True, None, "x" * 200_000]
)
def test_strange_values_are_counted_not_raised(prompt: object) -> None:
    span = Span([Note()], prompt="x", output={"agent": "billing"} if prompt is None else prompt)
    rows = rows_of([span, Span([Note()], prompt=prompt if prompt is not None else "  ")])
    assert rows.examples == []
    assert rows.funnel.dropped("malformed") + rows.funnel.dropped("too_long") == 2


def test_a_span_that_stands_twice_is_an_error() -> None:
    twice = [Span([Note()], span_id="00000000000000ab") for _ in range(2)]
    with pytest.raises(DataError, match="stand more than once"):
        rows_of(twice)


def test_rows_do_not_depend_on_how_many_spans_are_joined_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = [TRAIN, TRAIN, TRAIN + timedelta(hours=1), TEST, TEST, TEST + timedelta(hours=1)]
    spans = [Span([Note(), Note()], f"ask {n}", start=time) for n, time in enumerate(moments)]
    whole = rows_of(spans)
    for size in (1, 2, 4, 6):
        monkeypatch.setattr(rows_module, "_SLICE", size)
        assert rows_of(spans).examples == whole.examples
    assert len(whole.examples) == len(spans)


def test_rows_are_made_anew_and_equal_each_time() -> None:
    corrected = Note("rejected", metadata={"corrected_output": {"agent": "refunds"}})
    rows = rows_of([Span([Note()], "one"), Span([corrected], "two"), Span([Note()], "three")])
    for made in (rows.examples, rows.preferences, rows.ratings):
        assert made == list(made) == [made[n] for n in range(len(made))] == made[:]
        assert made[0] is not made[0]
        assert pickle.loads(pickle.dumps(made)) == made
    assert rows.examples != rows.examples[:2]
    assert rows.examples != "one"
    assert rows.examples[-1].prompt[-1].content == "three"


def test_a_funnel_that_does_not_add_up_is_an_error() -> None:
    with pytest.raises(DataError, match="report this"):
        make_funnel(
            read=3,
            drops={"malformed": 1},
            examples=1,
            pairs=PairCounts(candidates=0, duplicate=0, rows=0),
            ratings={},
            by_target_source={"own": 1},
            by_window={"examples": {"train": 1}, "pairs": {}},
        )


NOTES = st.builds(
    Note,
    label=st.sampled_from(["approved", "rejected", "maybe", None, " "]),
    score=st.sampled_from([None, 0.1, 0.9, float("nan")]),
    kind=st.sampled_from(["HUMAN", "HUMAN", "LLM", None]),
    name=st.sampled_from(["human_approval", "human_approval", "note"]),
    explanation=st.sampled_from([None, "ok", '{"agent":"c"}']),
    metadata=st.sampled_from(
        [
            {},
            {"corrected_output": {"agent": "b"}},
            {"corrected_output": "x"},
            {"rejected_output": '{"agent":"d"}'},
            {"rejected_output": "a@b.co"},
        ]
    ),
    minute=st.integers(0, 2),
)
SPANS = st.builds(
    Span,
    notes=st.lists(NOTES, max_size=3),
    prompt=st.sampled_from([None, "one", "two a@b.co", " ", 3]),
    output=st.sampled_from(['{"agent":"a"}', '{"agent": "b", "x": 1}', "no", None, ["l"]]),
    name=st.sampled_from(["routing_agent"] * 4 + ["chat_turn"]),
    session=st.sampled_from([None, "s1", "s2", "a@b.co"]),
    status=st.sampled_from(["OK", "OK", "ERROR", None]),
    start=st.sampled_from([TRAIN, TRAIN + timedelta(hours=1), TEST, ANCHOR]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, max_size=25))
def test_any_telemetry_adds_up_and_is_written_in_order(spans: list[Span]) -> None:
    rows = rows_of(spans)
    funnel: Funnel = rows.funnel
    funnel.check()
    assert funnel.read == len(spans)
    assert funnel.steps[-1].remaining == len(rows.examples) == funnel.examples
    assert funnel.pairs.rows == len(rows.preferences)
    order = [(r.provenance.created_at, r.provenance.ids["span_id"]) for r in rows.examples]
    assert order == sorted(order)
    keys = [(c[0], canonical_json(json.loads(c[1]))) for c in contents(rows)]
    assert len(set(keys)) == len(keys)
    assert "a@b.co" not in "".join(r.model_dump_json() for r in [*rows.examples, *rows.preferences])
    again = rows_of(spans)
    assert again == rows
