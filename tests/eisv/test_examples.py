"""Trajectories as training rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tracetune.eisv.answer import consistency, parse_answer
from tracetune.eisv.examples import examples_of, label_of, spread_groups, text_row
from tracetune.eisv.prompt import VARIANTS
from tracetune.eisv.synthetic import generate, seed_of
from tracetune.eisv.vocabulary import SHAPES
from tracetune.eisv.windows import state_rows
from tracetune.errors import DataError
from tracetune.records import EisvExpression, Example, make_eisv_trajectory, window_ids


def trajectory(shape, index, **changed):
    given = {
        "states": state_rows(generate(shape, seed=seed_of(1, shape, index))),
        "shape": shape,
        "origin": "synthetic",
        "source": "eisv",
        "tenant": "demo",
        "ids": {"shape": shape, "index": str(index)},
        "group": f"synthetic:{shape}:{index}",
        "created_at": None,
    }
    return make_eisv_trajectory(**{**given, **changed})


def measured(start, *said, end=None, series="anima"):
    states = state_rows(generate("convergence", seed=4))
    states = [state.model_copy(update={"t": state.t + start}) for state in states]
    stop = states[-1].t
    return trajectory(
        "convergence",
        0,
        states=states,
        origin="lumen_real",
        expressions=list(said),
        ids=window_ids(series, float(start), end or stop),
        group=f"{series}:{start}",
        created_at=datetime.fromtimestamp(stop, UTC),
    )


def said(tokens, pattern="SINGLE", lumen=(), time=None):
    return EisvExpression(
        tokens=tokens, pattern=pattern, pattern_source="inferred", lumen=list(lumen), time=time
    )


ROWS = [trajectory(shape, i) for shape in SHAPES for i in range(4)]


def test_an_example_keeps_where_it_is_from_and_says_what_it_is():
    examples, report = examples_of(ROWS, variant="no_shape", seed=1)
    assert report == {
        "variant": "no_shape",
        "examples": 36,
        "labels": {"drawn": 36},
        "not_used": 0,
    }
    for row, example in zip(ROWS, examples, strict=True):
        assert Example.model_validate_json(example.model_dump_json()) == example
        assert example.provenance.group == row.provenance.group
        assert example.provenance.ids == {**row.provenance.ids, "trajectory": row.id}
        answer = parse_answer(example.completion[0].content)
        assert consistency(answer).agrees
        assert example.tags == {
            "shape": row.shape,
            "origin": "synthetic",
            "pattern": answer.pattern,
            "pattern_source": "drawn",
            "variant": "no_shape",
        }
    assert len({example.id for example in examples}) == 36


def test_all_variants_teach_the_same_answers():
    by_variant = [examples_of(ROWS, variant=variant, seed=1)[0] for variant in VARIANTS]
    for rows in zip(*by_variant, strict=True):
        assert len({row.completion[0].content for row in rows}) == 1
        assert len({row.id for row in rows}) == len(VARIANTS)


def test_a_label_hangs_on_the_seed_and_its_trajectory_only():
    wanted = {row.id: label_of(row, 1) for row in ROWS}
    assert all(label_of(row, 1) == wanted[row.id] for row in reversed(ROWS))
    assert any(label_of(row, 2) != wanted[row.id] for row in ROWS)


def test_what_was_expressed_is_used_only_where_asked_for_and_where_it_has_tokens():
    rows = [
        measured(0, said(["~ripple~"]), said(["~return~", "~holding~"], "PAIR")),
        measured(100, said([], lumen=["warm"])),
        measured(200, said(["~glee~"])),
        measured(300),
    ]
    drawn, report = examples_of(rows, variant="full", seed=1)
    assert report["labels"] == {"drawn": 4}
    assert {row.tags["pattern_source"] for row in drawn} == {"drawn"}
    found, report = examples_of(rows, variant="full", seed=1, measured_expressions=True)
    assert report["labels"] == {"drawn": 3, "measured": 1}
    assert report["not_used"] == 2
    assert found[0].tags["pattern_source"] == "inferred"
    assert found[0].completion[0].content == (
        "EISV_TOKENS: ~return~ ~holding~\nLUMEN_TOKENS: here with\nPATTERN: PAIR"
    )
    assert found[1:] == drawn[1:]


def test_recorded_primitives_stay_as_they_were_recorded():
    (row,), _ = examples_of(
        [measured(0, said(["~ripple~"], lumen=["sense"]))],
        variant="full",
        seed=1,
        measured_expressions=True,
    )
    assert "LUMEN_TOKENS: sense\n" in row.completion[0].content


def test_the_text_format_has_the_keys_of_the_document():
    (row,), _ = examples_of(ROWS[:1], variant="full", seed=1)
    found = text_row(row)
    assert list(found) == ["text", "shape", "pattern", "messages"]
    assert [message["role"] for message in found["messages"]] == ["system", "user", "assistant"]
    assert found["text"].endswith("<|end|>")
    assert f"shape: {found['shape']}" in found["text"]


def test_neighbours_that_share_states_are_drawn_in_pairs():
    rows = [measured(start) for start in (0, 10, 20, 30, 40)]  # 19 s long each
    far = measured(10, series="other")
    groups = spread_groups([rows[3], *rows[:3], far, rows[4], ROWS[0], ROWS[1]])
    by_row = dict(zip([3, 0, 1, 2, "far", 4, "a", "b"], groups, strict=True))
    assert by_row[0] == by_row[1] != by_row[2] == by_row[3] != by_row[4]
    assert len(set(groups)) == 6
    examples, _ = examples_of(rows, variant="full", seed=1)
    assert spread_groups(examples) == spread_groups(rows)


def test_an_unknown_variant_is_no_silent_full_prompt():
    with pytest.raises(DataError, match="there is no variant 'no_duration'"):
        examples_of(ROWS[:1], variant="no_duration", seed=1)
