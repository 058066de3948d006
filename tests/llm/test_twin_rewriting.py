"""Answers of ``twin`` rewritten by a paid writer: redacted, checked, within a budget, paid once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conversations.builders import SAMPLE, conversation
from tests.llm.anthropic_answers import prompt_of
from tests.llm.helpers import options
from tracetune.conversations.read import read_folder
from tracetune.conversations.twin_options import TwinOptions
from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.errors import DataError
from tracetune.llm import Unfinished
from tracetune.pipelines.twin_corpus_stage import (
    build_records,
    divide_rows,
    make_rows,
    redact_conversations,
    rewrite_answers,
)
from tracetune.privacy import PrivacyOptions

TWIN = TwinOptions()
ADDRESS = "jana.novak@garden-club.example"
STALLED = conversation(
    f"Write a Python function in tools/mail.py that returns the address {ADDRESS}.",
    "I can write that. Would you like me to go ahead?",
    "thanks, but I did it myself in the end",
    "Good to hear.",
)
WRITTEN = "```python\ndef address():\n    return '<EMAIL>'\n```\n\nIt takes no arguments."


def writes(text: str) -> Any:
    """A writer that takes no draft and always writes the same."""
    return lambda params: {"items": [{"draft": 0, "answer": text}]}


def rewritten(
    server: Any,
    folder: Path,
    *found: Any,
    dry_run: bool = False,
    **changes: Any,
) -> Any:
    """Redacted conversations, what became of them, and the report."""
    redacted, _ = redact_conversations(list(found), PrivacyOptions())
    chosen = options(server, "direct", concurrency=1, **changes)
    entries, report = rewrite_answers(
        redacted, LlmAccess(folder, server.key), chosen, TWIN, 3, dry_run
    )
    return redacted, entries, report


def test_what_a_model_wrote_is_taught_and_it_never_saw_the_address(server, tmp_path):
    server.answer = writes(WRITTEN)
    redacted, [entry], report = rewritten(server, tmp_path, STALLED)
    assert (entry.source, entry.answer) == ("written", WRITTEN)
    assert report["usd"] > 0
    [sent] = server.sent
    assert "<EMAIL>" in prompt_of(sent)
    assert ADDRESS not in str(sent)
    *records, document = build_records(redacted, [entry], report, TWIN)
    assert document["surgery"]["rules"]["rewritten"]["turns"] == 1
    assert document["rewriting"] == report
    examples, pairs, _ = make_rows(*records, tenant="demo")
    [row] = [row for row in examples if row.tags["rule"] == "rewritten"]
    assert row.completion[0].content == WRITTEN
    [pair] = [pair for pair in pairs if pair.tags["dpo_reason"] == "confirmation_reflex"]
    assert "Would you like me" in pair.rejected[0].content
    # The same again is taken from what is kept.
    assert rewritten(server, tmp_path, STALLED)[1] == [entry]
    assert len(server.sent) == 1


@pytest.mark.parametrize("text", ["Shall I?", f"Done: {WRITTEN} Ask {ADDRESS} for more."])
def test_what_fails_the_checks_is_left_out(server, tmp_path, text):
    server.answer = writes(text)
    redacted, [entry], report = rewritten(server, tmp_path, STALLED)
    assert entry.answer is None
    *_, document = build_records(redacted, [entry], report, TWIN)
    assert document["surgery"]["left_out"] == 1


def test_a_dry_run_says_what_it_would_cost_and_a_budget_is_kept(server, tmp_path):
    sample = read_folder(SAMPLE)
    _, nothing, report = rewritten(server, tmp_path, *sample, dry_run=True)
    assert nothing == []
    assert server.calls == []
    cost = report["dry_run"]
    assert cost["requests"] == 25
    _, entries, report = rewritten(server, tmp_path, *sample, budget_usd=cost["most_usd"] / 25)
    assert 0 < report["outcomes"]["over_budget"] < len(entries) == 25
    assert 0 < report["usd"] <= cost["most_usd"] / 25
    assert any("budget" in reason for entry in entries for reason in entry.reasons)


def test_a_batch_that_is_not_done_stops_the_run_and_is_picked_up(server, tmp_path):
    server.answer = writes(WRITTEN)
    redacted, _ = redact_conversations([STALLED], PrivacyOptions())
    access = LlmAccess(tmp_path, server.key)
    impatient = options(server, "batch", deadline_hours=1e-9)
    with pytest.raises(Unfinished):
        rewrite_answers(redacted, access, impatient, TWIN, 3, False)
    [entry], _ = rewrite_answers(redacted, access, options(server, "batch"), TWIN, 3, False)
    assert entry.answer == WRITTEN
    assert len(server.batches) == 1


def test_a_corpus_without_a_lesson_stops_before_anything_is_trained():
    with pytest.raises(DataError, match="nothing to train on"):
        divide_rows([], [], [], TWIN, 3)
