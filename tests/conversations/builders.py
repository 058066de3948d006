"""Conversations that the tests of this folder build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.project import ROOT
from tracetune.conversations.build import Built, build
from tracetune.conversations.classify import Label, classify
from tracetune.conversations.exchanges import Exchange, exchanges
from tracetune.conversations.options import ClassifierOptions, SurgeryOptions
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.reading import Place
from tracetune.conversations.rewrite import RewriteReport, rewrite
from tracetune.conversations.survey import survey
from tracetune.llm.offline import OfflineWriter
from tracetune.records import ChatRewrite, Conversation

SAMPLE = ROOT / "data/01_raw/demo/conversations"

DIRECTIVE = "Write a Python function in tools/text.py that counts the words of a text."
CODE = "```python\ndef count(text):\n    return len(text.split())\n```\n\nBlanks separate words."


def conversation(*said: str, name: str = "c1", system: str | None = None) -> Conversation:
    """A conversation in which user and assistant take turns."""
    messages = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    messages += [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    found = plain_conversation({"id": name, "messages": messages}, Place("built"))
    assert found is not None
    return found


def exchange(user: str, answer: str, *before: str) -> Exchange:
    """The last exchange of a conversation."""
    return exchanges(conversation(*before, user, answer))[-1]


def label(user: str, answer: str, *before: str, **options: Any) -> Label:
    """The label of the last exchange of a conversation."""
    return classify(exchange(user, answer, *before), ClassifierOptions(**options))


def surgery(
    *conversations: Conversation, options: SurgeryOptions | None = None
) -> tuple[Built, list[ChatRewrite], RewriteReport]:
    """Records of conversations, rewritten by the offline generator."""
    chosen = options or SurgeryOptions()
    surveyed = survey(conversations, chosen)
    rewrites, report = rewrite(surveyed, writer=OfflineWriter(0), options=chosen)
    return build(surveyed, rewrites, chosen), rewrites, report


def save(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path
