"""Coordinates and phases of turns (domain reference, D3 and D5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conversations.builders import conversation
from tracetune.conversations.coordinates import (
    PHASE_STARTS,
    SpokenTurn,
    complexity,
    coordinates,
    measure,
    phase_of,
    similarity,
    spoken,
)
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.reading import Place
from tracetune.records.heads import TrajectoryReference

START = datetime(2026, 1, 1, tzinfo=UTC)


def reference(variant="causal", *, turns=5.0, seconds=100.0, second="role"):
    return TrajectoryReference(
        variant=variant,
        sibling_order=second,
        turns=turns,
        seconds=seconds,
        conversations=3,
        pattern_rules="x",
    )


def turn(content="word", at=None, role="user", place=0, places=1):
    when = None if at is None else START + timedelta(seconds=at)
    return SpokenTurn(role, content, when, "owner", place, places)


def column(turns, place, given=None):
    return [point.coordinates[place] for point in coordinates(turns, given or reference("full"))]


some_turns = st.lists(
    st.builds(
        turn,
        st.text(max_size=60),
        st.none() | st.integers(-1000, 100_000),
        st.sampled_from(["system", "user", "assistant"]),
        st.integers(0, 2),
        st.integers(3, 4),
    ),
    min_size=1,
    max_size=12,
)
references = st.builds(
    reference,
    st.sampled_from(["causal", "full"]),
    turns=st.floats(0, 50),
    seconds=st.floats(0, 1e6),
    second=st.sampled_from(["role", "regeneration"]),
)


@given(some_turns, references)
def test_every_number_is_from_0_to_1_and_depth_and_time_never_fall(turns, given_reference):
    points = coordinates(turns, given_reference)  # the record itself refuses anything beyond 0..1
    assert [point.turn_index for point in points] == list(range(len(turns)))
    depths = [point.coordinates[0] for point in points]
    assert depths == sorted(depths)
    assert [point.phase_id for point in points] == [phase_of(depth) for depth in depths]
    if all(t.created_at is not None for t in turns):
        times = [point.coordinates[3] for point in points]
        assert times == sorted(times)


@given(some_turns, references.filter(lambda r: r.variant == "causal"), st.data())
def test_causal_coordinates_depend_on_nothing_that_comes_later(turns, given_reference, data):
    cut = data.draw(st.integers(1, len(turns)))
    whole = coordinates(turns, given_reference)
    assert coordinates(turns[:cut], given_reference) == whole[:cut]


def test_full_depth_and_time_span_the_conversation():
    turns = [turn(at=at) for at in (0, 10, 20, 40, 100)]
    assert column(turns, 0) == [0, 0.25, 0.5, 0.75, 1]
    assert column(turns, 3) == [0, 0.1, 0.2, 0.4, 1]


def test_causal_depth_and_time_are_measured_against_the_reference():
    turns = [turn(at=at) for at in (0, 50, 200)]
    assert column(turns, 0, reference(turns=5)) == [0, 0.25, 0.5]
    assert column(turns, 3, reference(seconds=100)) == [0, 0.5, 1]
    longer = [turn(at=n) for n in range(9)]
    assert column(longer, 0, reference(turns=5))[4:] == [1, 1, 1, 1, 1]


def test_one_turn():
    for variant in ("full", "causal"):
        (point,) = coordinates([turn(at=3)], reference(variant))
        assert point.coordinates[:4] == [0, 0.33, 1.0, 0]
        assert point.phase_id == 0


def test_without_a_time_the_temporal_coordinate_is_the_depth():
    for variant in ("full", "causal"):
        none = [turn() for _ in range(4)]
        assert column(none, 3, reference(variant)) == column(none, 0, reference(variant))
    gap = [turn(at=0), turn(at=10), turn(), turn(at=40)]
    assert column(gap, 3) == [0, 0.25, pytest.approx(2 / 3), 1]
    no_first = [turn(), turn(at=5)]
    assert column(no_first, 3) == [0, 1]


def test_equal_times_are_0():
    assert column([turn(at=7)] * 3, 3) == [0, 0, 0]
    assert column([turn(at=7)] * 3, 3, reference(seconds=0)) == [0, 0, 0]
    assert column([turn(at=7)] * 3, 0, reference(turns=0)) == [0, 1, 1]


def test_a_time_that_falls_back_counts_as_the_latest_so_far():
    assert column([turn(at=at) for at in (0, 10, 5, 20)], 3) == [0, 0.5, 0.5, 1]
    assert column([turn(at=at) for at in (10, 0, 5)], 3) == [0, 0, 0]


@pytest.mark.parametrize(
    ("depth", "phase"),
    [
        (0.0, 0), (0.0999, 0), (0.10, 1), (0.2499, 1), (0.25, 2), (0.4999, 2),
        (0.50, 3), (0.7499, 3), (0.75, 4), (0.8999, 4), (0.90, 5), (1.0, 5),
    ],
)  # fmt: skip
def test_phases_are_half_open(depth, phase):
    assert phase_of(depth) == phase


def test_phases_never_fall_and_short_conversations_skip_some():
    assert len(PHASE_STARTS) == 5
    short = [turn() for _ in range(3)]
    assert [p.phase_id for p in coordinates(short, reference("full"))] == [0, 3, 5]


def test_role_codes_are_the_documents_and_no_thirds():
    turns = [turn(role=role) for role in ("system", "user", "assistant")]
    assert column(turns, 1) == [0, 0.33, 0.67]


def test_regeneration_counts_among_siblings_or_causally_whether_one_was_there_before():
    turns = [turn(place=0, places=1), turn(place=1, places=3), turn(place=2, places=3)]
    assert column(turns, 1, reference("full", second="regeneration")) == [0, 0.5, 1]
    assert column(turns, 1, reference("causal", second="regeneration")) == [0, 1, 1]


def test_homogeneity_is_the_share_of_common_words_and_1_at_first():
    turns = [turn("A red house"), turn("a RED car"), turn("?"), turn("!")]
    assert column(turns, 2) == [1, 0.5, 0, 1]


@given(st.text(max_size=80), st.text(max_size=80))
def test_similarity_is_symmetric_and_1_of_itself(one, other):
    assert similarity(one, other) == similarity(other, one)
    assert similarity(one, one) == 1


def test_complexity():
    assert complexity("") == 0
    assert complexity("x " * 400) == pytest.approx(0.5 + 0.2 / 60)
    assert complexity("```\nx\n```") == pytest.approx(0.5 * 3 / 400 + 0.3 + 0.2 * 3 / 60)
    assert complexity("x y z\n" * 200 + "```\n") == 1.0
    assert complexity("in `code` only") < 0.01


def test_tools_are_no_turns_and_siblings_are_counted_by_role():
    messages = [
        {"id": "u", "role": "user", "content": "look it up"},
        {"id": "c", "role": "assistant", "content": "search", "name": "web"},
        {"id": "t", "role": "tool", "content": "found", "name": "web"},
        {"id": "a", "role": "assistant", "content": "one"},
        {"id": "b", "role": "assistant", "content": "two", "parent": "t"},
        {"id": "v", "role": "user", "content": "thanks", "name": "Ada"},
    ]
    found = plain_conversation({"id": "x", "messages": messages}, Place("built"))
    turns = spoken(found)
    assert [t.content for t in turns] == ["look it up", "two", "thanks"]
    assert [(t.place, t.places) for t in turns] == [(0, 1), (1, 2), (0, 1)]
    assert turns[0].author == "owner"
    assert turns[1].author == "assistant of internal"
    assert turns[2].author.startswith("person ")
    assert "Ada" not in turns[2].author


def test_the_reference_is_the_median_of_the_given_conversations():
    talks = [[turn(at=n * 10) for n in range(count)] for count in (2, 4, 9)]
    found = measure(talks, variant="causal", sibling_order="role", pattern_rules="x")
    assert (found.turns, found.seconds, found.conversations) == (4, 30, 3)
    timeless = measure([[turn()]], variant="full", sibling_order="role", pattern_rules="x")
    assert (timeless.turns, timeless.seconds) == (1, 0)
    empty = measure([], variant="full", sibling_order="role", pattern_rules="x")
    assert (empty.turns, empty.seconds, empty.conversations) == (0, 0, 0)


def test_a_conversation_of_an_export_has_a_point_per_turn():
    said = conversation("Write a plan", "Here it is.", "shorter", "Done.", system="Be brief.")
    points = coordinates(spoken(said), reference("full"))
    assert [p.coordinates[1] for p in points] == [0, 0.33, 0.67, 0.33, 0.67]
    assert points[-1].phase_id == 5
