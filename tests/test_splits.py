"""Splits: nobody trains on what the test asks."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracetune.errors import DataError
from tracetune.near import shingles, similarity
from tracetune.records import Example, Message, Preference, make_example, make_preference
from tracetune.splits import (
    SplitManifest,
    SplitOptions,
    add_training_rows,
    assign_by_hash,
    assign_by_time,
    verify,
)
from tracetune.splits_derived import add_derived_rows, fitted_groups

CUT = datetime(2026, 2, 22, tzinfo=UTC)
OPTIONS = SplitOptions()
WORDS = [f"w{n}" for n in range(400)]


def sentence(seed: int, words: int = 12) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def prompt(text: str) -> list[Message]:
    return [Message(role="system", content="Route."), Message(role="user", content=text)]


def answer(text: str) -> list[Message]:
    return [Message(role="assistant", content=text)]


def row(number: int, *, group: str | None = None, days: float = -3, text: str | None = None):
    return make_example(
        prompt=prompt(text or sentence(number)),
        completion=answer("a"),
        source="phoenix",
        tenant="demo",
        ids={"span_id": f"{number}"},
        group=group or f"g{number}",
        created_at=CUT + timedelta(days=days),
    )


def pair(number: int, *, group: str | None = None, days: float = -3, text: str | None = None):
    return make_preference(
        prompt=prompt(text or sentence(number)),
        chosen=answer("a"),
        rejected=answer("b"),
        source="phoenix",
        tenant="demo",
        ids={"span_id": f"{number}"},
        group=group or f"g{number}",
        created_at=CUT + timedelta(days=days),
    )


def by_time(rows, test_groups=(), options: SplitOptions = OPTIONS, seed: int = 1) -> SplitManifest:
    return assign_by_time(rows, test_start=CUT, test_groups=test_groups, options=options, seed=seed)


def sides(manifest: SplitManifest, rows) -> list[str]:
    return [manifest.place(r.id).reason or manifest.place(r.id).split for r in rows]


def test_test_wins_by_time_session_and_text() -> None:
    text = sentence(99, 14)
    rows = [
        row(1, days=-1e-9),
        row(2, days=0),
        row(3, group="late"),
        row(4, group="late", days=1),
        row(5, group="reaches"),
        row(6, text=text),
        row(7, text=text.upper() + "!", days=2),
        row(8, text=f"{text} {sentence(8, 2)}"),
        pair(9, text=text, group="other"),
    ]
    manifest = by_time(rows, {"reaches"})
    assert sides(manifest, rows) == [
        "train", "test", "same_session", "test", "same_session", "near_test", "test", "near_test",
        "near_test",
    ]  # fmt: skip
    verify(manifest, rows)
    assert manifest.counts == {
        "sft": {"train": 1, "validation": 0, "test": 3, "dropped": 4},
        "pair": {"train": 0, "validation": 0, "test": 0, "dropped": 1},
    }
    assert manifest.dropped["sft"] == {"same_session": 2, "near_test": 2}
    assert manifest.count("pair", "train") == 0
    assert manifest.select(rows, "train") == [rows[0]]


def test_the_threshold_of_near_duplicates() -> None:
    words = sentence(5, 11).split()
    changed = [*words[:-1], "changed"]
    a, b = shingles(" ".join(words), 3), shingles(" ".join(changed), 3)
    assert similarity(a, b) == 8 / 10
    rows = [row(1, text=" ".join(words)), row(2, text=" ".join(changed), days=1)]
    assert sides(by_time(rows), rows) == ["near_test", "test"]
    looser = SplitOptions(near_duplicate=0.81)
    assert sides(by_time(rows, options=looser), rows) == ["train", "test"]


@pytest.mark.parametrize(("rows", "validation"), [(100, 0), (101, 10)])
def test_validation_only_above_a_hundred_rows(rows: int, validation: int) -> None:
    made = [row(n) for n in range(rows)]
    assert by_time(made).count("sft", "validation") == validation


def test_pairs_of_validation_sessions_are_validation_too() -> None:
    rows = [f(n, group=f"g{n // 3}") for n in range(240) for f in (row, pair)]
    manifest = by_time(rows)
    verify(manifest, rows)
    assert manifest.count("sft", "validation") == 24
    assert manifest.count("pair", "validation") == 24


def test_another_seed_draws_other_rows() -> None:
    rows = [row(n) for n in range(200)]
    chosen = [{r.id for r in by_time(rows, seed=s).select(rows, "validation")} for s in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_near_duplicates_never_straddle_training_and_validation() -> None:
    rows = [row(n, text=f"{sentence(n // 4, 20)} {n}") for n in range(400)]
    manifest = by_time(rows)
    verify(manifest, rows)
    assert manifest.count("sft", "validation") == 40
    split_of = [manifest.place(r.id).split for r in rows]
    assert all(len(set(split_of[n : n + 4])) == 1 for n in range(0, 400, 4))


def test_data_without_time_is_divided_by_whole_clusters() -> None:
    rows = [row(n, group=f"g{n // 2}") for n in range(300)]
    manifest = assign_by_hash(rows, test_share=0.2, options=OPTIONS, seed=3)
    verify(manifest, rows)
    assert manifest.counts["sft"] == {"train": 216, "validation": 24, "test": 60, "dropped": 0}
    assert manifest.test_start is None


@pytest.mark.parametrize("method", ["time", "hash"])
def test_no_rows_at_all(method: str) -> None:
    empty: list[Example | Preference] = []
    if method == "time":
        manifest = by_time(empty)
    else:
        manifest = assign_by_hash(empty, test_share=0.2, options=OPTIONS, seed=1)
    verify(manifest, empty)
    assert manifest.counts == {}


def test_rows_without_time_or_with_the_same_id_are_refused() -> None:
    with pytest.raises(DataError, match="stand twice"):
        by_time([row(1), row(1)])
    timeless = make_example(
        prompt=prompt("x"), completion=answer("a"), source="cli", tenant="demo", ids={},
        group="g", created_at=None,
    )  # fmt: skip
    with pytest.raises(DataError, match="no time"):
        by_time([timeless])


def test_a_manifest_survives_json() -> None:
    manifest = by_time([row(1), row(2, days=1)])
    assert SplitManifest.model_validate(manifest.model_dump(mode="json")) == manifest


def moved(manifest: SplitManifest, row_id: str, split: str) -> SplitManifest:
    document = manifest.model_dump(mode="json")
    document["rows"][row_id] |= {"split": split, "reason": None}
    return SplitManifest.model_validate(document)


def test_verify_names_the_rows_of_a_manipulated_manifest() -> None:
    text = sentence(77, 14)
    rows = [row(n) for n in range(150)] + [
        row(200, days=1, text=text),
        row(201, text=text + " again"),
        row(202, group="s"),
        row(203, group="s", days=1),
        pair(204, days=2),
        row(205, group="v"),
        row(206, group="v"),
    ]
    manifest = by_time(rows)
    verify(manifest, rows)
    by_number = {r.provenance.ids["span_id"]: r for r in rows}

    def fails(number: int, split: str, match: str) -> None:
        row_id = by_number[str(number)].id
        with pytest.raises(DataError, match=match) as error:
            verify(moved(manifest, row_id, split), rows)
        assert row_id in str(error.value)

    fails(201, "train", "near-duplicates of a test row")
    fails(201, "validation", "near-duplicates of a test row")
    fails(202, "train", "share a group of a test row")
    fails(200, "train", "start in the test window")
    other = "train" if manifest.place(by_number["205"].id).split == "validation" else "validation"
    with pytest.raises(DataError, match="share a group of a validation row"):
        verify(moved(manifest, by_number["205"].id, other), rows)
    with pytest.raises(DataError, match="does not know"):
        verify(manifest, [*rows, row(999)])
    with pytest.raises(DataError, match="do not exist"):
        verify(manifest, rows[1:])
    with pytest.raises(DataError, match="does not know"):
        manifest.select([row(999)], "train")


def test_verify_finds_the_same_content_under_another_group() -> None:
    rows = [row(1, text="w w"), row(2, text="x x", days=1)]
    manifest = by_time(rows)
    twin = make_example(
        prompt=rows[1].prompt, completion=rows[1].completion, source="phoenix", tenant="demo",
        ids={"span_id": "3"}, group="elsewhere", created_at=CUT - timedelta(days=1),
    )  # fmt: skip
    document = manifest.model_dump(mode="json")
    document["rows"][twin.id] = {"split": "train", "reason": None, "group": "elsewhere"}
    with pytest.raises(DataError, match="have the content of a test row"):
        verify(SplitManifest.model_validate(document), [*rows, twin])


ROWS = st.lists(
    st.tuples(
        st.sampled_from([row, pair]),
        st.integers(0, 7),
        st.sampled_from([-9, -2, 0, 3]),
        st.integers(0, 12),
        st.sampled_from(["", " please", " now ok"]),
    ),
    max_size=160,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.booleans(), st.integers(0, 3))
def test_any_rows_are_divided_cleanly_and_whatever_their_order(
    drawn, shuffle: random.Random, timed: bool, seed: int
) -> None:
    rows = [
        make(n, group=f"g{group}-{n % 5}", days=days, text=sentence(text, 9) + tail)
        for n, (make, group, days, text, tail) in enumerate(drawn)
    ]

    def assign(some) -> SplitManifest:
        if timed:
            return by_time(some, {"g1-1"}, seed=seed)
        return assign_by_hash(some, test_share=0.3, options=OPTIONS, seed=seed)

    manifest = assign(rows)
    verify(manifest, rows)
    assert set(manifest.rows) == {r.id for r in rows}
    assert sum(sum(c.values()) for c in manifest.counts.values()) == len(rows)
    held: dict[str, set[str]] = {}
    for r in rows:
        place = manifest.place(r.id)
        if place.split != "dropped":
            held.setdefault(r.provenance.group, set()).add(place.split)
    assert all(len(found) == 1 for found in held.values())
    shuffle.shuffle(rows)
    assert assign(rows) == manifest


def written(number: int, text: str):
    return make_example(
        prompt=prompt(text),
        completion=answer("a"),
        source="synthetic",
        tenant="demo",
        ids={"item_id": f"{number}"},
        group=f"synthetic:{number}",
        created_at=None,
    )


def test_written_rows_are_trained_on_and_never_held_out():
    real = [row(n) for n in range(150)] + [row(n, days=1) for n in range(200, 220)]
    manifest = by_time(real)
    held = {r.id for r in real if manifest.place(r.id).split == "validation"}
    assert held
    near_validation = next(r for r in real if r.id in held).prompt[-1].content
    added = [
        written(1, sentence(900)),
        written(2, sentence(205) + " please"),
        written(3, near_validation),
    ]
    joined = add_training_rows(manifest, real, added)
    assert [(joined.place(r.id).split, joined.place(r.id).reason) for r in added] == [
        ("train", None),
        ("dropped", "near_test"),
        ("dropped", "near_validation"),
    ]
    assert {r.id: joined.place(r.id) for r in real} == {r.id: manifest.place(r.id) for r in real}
    assert joined.count("sft", "train") == manifest.count("sft", "train") + 1
    verify(joined, [*real, *added])
    assert add_training_rows(manifest, real, []) == manifest


def test_a_written_row_that_was_moved_to_the_test_side_is_found():
    real, added = [row(n) for n in range(5)], [written(1, sentence(900))]
    joined = add_training_rows(by_time(real), real, added)
    place = joined.rows[added[0].id].model_copy(update={"split": "test"})
    forged = joined.model_copy(update={"rows": {**joined.rows, added[0].id: place}})
    with pytest.raises(DataError, match="have no time and can only be trained on"):
        verify(forged, [*real, *added])


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(120, 200))
def test_rows_made_from_others_stand_where_those_stand(seed, count):
    real = [row(n) for n in range(count)]
    manifest = assign_by_hash(real, test_share=0.1, options=OPTIONS, seed=seed)
    pairs = [pair(n) for n in range(count)]
    origin = {made.id: of.id for made, of in zip(pairs, real, strict=True)}
    joined = add_derived_rows(manifest, pairs, origin)
    assert sides(joined, pairs) == sides(manifest, real)
    assert sides(joined, real) == sides(manifest, real)
    assert joined.counts["pair"] == joined.counts["sft"] == manifest.counts["sft"]
    verify(joined, [*real, *pairs])
    assert fitted_groups(joined) == fitted_groups(manifest)
    other = assign_by_hash(real[1:], test_share=0.1, options=OPTIONS, seed=seed)
    assert fitted_groups(other) != fitted_groups(manifest)


def test_a_row_made_from_nothing_known_is_refused():
    manifest = assign_by_hash([row(1)], test_share=0.1, options=OPTIONS, seed=1)
    with pytest.raises(DataError, match="does not know this row"):
        add_derived_rows(manifest, [pair(1)], {pair(1).id: "sft-unknown"})
    with pytest.raises(DataError, match="stands twice"):
        add_derived_rows(manifest, [pair(1), pair(1)], {pair(1).id: row(1).id})
