"""Records of a corpus: what is taught, which pairs are made, what is only checked."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conversations.builders import (
    CODE,
    DIRECTIVE,
    SAMPLE,
    conversation,
    exchange,
    label,
    surgery,
)
from tracetune.conversations.accept import format_faults
from tracetune.conversations.build import build
from tracetune.conversations.classify import stall_of, topology_of
from tracetune.conversations.dispreferred import (
    confirmation_reflex,
    format_drift,
    omission,
    option_spam,
)
from tracetune.conversations.options import PairOptions, SurgeryOptions
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.read import read_folder
from tracetune.conversations.reading import Place
from tracetune.conversations.survey import survey
from tracetune.errors import DataError
from tracetune.records import ChatRewrite
from tracetune.records.ctv3 import FormatConstraints

STALL = "I can write that. Would you like me to go ahead?"
NUMBERED = "1. Stop the service.\n2. Copy the data.\n3. Start it again.\n4. Check it.\n5. Report."


def reasons(built):
    return sorted(str(pair.tags.dpo_reason) for pair in built.pairs)


def test_a_good_answer_is_taught_and_gets_worse_siblings():
    built, _, _ = surgery(conversation(DIRECTIVE, CODE, system="Be brief."))
    [turn] = built.sft
    assert [message.role for message in turn.input.messages] == ["system", "user"]
    assert turn.target.assistant_content == CODE
    assert (turn.quality.gold, turn.quality.weight, turn.source.origin) == (
        True,
        1.0,
        "human_corpus",
    )
    assert reasons(built) == ["confirmation_reflex", "format_drift", "option_spam"]
    for pair in built.pairs:
        assert pair.candidates.preferred.assistant_content == CODE
        assert pair.input == turn.input
    assert built.evals == []


def test_less_complete_requests_get_fewer_siblings():
    six = "Give a numbered list of five steps to move a database"
    assert reasons(surgery(conversation(six, NUMBERED))[0]) == [
        "confirmation_reflex",
        "format_drift",
    ]
    assert reasons(surgery(conversation("Explain entropy", "It counts states."))[0]) == []
    keep = six + ", include the copy and the check"
    assert "omission" in reasons(surgery(conversation(keep, NUMBERED))[0])


def test_an_unjustified_answer_is_replaced_and_becomes_the_worse_one():
    built, _, _ = surgery(conversation(DIRECTIVE, STALL, "yes", CODE))
    rewritten, yes = built.sft
    assert rewritten.target.assistant_content == yes.target.assistant_content == CODE
    real = next(p for p in built.pairs if p.tags.dpo_reason == "confirmation_reflex")
    assert real.candidates.dispreferred.assistant_content == STALL
    assert real.quality.failure_modes == ["asked_permission", "ended_with_question"]
    extras = {extra.record_id: extra for extra in built.extras}
    assert extras[real.record_id].rule == "confirmation_reflex:observed"
    assert STALL not in {turn.target.assistant_content for turn in built.sft}


def test_friction_is_quarantined():
    built, _, _ = surgery(conversation(DIRECTIVE, STALL, "STOP asking, just do it!", CODE))
    assert [turn.input.messages[-1].content for turn in built.sft] == ["STOP asking, just do it!"]
    repair = next(p for p in built.pairs if p.tags.dpo_reason == "friction_repair")
    assert repair.quality.weight == 1.2
    assert repair.candidates.dispreferred.assistant_content == STALL
    [case] = built.evals
    assert (case.quality.weight, case.reference.answer) == (0.0, CODE)
    assert case.checks.disallowed_phrases == ["would you like me to"]
    assert case.checks.must_follow_format == "code"
    extra = next(e for e in built.extras if e.record_id == case.record_id)
    assert extra.observed == STALL
    assert extra.confidence == pytest.approx(0.2 + 0.05 + 0.1 + 0.1)


def test_work_that_asks_at_the_end_is_kept_but_not_gold():
    user = "fix it"
    built, _, _ = surgery(conversation(user, CODE + "\n\nShall I add a test?"))
    [turn] = built.sft
    assert not turn.quality.gold
    assert turn.quality.failure_modes == ["asked_permission", "ended_with_question"]
    assert built.pairs == []


def test_a_question_that_was_right_is_gold_and_gets_no_siblings():
    built, _, _ = surgery(conversation("Translate the paragraph.", "Could you provide it?"))
    [turn] = built.sft
    assert turn.quality.gold
    assert turn.tags.prompt_class == "blocked"
    assert built.pairs == []


def test_pretended_code_and_refusals_are_never_gold():
    mock = "```python\ndef count(text):\n    # TODO\n```"
    assert not surgery(conversation(DIRECTIVE, mock))[0].sft[0].quality.gold
    refusal = "I can't help with that."
    assert not surgery(conversation("Explain entropy", refusal))[0].sft[0].quality.gold


def test_a_stalling_answer_on_another_branch_is_a_real_worse_one():
    value = {
        "id": "b",
        "messages": [
            {"id": "1", "role": "user", "content": DIRECTIVE},
            {"id": "2", "role": "assistant", "content": STALL},
            {"id": "3", "parent": "1", "role": "assistant", "content": CODE},
        ],
    }
    found = plain_conversation(value, Place("x"))
    assert found is not None
    built, _, _ = surgery(found)
    real = next(p for p in built.pairs if p.tags.branch_type == "regenerated")
    assert real.candidates.dispreferred.assistant_content == STALL
    assert reasons(built).count("confirmation_reflex") == 1
    [turn] = built.sft
    assert turn.context.topology.sibling_order == 1.0


def test_tools_and_attachments_stay_with_their_request():
    value = {
        "id": "t",
        "messages": [
            {"role": "user", "content": "How many rows has a.csv?"},
            {"role": "assistant", "name": "python", "content": "len(rows)"},
            {"role": "tool", "name": "python", "content": "12"},
            {"role": "assistant", "content": "It has twelve rows."},
        ],
    }
    found = plain_conversation(value, Place("x"))
    assert found is not None
    [turn] = surgery(found)[0].sft
    assert [m.role for m in turn.input.messages] == ["user", "assistant", "tool"]
    assert turn.target.assistant_content == "It has twelve rows."


def test_records_keep_the_latest_turns_of_a_long_conversation():
    said = [text for n in range(40) for text in (f"question {n} " + "x" * 400, f"answer {n}")]
    options = SurgeryOptions(history_chars=2_000)
    long = conversation(*said, DIRECTIVE, CODE, system="Be brief.")
    turn = surgery(long, options=options)[0].sft[-1]
    messages = turn.input.messages
    assert [m.role for m in messages] == ["system", *["user", "assistant"] * 4, "user"]
    assert messages[1].content.startswith("question 36")
    assert messages[-1].content == DIRECTIVE
    none = surgery(long, options=SurgeryOptions(history_chars=0))[0].sft[-1]
    assert [m.role for m in none.input.messages] == ["system", "user"]


def test_structured_parts():
    answer = "```diff\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n```"
    [turn] = surgery(conversation("Give me the unified diff", answer))[0].sft
    assert turn.target.structured.diff_unified == "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b"
    [turn] = surgery(conversation("As JSON please", '{"a": [1]}'))[0].sft
    assert turn.target.structured.json_value == {"a": [1]}
    [turn] = surgery(conversation("Give me a numbered list", NUMBERED))[0].sft
    assert turn.target.structured.plan_steps is not None
    assert turn.target.structured.plan_steps[0] == "Stop the service."


@pytest.mark.parametrize("request_text", ["Please write a short test for it", "Budget, all of it"])
def test_worse_answers_stall(request_text):
    reflex, spam = confirmation_reflex(request_text), option_spam(request_text)
    assert stall_of(reflex).permission
    assert stall_of(reflex).question or "confirm" in reflex
    assert stall_of(spam).options
    assert stall_of(spam).question
    assert "Budget, all of it" in reflex or "write a short test" in reflex


def test_wordings_vary():
    requests = [f"Write test number {n} for the parser" for n in range(60)]
    openings = {confirmation_reflex(text).split()[0] for text in requests}
    assert len(openings) >= 5
    assert len({option_spam(text) for text in requests}) >= 12


@pytest.mark.parametrize(
    ("answer", "asked", "broken"),
    [
        (NUMBERED, {"require_numbered": True}, True),
        ('{"a": 1}', {"must_return_json": True}, True),
        ('```json\n{"a": 1}\n```', {"must_return_json": True}, True),
        (CODE, {"must_return_code": True}, True),
        ("```diff\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n```", {"must_return_diff": True}, True),
        ("One thing is this. Another is that.", {"forbid_bullets": True}, True),
        ("One thing.", {"forbid_bullets": True}, False),
        ("Text.", {}, False),
    ],
)
def test_format_drift_breaks_what_was_asked_for(answer, asked, broken):
    constraints = FormatConstraints(**asked)
    assert format_faults(answer, constraints) == []
    drifted = format_drift(answer, constraints)
    assert (drifted is not None) == broken
    if drifted is not None:
        assert format_faults(drifted, constraints)


def test_omission_keeps_the_beginning():
    lines = "\n".join(f"line {n}" for n in range(40))
    short = omission(lines, PairOptions())
    assert short is not None
    assert "line 7" in short
    assert "line 8" not in short
    assert omission("a\nb\nc", PairOptions()) is None
    fenced = omission("```\n" + lines + "\n```", PairOptions())
    assert fenced is not None
    assert fenced.count("```") == 2


def test_the_place_in_the_conversation():
    part = exchange("And the second one?", CODE, "First question here", "First answer.")
    found = topology_of(part, label("x", "y").phase)
    assert found.depth_norm == 1.0
    assert found.coords_5d == [
        found.depth_norm,
        found.sibling_order,
        found.homogeneity,
        found.temporal_norm,
        found.complexity,
    ]
    assert 0 < found.complexity < 1


def test_rewrites_of_another_corpus_are_refused():
    strange = ChatRewrite(
        conversation="internal:zz",
        turn="1",
        purpose="friction",
        answer="x",
        source="written",
        outcome="answered",
    )
    surveyed = survey([conversation(DIRECTIVE, CODE)], SurgeryOptions())
    with pytest.raises(DataError, match="belong to no answer"):
        build(surveyed, [strange], SurgeryOptions())


def test_an_empty_corpus():
    built, rewrites, _ = surgery()
    assert (built.sft, built.pairs, built.evals, rewrites) == ([], [], [], [])
    assert built.report.turns == 0


def test_the_sample_gives_records_of_every_kind_and_a_full_report():
    corpus = read_folder(SAMPLE)
    built, rewrites, _ = surgery(*corpus)
    report = built.report
    assert report.conversations == len(corpus)
    counts = Counter(p.tags.dpo_reason for p in built.pairs)
    assert {"confirmation_reflex", "option_spam", "omission", "format_drift"} < set(counts)
    assert counts["friction_repair"] >= 10
    assert report.eval_cases == report.rules["quarantined"].turns >= 12
    assert sum(entry.answer is not None for entry in rewrites) >= 15
    assert report.left_out >= 1
    assert set(report.verdicts) == {"1", "3"}
    assert all(sum(found.values()) == report.turns for found in report.verdicts.values())
    assert report.verdicts["1"]["unjustified"] >= report.verdicts["3"]["unjustified"]
    for rule in ("permission", "options", "preamble", "refusal", "ends_with_question", "exec"):
        touched = report.rules[rule]
        assert 0 < len(touched.examples) <= min(3, touched.turns)
    ids = [record.record_id for record in (*built.sft, *built.pairs, *built.evals)]
    assert len(set(ids)) == len(ids) == len(built.extras)
    assert [extra.record_id for extra in built.extras].sort() == ids.sort()
    for turn in built.sft:
        if turn.quality.gold and turn.source.origin == "corpus_surgery":
            assert stall_of(turn.target.assistant_content).score == 0
    again, _, _ = surgery(*corpus)
    assert again == built
