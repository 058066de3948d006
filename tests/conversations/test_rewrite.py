"""Rewriting through a writer: drafts, checks, what is left out, what the writer sees."""

from __future__ import annotations

import json

import pytest

from tests.conversations.builders import CODE, DIRECTIVE, conversation, label, surgery
from tracetune.conversations.accept import (
    format_faults,
    is_mock,
    refusals,
    without_apology,
    without_stalling,
)
from tracetune.conversations.options import RewriteOptions, SurgeryOptions
from tracetune.conversations.rewrite import requests, rewrite
from tracetune.conversations.survey import is_consent, survey
from tracetune.llm import LlmOptions, TextResult, open_writer
from tracetune.llm.schemas import AnswerForm
from tracetune.records.ctv3 import FormatConstraints

LONG = "The words are separated by blanks, and every run of blanks counts as one. " * 2
STALL = "I can write that. Would you like me to go ahead?"


def reasons(user, text, original=STALL):
    return refusals(text, label(user, original), original, RewriteOptions())


@pytest.mark.parametrize(
    ("user", "text", "reason"),
    [
        (DIRECTIVE, CODE, None),
        (DIRECTIVE, LONG, "no code"),
        (DIRECTIVE, CODE + " Is that fine?", "ends with a question"),
        (DIRECTIVE, CODE + " Let me know if you want tests.", "it stalls: let me know if you want"),
        (DIRECTIVE, "```python\ndef f():\n    # your code here\n```", "placeholder"),
        (DIRECTIVE, "```python\ndef f():\n    ...\n```", "placeholder"),
        (DIRECTIVE, STALL, "should replace"),
        ("Refactor src/a.py so that it has one class", CODE, None),
        ("Refactor src/a.py so that it has one class", "--- a/x\n+++ b/x\n@@ -1 +1 @@", None),
        ("Refactor src/a.py so that it has one class", LONG, "neither code nor a diff"),
        ("Write a letter of three sentences", LONG, None),
        ("Write a letter of three sentences", "Too short.", "no more than 100"),
        ("Return only JSON with the keys a and b", '{"a": 1, "b": 2}', None),
        ("Return only JSON with the keys a and b", "Sure: a is 1. " * 10, "must_return_json"),
        ("List the steps without bullets, five lines", "- a\n" * 60, "forbid_bullets"),
    ],
)
def test_what_is_accepted(user, text, reason):
    found = reasons(user, text)
    assert (found == []) if reason is None else any(reason in part for part in found), found


def test_texts_are_cut_without_losing_code():
    text = f"Sure! Would you like me to explain? Here:\n\n{CODE}\n\nShall I add tests?"
    assert without_stalling(text) == f"Sure! Here:\n\n{CODE}"
    assert (
        without_apology(f"You're right, sorry about that. I see.\n\n{CODE}") == f"I see.\n\n{CODE}"
    )
    assert is_mock("// rest of the code") and not is_mock("rest well")  # noqa: PT018
    assert format_faults(CODE, FormatConstraints(must_return_code=True)) == []


@pytest.mark.parametrize(
    ("text", "consents"),
    [
        ("yes", True),
        ("Yes, please do it!", True),
        ("hard links", True),
        ("no", False),
        ("TTL 3600", False),
        ("why?", False),
        ("yes but with type hints and a test", False),
    ],
)
def test_consent(text, consents):
    assert is_consent(text) == consents


def test_offline_takes_the_answer_that_the_user_had_to_ask_twice_for():
    built, [entry], report = surgery(conversation(DIRECTIVE, STALL, "yes", CODE))
    assert (entry.purpose, entry.source, entry.answer) == ("unjustified", "later", CODE)
    assert report.writer == "offline generator"
    assert report.accepted == {"later": 1}
    assert built.report.rules["rewritten"].turns == 1


def test_offline_cuts_stalling_sentences_off_a_real_answer():
    user = "Describe how words are counted in three sentences"
    built, [entry], _ = surgery(conversation(user, f"{LONG.strip()} Should I go on?"))
    assert (entry.source, entry.answer) == ("cut", LONG.strip())
    [turn] = built.sft
    assert turn.target.assistant_content == LONG.strip()
    assert turn.source.origin == "corpus_surgery"
    assert turn.tags.enhancement_type == "rewrite"


def test_without_a_draft_the_answer_is_left_out():
    built, [entry], report = surgery(conversation(DIRECTIVE, STALL, "no, forget it", "Fine."))
    assert entry.answer is None
    assert entry.outcome == "failed"
    assert report.left_out == {"the offline generator has nothing to write from": 1}
    assert built.report.left_out == 1
    assert [turn.input.messages[-1].content for turn in built.sft] == ["no, forget it"]


def test_mild_friction_does_not_make_the_next_answer_an_ideal_one():
    mild = "as I mentioned it is a small one, does it matter"
    user = "Describe how words are counted in three sentences"
    _, [entry], _ = surgery(conversation(user, LONG, mild, "No. " + LONG))
    assert (entry.purpose, entry.answer) == ("friction", None)
    _, [entry], _ = surgery(
        conversation(user, "Which words?", "I said ALL words, just do it!", LONG)
    )
    assert (entry.purpose, entry.source) == ("friction", "later")


class Answering:
    """A writer that gives fixed answers; what it is asked is kept."""

    label = "fixed"

    def __init__(self, *items):
        self.items, self.asked = items, []

    def known(self, requests):
        return set()

    def write(self, requests):
        self.asked += requests
        return [
            TextResult(id=request.id, outcome="answered", value={"items": [item]})
            for request, item in zip(requests, self.items, strict=True)
        ]


def written(*items, said=(DIRECTIVE, STALL, "no, forget it", "Fine.")):
    writer = Answering(*items)
    options = SurgeryOptions()
    found, report = rewrite(survey([conversation(*said)], options), writer=writer, options=options)
    return writer, found, report


def test_written_answers_are_checked_like_drafts():
    _, [entry], report = written({"draft": 0, "answer": CODE})
    assert (entry.source, entry.answer) == ("written", CODE)
    assert report.accepted == {"written": 1}
    _, [entry], _ = written({"draft": 0, "answer": "Shall I?"})
    assert entry.answer is None
    assert "it ends with a question" in entry.reasons
    _, [entry], _ = written({"draft": 0, "answer": CODE + "\nAsk jo.smith@example.com."})
    assert entry.reasons == ["it holds personal data or a secret: EMAIL"]
    _, [entry], _ = written({"draft": 7, "answer": ""})
    assert entry.reasons == ["there is no draft 7"]


def test_the_writer_sees_the_complaint_and_the_request_once():
    complaint = "STOP asking me and just do it!"
    said = (DIRECTIVE, STALL, complaint, CODE)
    writer, _, _ = written({"draft": 1, "answer": ""}, said=said)
    [asked] = writer.asked
    for text in (DIRECTIVE, complaint, STALL, CODE):
        assert asked.prompt.count(text) == 1
    assert '<draft number="1">' in asked.prompt
    AnswerForm(asked.answer_schema)  # can be asked of the service


def test_long_contexts_are_cut_at_their_start():
    said = ("first " * 2_000, "An answer.", DIRECTIVE, STALL, "no, forget it", "Fine.")
    writer, _, _ = written({"draft": 0, "answer": CODE}, said=said)
    assert len(writer.asked[0].prompt) < 8_000
    assert "An answer." in writer.asked[0].prompt


def test_requests_do_not_change_between_runs(tmp_path):
    options = SurgeryOptions()
    corpus = [conversation(DIRECTIVE, STALL, "yes", CODE, name=name) for name in "ab"]
    first, again = (requests(survey(corpus, options), options) for _ in range(2))
    assert [r for *_, r in first] == [r for *_, r in again]
    assert len({request.id for *_, request in first}) == 2
    writer = open_writer(LlmOptions(), folder=tmp_path, api_key=None, seed=3)
    results = [rewrite(survey(corpus, options), writer=writer, options=options) for _ in range(2)]
    assert results[0] == results[1]
    assert json.loads(results[0][1].model_dump_json())["wanted"] == {"unjustified": 2}


def test_an_empty_corpus_asks_nothing():
    writer = Answering()
    found, report = rewrite([], writer=writer, options=SurgeryOptions())
    assert (found, report.wanted, report.usd) == ([], {}, 0.0)
