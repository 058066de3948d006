"""Annoyed users: triggers, false alarms, intensity, quarantine."""

from __future__ import annotations

import pytest

from tests.conversations.builders import conversation
from tracetune.conversations.exchanges import exchanges
from tracetune.conversations.friction import friction_of, signs_of


@pytest.mark.parametrize(
    ("text", "intensity"),
    [
        ("stop asking", 0.1 + 0.1),
        ("Please just write it", 0.1),
        ("I already told you, you keep asking", 0.2),
        ("You keep asking. STOP asking and just DO it, NOW OR NEVER!!", 0.3 + 0.1 + 0.2 + 0.1),
        ("That's not what I asked, try again!", 0.2 + 0.05 + 0.1 + 0.1),
        ("why do you keep adding bullets", 0.2),
        ("please just write JSON and YAML", 0.1),
        ("don’t ask", 0.1 + 0.1),
    ],
)
def test_intensity(text, intensity):
    assert signs_of(text)[0] == pytest.approx(intensity)


@pytest.mark.parametrize(
    "text",
    [
        "Actually, use Postgres.",
        "I said hello to her yesterday",
        "Thanks, that works!",
        "Add this line:\n```\nstop asking\n```",
        "> you keep asking\nwhat does he mean here",
        "He trusted me again",
    ],
)
def test_false_alarms(text):
    assert signs_of(text) == (0.0, ())


def test_weak_triggers_count_together_with_another_sign():
    assert signs_of("I said no bullets")[0] > 0
    assert signs_of("actually, that's wrong")[0] > 0


def test_the_marker_reaches_from_the_answer_before_to_the_last_annoyed_turn():
    found = exchanges(
        conversation(
            *("q0", "good", "q1", "bad", "stop asking", "worse", "I already told you!", "right"),
            *("thanks", "sure", "you keep asking"),
        )
    )
    first, second = friction_of(found)
    assert (first.bad, first.first, first.last) == (1, 2, 3)
    assert list(first.quarantined) == [1, 2]
    assert first.intensity == pytest.approx(0.2)
    # The last annoyed turn was never answered and still says what the answer before was worth.
    assert list(second.quarantined) == [4]


def test_annoyed_from_the_start():
    [found] = friction_of(exchanges(conversation("stop asking questions, write it", "x")))
    assert (found.bad, list(found.quarantined)) == (None, [])
