"""Records become training rows; one division holds for all of them."""

from __future__ import annotations

import pytest

from tests.conversations.builders import CODE, DIRECTIVE, SAMPLE, conversation, surgery
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.read import read_folder
from tracetune.conversations.reading import Place
from tracetune.conversations.rows import cases_of, examples_of, preferences_of, ratings_of
from tracetune.conversations.sides import SideOptions, divide
from tracetune.errors import DataError
from tracetune.records import ChatAttachment
from tracetune.splits import verify

FRICTION = (DIRECTIVE, "Shall I do that?", "STOP asking, just do it!", CODE)


def rows_of(built):
    return (
        examples_of(built.sft, built.extras, tenant="demo"),
        preferences_of(built.pairs, built.extras, tenant="demo"),
        ratings_of(built.evals, built.extras, tenant="demo"),
    )


def test_rows_keep_text_weight_and_origin():
    built, _, _ = surgery(conversation(*FRICTION, name="k", system="Be brief."))
    examples, preferences, [rating] = rows_of(built)
    [example] = examples
    assert [message.role for message in example.prompt] == ["system", "user", "assistant", "user"]
    assert example.completion[0].content == CODE
    assert example.provenance.source == "conversations"
    assert example.provenance.group == "internal:k"
    repair = next(row for row in preferences if row.tags["dpo_reason"] == "friction_repair")
    assert repair.provenance.weight == 1.2
    assert repair.rejected[0].content == "Shall I do that?"
    assert rating.completion[0].content == "Shall I do that?"
    assert not rating.good
    assert cases_of(built.evals, [rating]) == built.evals
    groups = {row.provenance.group for row in (*examples, *preferences, rating)}
    assert groups == {"internal:k"}


def changed(record, **quality):
    return record.model_copy(update={"quality": record.quality.model_copy(update=quality)})


def test_gold_weight_and_review_are_honoured():
    built, _, _ = surgery(conversation(DIRECTIVE, CODE))
    [turn] = built.sft
    for quality in ({"gold": False}, {"weight": 0.0}, {"review_status": "rejected"}):
        assert examples_of([changed(turn, **quality)], built.extras, tenant="t") == []
    [row] = examples_of([changed(turn, weight=0.5)], built.extras, tenant="t")
    assert row.provenance.weight == 0.5
    pair = built.pairs[0]
    assert len(preferences_of([changed(pair, gold=False)], built.extras, tenant="t")) == 1
    assert preferences_of([changed(pair, weight=0.0)], built.extras, tenant="t") == []


def test_tools_and_attachments_in_rows():
    value = {
        "id": "t",
        "messages": [
            {"role": "user", "content": "How many rows?"},
            {"role": "tool", "name": "files", "content": "a.csv"},
            {"role": "assistant", "name": "python", "content": "len(rows)"},
            {"role": "tool", "name": "python", "content": "12"},
            {"role": "assistant", "content": "Twelve."},
        ],
    }
    found = plain_conversation(value, Place("x"))
    assert found is not None
    files = [ChatAttachment(name="a.csv", content="x,y"), ChatAttachment(name="b.png")]
    first = found.turns[0].model_copy(update={"attachments": files})
    with_files = found.model_copy(update={"turns": [first, *found.turns[1:]]})
    built, _, _ = surgery(with_files)
    assert [a.path for a in built.sft[0].input.attachments] == ["a.csv", "b.png"]
    [row] = rows_of(built)[0]
    assert [(m.role, m.content) for m in row.prompt] == [
        ("tool", "a.csv"),
        ("user", "How many rows?\n\n[a.csv]\nx,y\n\n[b.png]"),
    ]
    assert [(m.role, m.content) for m in row.completion] == [
        ("assistant", "len(rows)"),
        ("tool", "12"),
        ("assistant", "Twelve."),
    ]


def test_records_without_their_extras_are_refused():
    built, _, _ = surgery(conversation(DIRECTIVE, CODE))
    with pytest.raises(DataError, match="no extra for the record"):
        examples_of(built.sft, [], tenant="t")
    with pytest.raises(DataError, match="two extras"):
        examples_of(built.sft, [*built.extras, *built.extras], tenant="t")


def test_conversations_are_never_divided():
    built, _, _ = surgery(*read_folder(SAMPLE))
    rows = [row for kind in rows_of(built) for row in kind]
    assert len({row.id for row in rows}) == len(rows)
    manifest = divide(rows, options=SideOptions(), seed=7)
    side_of: dict[str, set[str]] = {}
    for row in rows:
        side_of.setdefault(row.provenance.group, set()).add(manifest.place(row.id).split)
    assert all(len(sides) == 1 for sides in side_of.values())
    shares = {
        side: sum(counts[side] for counts in manifest.counts.values()) / len(rows)
        for side in ("train", "validation", "test")
    }
    assert shares["test"] == pytest.approx(0.1, abs=0.02)
    assert shares["validation"] == pytest.approx(0.1, abs=0.02)
    assert shares["train"] == pytest.approx(0.8, abs=0.04)
    verify(manifest, rows)
    assert divide(rows[::-1], options=SideOptions(), seed=7).rows == manifest.rows
    assert divide(rows, options=SideOptions(), seed=8).rows != manifest.rows


def test_one_row_is_trained_on_and_none_is_an_error():
    built, _, _ = surgery(conversation("Explain entropy", "It counts states."))
    [row] = rows_of(built)[0]
    manifest = divide([row], options=SideOptions(), seed=0)
    assert manifest.count("sft", "train") == 1
    with pytest.raises(DataError, match="nothing to train on"):
        divide([], options=SideOptions(), seed=0)
    with pytest.raises(ValueError, match="leave nothing"):
        SideOptions(test_share=0.6, validation_share=0.5)
