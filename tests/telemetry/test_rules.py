"""What one annotated span teaches: the table of section 5, row by row."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.rules import (
    AnnotatedSpan,
    Annotation,
    Decision,
    Output,
    decide,
    parse_json,
    parse_output,
    present,
    recency,
)

OPTIONS = TelemetryOptions()
T0 = datetime(2026, 2, 1, tzinfo=UTC)
OWN = '{"agent": "billing", "confidence": 0.9}'
FIXED = '{"agent":"refunds"}'


def note(verdict: str | None = "approved", number: int = 1, minute: int = 0, **more: Any):
    return Annotation(
        annotation_id=f"SpanAnnotation:{number:012d}",
        human=more.pop("human", True),
        verdict=verdict,
        updated_at=T0 + timedelta(minutes=minute),
        explanation=more.pop("explanation", None),
        metadata=more,
    )


def ask(*notes: Annotation, prompt: Any = "Where is my invoice?", output: Any = OWN, **more: Any):
    options = more.pop("options", OPTIONS)
    return decide(AnnotatedSpan(more.pop("status", "OK"), prompt, output, notes), options)


def targets(decision: Decision) -> tuple[str | None, str, list[str]]:
    """Answer, where it comes from, and the rejected sides."""
    rejected = [
        pair.rejected.target.label if isinstance(pair.rejected, Output) else pair.rejected
        for pair in decision.pairs
    ]
    answer = decision.answer.target.label if decision.answer else None
    return answer, decision.answer_source, rejected


MALFORMED = [
    {"status": "ERROR"},
    {"status": " error "},
    {"prompt": None},
    {"prompt": "   "},
    {"prompt": 42},
    {"prompt": ["hi"]},
    {"prompt": math.nan},
    {"prompt": {"query": "hi"}},
    {"output": None},
    {"output": ""},
    {"output": {"agent": "billing"}},
    {"output": ["billing"]},
    {"output": 7},
    {"output": "billing"},
    {"output": '"billing"'},
    {"output": '["agent"]'},
    {"output": '{"agent": null}'},
    {"output": '{"agent": 3}'},
    {"output": '{"agent": "  "}'},
    {"output": '{"agent": ["billing"]}'},
    {"output": '{"route": "billing"}'},
    {"output": '{"agent": "billing"'},
    {"output": '{"agent": "billing", "confidence": NaN}'},
    {"output": '{"agent": "billing", "confidence": 1e999}'},
    {"output": '{"agent": "billing", "x": ' + "[" * 5000 + "]" * 5000 + "}"},
    {"output": "[" * 100_000},
    {"output": "x" * 200_000},
]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: str(case)[:40])
def test_malformed(case: dict[str, Any]) -> None:
    assert ask(note(), **case).drop == "malformed"


def test_the_second_field_is_the_target_where_the_first_holds_no_string() -> None:
    for text in (
        '{"recommended_agent": "billing"}',
        '{"agent": 1, "recommended_agent": "billing"}',
    ):
        assert targets(ask(note(), output=text)) == ("billing", "own", [])
    both = ask(note(), output='{"recommended_agent": "x", "agent": "billing"}')
    assert targets(both)[0] == "billing"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [("x" * 20_000, None), ("x" * 20_001, "too_long"), ("x" * 200_000, "too_long")],
)
def test_too_long(prompt: str, reason: str | None) -> None:
    assert ask(note(), prompt=prompt).drop == reason


def test_a_long_output_is_too_long_only_if_it_is_an_output() -> None:
    assert ask(note(), output=json.dumps({"agent": "a", "why": "x" * 200_000})).drop == "too_long"


def test_drops_come_in_order() -> None:
    machine = note("approved", human=False)
    unsure = note(None)
    assert ask(machine, prompt="x" * 20_001, output="no").drop == "malformed"
    assert ask(machine, prompt="x" * 20_001).drop == "too_long"
    assert ask(machine).drop == "not_human"
    assert ask(machine, unsure).drop == "no_verdict"
    assert ask(unsure).drop == "no_verdict"


DECISIONS = [
    # approved only, rejected only
    ([note()], ("billing", "own", [])),
    ([note("rejected")], "rejected_only"),
    ([note("rejected", rejected_output='{"agent":"x"}')], "rejected_only"),
    # a model's verdict counts on neither side
    ([note(), note("rejected", human=False)], ("billing", "own", [])),
    ([note("rejected"), note("approved", human=False)], "rejected_only"),
    ([note(None, corrected_output=FIXED), note()], ("billing", "own", [])),
    ([note("approved", human=False, corrected_output=FIXED), note()], ("billing", "own", [])),
    # corrections
    ([note("approved", corrected_output=FIXED)], ("refunds", "corrected", [])),
    ([note("rejected", corrected_output=FIXED)], ("refunds", "corrected", ["billing"])),
    (
        [note("rejected", corrected_output={"agent": "refunds"})],
        ("refunds", "corrected", ["billing"]),
    ),
    (
        [note("rejected"), note("approved", corrected_output=FIXED)],
        ("refunds", "corrected", ["billing"]),
    ),
    ([note("rejected", explanation=FIXED)], ("refunds", "corrected", ["billing"])),
    ([note("rejected", explanation="it should be refunds")], "rejected_only"),
    ([note("approved", explanation="fine")], ("billing", "own", [])),
    (
        [note("rejected", corrected_output=" ", explanation=FIXED)],
        ("refunds", "corrected", ["billing"]),
    ),
    ([note("rejected", corrected_output=math.nan)], "rejected_only"),
    # the same as the output, whatever the white space and the order of keys
    ([note("rejected", corrected_output='{"confidence":0.9,"agent":"billing"}')], "identical_pair"),
    ([note("approved", explanation=OWN)], "identical_pair"),
    # a correction that cannot be read: the own output is known to be wrong
    ([note("approved", corrected_output="refunds")], "invalid_correction"),
    ([note("rejected", corrected_output="refunds")], "invalid_correction"),
    ([note("rejected", corrected_output="{" + "x" * 200_000)], "invalid_correction"),
    ([note("rejected", corrected_output=17)], "invalid_correction"),
    # rejected answers of other models
    (
        [note(), note("rejected", rejected_output='{"agent":"sales"}')],
        ("billing", "own", ["sales"]),
    ),
    (
        [note(), note("rejected", rejected_output={"agent": "sales"})],
        ("billing", "own", ["sales"]),
    ),
    ([note(), note("rejected", rejected_output=" no idea ")], ("billing", "own", ["no idea"])),
    ([note(), note("rejected", rejected_output={"x": 1})], ("billing", "own", ['{"x":1}'])),
    ([note(), note("rejected", rejected_output=OWN)], "identical_pair"),
    ([note(rejected_output='{"agent":"sales"}')], ("billing", "own", [])),
    # one pair per rejected text, the most recent first
    (
        [
            note(),
            note("rejected", 2, 1, rejected_output='{"agent":"sales"}'),
            note("rejected", 3, 2, rejected_output='{"agent": "sales"}'),
            note("rejected", 4, 3, rejected_output="nonsense"),
        ],
        ("billing", "own", ["nonsense", "sales"]),
    ),
    # people who disagree
    ([note(), note("rejected")], "identical_pair"),
    # with a correction the rejected texts of others are not used
    (
        [note("rejected", rejected_output='{"agent":"sales"}', corrected_output=FIXED)],
        ("refunds", "corrected", ["billing"]),
    ),
]


@pytest.mark.parametrize(("notes", "expected"), DECISIONS)
def test_decisions(notes: list[Annotation], expected: str | tuple[str, str, list[str]]) -> None:
    for order in (notes, notes[::-1]):
        decision = ask(*order)
        if isinstance(expected, str):
            assert decision.drop == expected
            assert decision.answer is None
            assert not decision.pairs
        else:
            assert decision.drop is None
            assert targets(decision) == expected


def test_the_most_recent_correction_counts() -> None:
    def corrected(agent: str, number: int, minute: int) -> Annotation:
        return note("rejected", number, minute, corrected_output={"agent": agent})

    assert targets(ask(corrected("a", 1, 5), corrected("b", 2, 3)))[0] == "a"
    # The server stamps whole seconds, so its running number decides; 10 is later than 9.
    assert targets(ask(corrected("a", 10, 5), corrected("b", 9, 5)))[0] == "a"
    # An unreadable later correction does not hide the readable one before it.
    broken = note("rejected", 3, 9, corrected_output="??")
    assert targets(ask(corrected("a", 1, 5), broken))[0] == "a"


def test_recency_takes_any_id() -> None:
    strange = [note() for _ in range(1)] + [
        Annotation(text, True, "approved", moment)
        for text, moment in [("", None), ("abc", T0), ("ü", T0), ("42", T0)]
    ]
    assert len(sorted(strange, key=recency)) == 5


def test_agents_that_do_not_exist_are_not_taught() -> None:
    options = TelemetryOptions.model_validate({"output": {"known": ["billing", "refunds"]}})
    ghost = '{"agent":"ghost"}'
    assert ask(note(), output=ghost, options=options).drop == "unknown_target"
    fixed = ask(note("rejected", corrected_output=FIXED), output=ghost, options=options)
    assert targets(fixed) == ("refunds", "corrected", ["ghost"])
    worse = ask(note("rejected", corrected_output=ghost), options=options)
    assert worse.drop == "invalid_correction"
    other = ask(note(), note("rejected", rejected_output=ghost), options=options)
    assert targets(other) == ("billing", "own", ["ghost"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " \n\u00a0",
        math.nan,
        np.nan,
        np.float32("nan"),
        pd.NA,
        pd.NaT,
        np.datetime64("NaT"),
    ],
)
def test_missing_values_become_none(value: Any) -> None:
    assert present(value) is None
    assert parse_output(value, OPTIONS) is None


@pytest.mark.parametrize("value", ["nan", "None", 0, 0.0, False, [], {}, "🙂", 10**30])
def test_other_values_stay(value: Any) -> None:
    assert present(value) == value


def test_lone_surrogates_in_escapes_are_repaired() -> None:
    assert parse_json('{"a\\ud800": ["x\\udfff", "\\ud83d\\ude42"]}') == {
        "a\ufffd": ["x\ufffd", "🙂"]
    }


@given(st.text())
def test_any_text_as_output_gives_a_decision(text: str) -> None:
    decision = ask(note(), output=text)
    assert (decision.drop is None) == (decision.answer is not None)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_any_value_as_correction_gives_a_decision(value: Any) -> None:
    assert ask(note("rejected", corrected_output=value)).drop in {
        "rejected_only",
        "invalid_correction",
    }
