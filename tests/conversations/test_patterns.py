"""Rules of the twelve patterns, and how well they agree with a person's reading."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conversations.builders import SAMPLE
from tracetune.conversations.coordinates import complexity, spoken
from tracetune.conversations.patterns import MEANINGS, RULES, RULES_VERSION, patterns_of, support
from tracetune.conversations.read import read_folder
from tracetune.records.heads import PATTERNS

LABELS = Path(__file__).with_name("pattern_labels.jsonl")


def named(text):
    return {name for name, found in zip(PATTERNS, patterns_of(text), strict=True) if found}


@cache
def agreement():
    """Per pattern: labelled by hand, precision and recall of the rules (None without a case)."""
    turns = {c.group: spoken(c) for c in read_folder(SAMPLE)}
    both, only_rule, only_hand = Counter(), Counter(), Counter()
    for line in LABELS.read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        found = named(turns[label["conversation"]][label["turn_index"]].content)
        read = set(label["patterns"])
        assert read <= set(PATTERNS)
        both.update(found & read)
        only_rule.update(found - read)
        only_hand.update(read - found)

    def share(part, rest):
        return part / (part + rest) if part + rest else None

    return {
        name: (
            both[name] + only_hand[name],
            share(both[name], only_rule[name]),
            share(both[name], only_hand[name]),
        )
        for name in PATTERNS
    } | {
        "all": (
            None,
            share(both.total(), only_rule.total()),
            share(both.total(), only_hand.total()),
        )
    }


def test_the_rules_are_frozen():
    """Whoever changes a rule measures the agreement again and says so in docs/heads.md."""
    assert RULES_VERSION == "8a61333430cb"
    assert list(RULES) == list(PATTERNS) == list(MEANINGS)


def test_rules_agree_with_turns_read_by_hand_as_the_page_says():
    found = agreement()
    assert sum(1 for _ in LABELS.open(encoding="utf-8")) == 90
    assert found["all"][1] == pytest.approx(0.856, abs=0.001)
    assert found["all"][2] == pytest.approx(0.826, abs=0.001)
    page = (SAMPLE.parents[3] / "docs/heads.md").read_text(encoding="utf-8")
    for name in PATTERNS:
        count, precision, recall = found[name]
        row = f"| {name} | {count} | {precision:.2f} | {recall:.2f} |"
        assert row in page, row


def test_labelled_turns_are_of_the_sample_and_stand_once():
    places = [
        (row["conversation"], row["turn_index"])
        for row in map(json.loads, LABELS.read_text(encoding="utf-8").splitlines())
    ]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write a function that counts words.", {"directive"}),
        ("The write was slow.", set()),
        ("ok. and add a test", {"directive", "refinement"}),
        ("Which version do you use?", {"clarifying_question"}),
        ("Would you like me to go on?", {"clarifying_question"}),
        ("It rains.", set()),
        ("```python\nx = 1\n```", {"code_production"}),
        ("```json\n{}\n```", set()),
        ("```\n\n```", set()),
        ("It fails with a KeyError.", {"debugging"}),
        ("pg_dump is slower than the other.", {"comparison"}),
        ("too long", {"refinement"}),
        ("A summary in one line.", {"summarising"}),
        ("The agenda of Monday.", {"planning"}),
        ("It is cached because it is slow, for example on disk.", {"explanation_with_example"}),
        ("This was handed on; Priya will answer.", {"delegation"}),
        ("In hindsight that was a detour.", {"reflection"}),
        ("1. Wash it.\n2. Dry it.", {"step_by_step"}),
        ("", set()),
    ],
)
def test_rules(text, expected):
    assert named(text) == expected


def test_code_and_long_quotations_are_not_read_as_words():
    assert named("```python\n# fix the bug, compare, plan\n```") == {"code_production"}
    assert named("`fix the bug`") == set()
    assert "planning" not in named('It says "here is the plan of the whole campaign".')


@given(st.text(max_size=300))
def test_any_text_has_twelve_answers_always_the_same(text):
    first = patterns_of(text)
    assert len(first) == len(PATTERNS)
    assert patterns_of(text) == first


@pytest.mark.parametrize(
    "text",
    [
        "1. one\n\n" + "Some words here.\n\n" * 5000,
        "1. item\n" * 5000,
        "a" + " \n" * 20000 + "b",
        "a\n" + " " * 20000 + "b",
        "what do you " * 5000,
        "which is first if abc, take x " * 5000,
        ": a x" + ", a x" * 5000,
        "~" * 20000,
        "«" * 20000,
        "error" * 10000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_whole_file_in_a_turn_is_read(text):
    """With an open repetition these would take minutes to hours, and the test would not end."""
    assert len(patterns_of(text)) == len(PATTERNS)
    assert 0 <= complexity(text) <= 1


def test_steps_are_found_among_blank_lines_and_indented():
    assert "step_by_step" in named("1. one\n\n\n" + "more\n\n" * 40 + "   2. two")
    assert "step_by_step" not in named("1. one\n\n" + "Some words.\n\n" * 5000)


def test_support_counts_turns():
    found = support([patterns_of("Write it."), patterns_of("It rains.")])
    assert found["directive"] == 1
    assert sum(found.values()) == 1
