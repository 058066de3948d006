"""The committed sample: what it holds, and that the script writes it."""

from __future__ import annotations

from collections import Counter

from tools.conversations_sample.make import write

from tests.conversations.builders import SAMPLE
from tracetune.conversations.exchanges import exchanges
from tracetune.conversations.options import SurgeryOptions
from tracetune.conversations.read import read_folder
from tracetune.conversations.survey import survey


def test_the_script_writes_what_is_committed(tmp_path):
    write(tmp_path)
    files = sorted(path.relative_to(SAMPLE) for path in SAMPLE.rglob("*") if path.is_file())
    assert len(files) == 3
    for name in files:
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes()
    assert sum((SAMPLE / name).stat().st_size for name in files) < 600_000


def test_it_holds_what_a_corpus_holds():
    conversations = read_folder(SAMPLE)
    assert len(conversations) >= 60
    providers = Counter(conversation.provider for conversation in conversations)
    assert all(providers[name] >= 10 for name in ("chatgpt", "claude", "internal"))
    roles = Counter(turn.role for c in conversations for turn in c.turns)
    assert min(roles["tool"], roles["system"]) > 0
    assert any(part.branches for c in conversations for part in exchanges(c))
    surveyed = survey(conversations, SurgeryOptions())
    verdicts = Counter(label.verdict for part in surveyed for label in part.labels.values())
    assert verdicts["unjustified"] >= 15
    assert sum(len(part.frictions) for part in surveyed) >= 12
    labels = [label for part in surveyed for label in part.labels.values()]
    assert sum(bool(label.stall.options) for label in labels) >= 6
    assert sum(bool(label.stall.permission) for label in labels) >= 12
    assert sum(not label.stall.score for label in labels) >= 90
    requests = [part.user for found in surveyed for part in found.exchanges]
    assert len(set(requests)) > 0.95 * len(requests)
