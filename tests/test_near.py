"""Near-duplicates: the prefix filter finds exactly what comparing all pairs finds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.near import near_pairs, shingles, similarity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Show MY open, PRs!", {"show my open", "my open prs"}),
        ("two words", {"two words"}),
        ("\uff21\uff22\uff23 one two", {"abc one two"}),
        ("  🙂 ", {"🙂"}),
        ("", {""}),
    ],
)
def test_shingles(text: str, expected: set[str]) -> None:
    assert shingles(text, 3) == expected


def test_similarity_counts_shared_over_all() -> None:
    a, b = shingles("a b c d e f g h i j", 3), shingles("a b c d e f g h i x", 3)
    assert similarity(a, b) == 7 / 9


SETS = st.lists(st.frozensets(st.sampled_from("abcdefgh"), min_size=1), max_size=25, unique=True)


@given(SETS, st.sampled_from([0.1, 0.5, 2 / 3, 0.75, 0.8, 1.0]))
def test_it_finds_what_all_pairs_find(sets: list[frozenset[str]], threshold: float) -> None:
    found = list(near_pairs(sets, threshold, lambda i, j: True))
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(len(sets)), 2)
        if similarity(sets[i], sets[j]) >= threshold
    }
    assert len(found) == len(set(found))
    assert set(found) == expected


@given(SETS)
def test_what_is_not_wanted_is_not_given(sets: list[frozenset[str]]) -> None:
    found = near_pairs(sets, 0.5, lambda i, j: (i + j) % 2 == 0)
    assert all((i + j) % 2 == 0 for i, j in found)
