"""Near misses and preference pairs."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli_schema.builders import sample, schema_and_answer
from tests.cli_schema.test_generate import generated
from tracetune.cli_schema.corrupt import KINDS, corrupt, corruptions
from tracetune.cli_schema.objects import answer_text, problems, same
from tracetune.cli_schema.options import CliPairOptions
from tracetune.cli_schema.pairs import make_pairs, wrong_answer
from tracetune.cli_schema.rows import make_rows, object_of
from tracetune.errors import DataError


@settings(max_examples=150)
@given(schema_and_answer(), st.integers(0, 1000))
def test_a_near_miss_never_means_the_same(pair, seed):
    schema, value = pair
    found = corruptions(schema, value, random.Random(seed))
    for corruption in found:
        assert corruption.kind in KINDS
        assert not same(schema, corruption.value, value)
        assert wrong_answer(schema, value, answer_text(corruption.value)) in (
            "invalid",
            "different",
        )
    assert problems(schema, value) == []
    again = corruptions(schema, value, random.Random(seed))
    assert found == again


def test_each_kind_does_what_it_says():
    gh = sample("gh")
    value = {
        "type": "command",
        "command": "pr",
        "subcommand": "list",
        "args": {"state": "open", "limit": 3},
        "flags": ["web"],
    }
    kinds: dict[str, set[str]] = {}
    for seed in range(200):
        found = corrupt(gh, value, random.Random(seed))
        reasons = {problem.reason for problem in problems(gh, found.value)}
        kinds.setdefault(found.kind, set()).update(reasons)
    assert set(kinds) == {
        "wrong_subcommand",
        "dropped_argument",
        "wrong_type",
        "unknown_flag",
        "wrong_enum",
        "wrong_value",
    }
    assert kinds["wrong_type"] == {"argument_type"}
    assert kinds["unknown_flag"] == {"unknown_flag"}
    assert kinds["wrong_enum"] == {"enum_value"}
    assert kinds["wrong_value"] == kinds["dropped_argument"] == set()
    needed = {**value, "subcommand": "checkout", "args": {"number": 4}, "flags": []}
    dropped = next(
        c for c in corruptions(gh, needed, random.Random(1)) if c.kind == "dropped_argument"
    )
    assert [p.reason for p in problems(gh, dropped.value)] == ["missing_argument"]


def rows_of(name="gh", count=300):
    return make_rows(sample(name), generated(name).examples[:count], name=name, tenant="t")


def test_pairs_come_from_what_the_model_got_wrong():
    gh, rows = sample("gh"), rows_of()
    answers = []
    for i, row in enumerate(rows):
        right = {**object_of(row), "confidence": 0.5}
        answers.append(
            [answer_text(right), "no idea", '{"type":"command"}', answer_text(object_of(rows[0]))][
                i % 4
            ]
        )
    options = CliPairOptions(num_pairs=1000, corruption_share=0.2)
    pairs, report = make_pairs(gh, rows, answers, options=options, seed=1)
    by_row = {row.id: (row, answer) for row, answer in zip(rows, answers, strict=True)}
    for pair in pairs:
        row, answer = by_row[pair.provenance.ids["row"]]
        assert pair.chosen == row.completion
        assert pair.prompt == row.prompt
        assert pair.provenance.group == row.provenance.group
        assert wrong_answer(gh, object_of(row), pair.rejected[0].content) is not None
        if pair.tags["rejected"] in ("not_json", "invalid", "different"):
            assert pair.rejected[0].content == answer
    assert len({pair.id for pair in pairs}) == len(pairs) == report.pairs
    assert report.by_reason["not_json"] == report.by_reason["invalid"] == 75
    near = sum(n for reason, n in report.by_reason.items() if reason in KINDS)
    assert near == pytest.approx(0.2 * report.pairs, abs=1)
    assert report.asked == 300
    assert (pairs, report) == make_pairs(gh, rows, answers, options=options, seed=1)


def test_a_perfect_model_gives_pairs_only_if_near_misses_may_be_all():
    gh, rows = sample("gh"), rows_of(count=40)
    answers = [answer_text(object_of(row)) for row in rows]
    none, report = make_pairs(gh, rows, answers, options=CliPairOptions(), seed=1)
    assert none == []
    assert (report.right, report.left_out) == (40, 40)
    every, _ = make_pairs(gh, rows, answers, options=CliPairOptions(corruption_share=1), seed=1)
    assert len(every) == 40
    assert len(Counter(pair.tags["rejected"] for pair in every)) > 3


def test_a_blank_answer_is_never_a_side_of_a_pair():
    gh, rows = sample("gh"), rows_of(count=10)
    options = CliPairOptions(corruption_share=1)
    pairs, report = make_pairs(gh, rows, ["  "] * 10, options=options, seed=1)
    assert all(pair.tags["rejected"] in KINDS for pair in pairs)
    assert report.right == 0


def test_pairs_refuse_what_does_not_belong_together():
    gh, rows = sample("gh"), rows_of(count=3)
    with pytest.raises(DataError, match="2 answers to 3 rows"):
        make_pairs(gh, rows, ["", ""], options=CliPairOptions(), seed=1)
    with pytest.raises(DataError, match="is not valid"):
        make_pairs(sample("zorp"), rows, [""] * 3, options=CliPairOptions(), seed=1)
