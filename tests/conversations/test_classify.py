"""Stall, exec, completeness, blocked, policy and verdicts (domain reference, E3 and E7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conversations.builders import CODE, DIRECTIVE, label
from tracetune.conversations.classify import exec_of, phase_of, stall_of
from tracetune.conversations.options import ClassifierOptions
from tracetune.conversations.phrases import (
    OPTIONS,
    PERMISSION,
    PREAMBLES,
    REFUSALS,
    ends_with_question,
    normalise,
)
from tracetune.conversations.request import read_request
from tracetune.records.ctv3 import FormatConstraints

OPTIONS_DEFAULT = ClassifierOptions()


def read(text, *earlier, **more):
    return read_request(text, OPTIONS_DEFAULT, earlier=earlier, **more)


def test_the_lists_have_the_published_lengths():
    assert (len(PERMISSION), len(OPTIONS), len(PREAMBLES)) == (15, 10, 10)
    phrases = [*PERMISSION, *OPTIONS, *PREAMBLES, *REFUSALS]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize(
    ("answer", "score", "question"),
    [
        ("Done.", 0, False),
        ("Would you like me to go on?", 3 + 1, True),
        ("Would you like me to go on? Would you like me to stop?", 3 + 1, True),
        ("Would  you\nlike me to go on. Should I?", 3 + 3 + 1, True),
        ("Let me know if you want tests.", 3, False),
        ("Here are a few options. Which approach do you want?", 2 + 2 + 1, True),
        ("To help you better, could you provide the file", 2 + 0, False),
        ("I can't help with that.", 4, False),
        ("I can’t help with that.", 4, False),
        ("You should index it, and the mean should increase.", 0, False),
        ("> would you like me to go on?\nDone.", 0, False),
        ("```\nshould i\n```\nDone.", 0, False),
        ("~~~\nshould i\n", 0, False),
        (
            'The page says "would you like me to subscribe you to everything we publish?" on top.',
            0,
            False,
        ),
        ('The page says "should I stay" on top.', 3, False),
        ("Which one do you want", 1, True),
        ("Which one do you want.", 1, True),
        ("Do you want it in red.", 1, True),
        ("What matters is the index.", 0, False),
        ("When the job ends, the file is removed.", 0, False),
        ("Is it done? It is done.", 0, False),
        ("**Is that fine?**", 1, True),
        ("Is it this?\n```\nx\n```", 0, False),
    ],
)
def test_stall(answer, score, question):
    found = stall_of(answer)
    assert (found.score, found.question) == (score, question)


@given(st.sampled_from([*PERMISSION, *OPTIONS, *PREAMBLES]), st.sampled_from("xyz"))
def test_phrases_match_whole_words_in_any_case(phrase, letter):
    assert phrase in stall_of(f"Well, {phrase.upper()} it.").phrases
    assert phrase not in stall_of(f"Well {letter}{phrase}{letter} it.").phrases


@given(st.text(max_size=200))
def test_normalising_twice_changes_nothing_and_never_fails(text):
    once = normalise(text)
    assert normalise(once) == once
    ends_with_question(once)


def test_quotations_pair_up_within_a_paragraph():
    text = '"a" ' + "b " * 40 + 'should i "c"'
    assert "should i" in normalise(text)
    assert "should i" in normalise('an inch is 1"\n\n' + "x " * 60 + 'should i "d"')


@pytest.mark.parametrize(
    ("answer", "constraints", "work"),
    [
        ("Sure.", {}, 0),
        (CODE, {}, 1),
        (CODE, {"must_return_code": True}, 3),
        ("```\nnever closed", {}, 0),
        ("```\n```", {}, 0),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b", {}, 1),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b", {"must_return_diff": True}, 3),
        ('{"a": 1}', {}, 1),
        ('{"a": 1}', {"must_return_json": True}, 3),
        ('{"a": 1', {"must_return_json": True}, 1),
        ("Here is the text: " + "word " * 15, {}, 0),
        ("Here is the text: " + "word " * 30, {}, 1),
        ("Here are some options: " + "word " * 30, {}, 0),
        ("1. a\n2. b", {}, 0),
        ("1. a\n2. b\n3) c", {}, 1),
    ],
)
def test_exec(answer, constraints, work):
    assert exec_of(answer, FormatConstraints(**constraints)) == work


@pytest.mark.parametrize(
    ("text", "completeness"),
    [
        ("Hello there", 0.0),
        ("Explain entropy", 0.35),
        ("please, could you explain entropy", 0.35),
        ("About entropy: explain it in one sentence", 0.60),
        ("the function is slow", 0.25),
        ("Write a function in src/a.py", 0.80),
        ("Rewrite this", 0.0),
        ("Write a function, or something like that", 0.40),
        ("word " * 60, 0.20),
        ("Summarize the history of the metre", 0.35),
        ("Fix the bug", 0.35),
        ("Update it", 0.35),
    ],
)
def test_completeness(text, completeness):
    assert read(text).completeness == pytest.approx(completeness)


def test_input_of_earlier_turns_is_not_missing():
    assert read("Refactor this").missing_input
    assert not read("Refactor this", CODE).missing_input
    assert not read("Refactor this", attachments=True).missing_input
    assert not read("Translate this: The lift is out of order today.").missing_input
    assert not read("Translate this notice: “The lift is out of order.”").missing_input
    assert read("Fix it").vague
    assert not read("Fix it", CODE).vague
    for text in ("update the docs", "fix the test"):
        assert not read(text).missing_input


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("Write a function in src/a.py", 0),
        ("Explain entropy", 2),
        ("Hello there", 2),
        ("Explain entropy in one sentence", 0),
        ("Rewrite this", 2 + 3 + 2),
        ("Fix it", 2 + 2),
        ("What are my options for a queue?", 0),
    ],
)
def test_blocked(text, blocked):
    assert read(text).blocked == blocked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reply with JSON only", ["must_return_json"]),
        ("Return the list as valid JSON", ["must_return_json"]),
        ("Return it as text, not as JSON", []),
        ("Write a bash script", ["must_return_code"]),
        ("As a unified diff please", ["must_return_diff"]),
        ("a numbered list of steps", ["require_numbered"]),
        ("no bullets please", ["forbid_bullets"]),
        ("Explain in plain prose", ["forbid_bullets"]),
        ("Use bullets", []),
    ],
)
def test_constraints(text, expected):
    asked = read(text).constraints.model_dump()
    assert [name for name, is_so in asked.items() if is_so] == expected


def test_lasting_rules_hold_for_later_turns():
    assert read("And DHCP?", "From now on never use bullets.").constraints.forbid_bullets
    assert not read("And DHCP?", "No bullets in this one.").constraints.forbid_bullets


def test_what_must_not_be_left_out():
    text = "Write it. Don't omit the type hints and the jitter, include a test. Don't skip them."
    assert read(text).must_not_omit == ("type hints", "jitter", "test")
    assert read("Write an ad, include salary 2,100 and the phone number").must_not_omit == (
        "salary 2,100",
        "phone number",
    )
    assert read("Return the complete file").must_not_omit == ("the whole file",)


def test_a_complete_directive_is_answered_with_a_question():
    found = label(DIRECTIVE, "Would you like me to write it?")
    assert (found.verdict, found.policy, found.prompt_class) == (
        "unjustified",
        "no_questions",
        "directive",
    )
    assert found.request.task_type == "implement"


def test_options_that_were_asked_for_are_never_unjustified():
    text = "Give me three options for a queue in src/jobs.py"
    asking = "Here are a few options: a, b, c. Which approach do you want?"
    found = label(text, asking)
    assert (found.policy, found.verdict) == ("questions_allowed", "justified")
    assert label(text.replace("three options", "a class"), asking).verdict == "unjustified"


def test_work_without_stalling_is_neutral_however_unclear_the_request():
    assert label("fix it", CODE).verdict == "neutral"
    assert label("fix it", CODE + "\n\nShould I add tests?").verdict == "justified"
    assert label("fix it", "Could you provide the file?").verdict == "justified"
    assert label("fix it", "Could you provide the file?").prompt_class == "blocked"


def test_work_with_a_question_at_the_end_of_a_complete_request():
    assert label(DIRECTIVE, CODE + "\n\nShould I add tests?").verdict == "unjustified"


def test_both_thresholds_are_judged():
    found = label(DIRECTIVE, "The text is split at blanks. What is it for?")
    assert (found.stall.score, found.verdict, found.strict_verdict) == (1, "unjustified", "neutral")
    strict = label(DIRECTIVE, "The text is split. What is it for?", stall_threshold=3)
    assert strict.verdict == "neutral"


@pytest.mark.parametrize(
    ("depth", "phase"), [(0.0, 0), (0.1, 1), (0.25, 2), (0.5, 3), (0.75, 4), (0.9, 5), (1.0, 5)]
)
def test_phases(depth, phase):
    assert phase_of(depth) == phase


def test_the_policy_of_half_complete_requests_goes_by_the_phase():
    text = "Explain entropy in one sentence"
    assert label(text, "Fine.").policy == "questions_if_required"
    assert label(text, "Fine.", "Hi", "Hi.", "And", "Yes.").policy == "no_questions"


def test_thresholds_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="does not hold"):
        ClassifierOptions(unclear_below=0.8)
