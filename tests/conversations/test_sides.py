"""Conversations are divided whole, and each kind of work by the same shares."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.conversations.sides import NO_TASK, SideOptions, divide, stratum_of
from tracetune.errors import DataError
from tracetune.records import Example, Message, Rating, make_example, make_rating
from tracetune.splits import verify

TASKS = ("debug", "explain", "respond")
OPTIONS = SideOptions(test_share=0.2, validation_share=0.1)


def said(text: str) -> dict[str, list[Message]]:
    return {
        "prompt": [Message(role="user", content=text)],
        "completion": [Message(role="assistant", content="done")],
    }


def origin(group: str, number: int) -> dict[str, object]:
    return {
        "source": "test",
        "tenant": "demo",
        "ids": {"n": f"{group}.{number}"},
        "group": group,
        "created_at": None,
    }


def turns(group: str, task: str, count: int) -> list[Example]:
    return [
        make_example(
            **said(f"one{group} two{number} three{group}x{number} of {group}"),
            tags={"task_type": task},
            **origin(group, number),
        )
        for number in range(count)
    ]


def case(group: str) -> Rating:
    return make_rating(**said(f"case{group} of{group}"), good=False, **origin(group, 99))


corpora = st.lists(st.tuples(st.sampled_from(TASKS), st.integers(1, 4), st.booleans()), max_size=60)


@given(corpora.filter(bool), st.integers(0, 3))
def test_shares_hold_over_all_and_no_conversation_is_divided(corpus, seed):
    rows: list[Example | Rating] = []
    for number, (task, count, failed) in enumerate(corpus):
        rows += turns(f"c{number}", task, count)
        rows += [case(f"c{number}")] if failed else []
    manifest = divide(rows, options=OPTIONS, seed=seed)
    verify(manifest, rows)
    sides = defaultdict(set)
    for row in rows:
        sides[row.provenance.group].add(manifest.place(row.id).split)
    assert all(len(found) == 1 for found in sides.values())
    found = Counter(manifest.place(row.id).split for row in rows)
    largest = max(Counter(row.provenance.group for row in rows).values())
    for side, share in {"train": 0.7, "validation": 0.1, "test": 0.2}.items():
        assert -largest <= share * len(rows) - found[side] <= 2 * largest
    assert divide(rows[::-1], options=OPTIONS, seed=seed).rows == manifest.rows


def test_every_kind_of_work_and_the_evaluation_cases_have_their_share():
    rows: list[Example | Rating] = []
    for number in range(200):
        task = "respond" if number % 4 else "debug"
        rows += turns(f"c{number}", task, 2)
        rows += [case(f"c{number}")] if number % 5 == 0 else []
    manifest = divide(rows, options=OPTIONS, seed=3)
    assert manifest.method == "strata"
    for task, groups in {"debug": 50, "respond": 150}.items():
        held = {
            row.provenance.group
            for row in rows
            if row.tags.get("task_type") == task and manifest.place(row.id).split == "test"
        }
        assert len(held) == pytest.approx(0.2 * groups, abs=2)
    assert manifest.count("bad", "test") == pytest.approx(0.2 * 40, abs=2)
    assert manifest.count("bad", "validation") == pytest.approx(0.1 * 40, abs=2)


def test_the_kind_of_work_is_the_most_frequent_one():
    rows = [*turns("a", "explain", 2), *turns("b", "debug", 2), *turns("c", "respond", 1)]
    assert stratum_of(rows) == ("debug", False)
    assert stratum_of([*rows, *turns("d", "explain", 1), case("e")]) == ("explain", True)
    assert stratum_of([case("e")]) == (NO_TASK, True)


def test_nearly_the_same_requests_stay_together():
    words = " ".join(f"word{number}" for number in range(40))
    rows = [
        make_example(**said(f"{words} {group}"), tags={"task_type": "respond"}, **origin(group, 0))
        for group in ("a", "b", "c")
    ]
    rows += [row for n in range(30) for row in turns(f"o{n}", "respond", 1)]
    for seed in range(5):
        manifest = divide(rows, options=OPTIONS, seed=seed)
        assert len({manifest.place(row.id).split for row in rows[:3]}) == 1


def test_a_row_that_stands_twice_is_refused():
    [row] = turns("a", "respond", 1)
    with pytest.raises(DataError, match="stands twice"):
        divide([row, row], options=OPTIONS, seed=0)
