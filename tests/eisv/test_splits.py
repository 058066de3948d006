"""Splits of windows: no state on two sides, a gap between them, every shape where possible."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.project import ROOT
from tracetune.eisv.anima_db import AnimaDatabase
from tracetune.eisv.examples import examples_of
from tracetune.eisv.options import WindowOptions
from tracetune.eisv.prompt import VARIANTS
from tracetune.eisv.windows import trajectories_of
from tracetune.errors import DataError
from tracetune.records import (
    EisvState,
    EisvTrajectory,
    Message,
    make_eisv_trajectory,
    make_example,
    window_ids,
)
from tracetune.splits import SplitManifest, assign_by_block, verify
from tracetune.splits_blocks import BlockOptions, Placed, Unit, block_report, touching
from tracetune.splits_search import TEST, TRAIN, VALIDATION, Costs, choose_blocks

OPTIONS = BlockOptions()
RARE = ("void_rising", "falling_energy", "basin_transition_up")


def measured(start: float, *, shape="settled_presence", size=20, step=1.0, series="lumen"):
    states = [
        EisvState(t=start + i * step, E=0.5, I=0.5, S=0.2, V=(start + i) % 7 / 100)
        for i in range(size)
    ]
    end = states[-1].t
    return make_eisv_trajectory(
        states=states,
        shape=shape,
        origin="lumen_real",
        source="eisv",
        tenant="demo",
        ids=window_ids(series, start, end),
        group=f"{series}:{start}-{end}",
        created_at=None,
    )


def generated(index: int, shape: str, *, group: str | None = None):
    return make_eisv_trajectory(
        states=[EisvState(t=float(i), E=0.5, I=0.5, S=0.2, V=index / 10_000) for i in range(4)],
        shape=shape,
        origin="synthetic",
        source="eisv",
        tenant="demo",
        ids={"seed": "1", "index": str(index)},
        group=group or f"synthetic:{shape}:{index}",
        created_at=None,
    )


def example(row: EisvTrajectory, text: str, answer: str = "a"):
    return make_example(
        prompt=[Message(role="user", content=text)],
        completion=[Message(role="assistant", content=answer)],
        source="eisv",
        tenant="demo",
        ids={**row.provenance.ids, "variant": "full", "answer": answer},
        group=row.provenance.group,
        created_at=None,
        tags=row.tags,
    )


def placed(manifest: SplitManifest) -> dict[str, Placed]:
    return {i: (place.split, place.reason) for i, place in manifest.rows.items()}


def series(count: int, stride: int = 10) -> list[EisvTrajectory]:
    """Windows that overlap by half, every tenth of a rare shape."""
    return [
        measured(float(n * stride), shape=RARE[n // 10 % 3] if n % 10 == 3 else "convergence")
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def rows() -> list[EisvTrajectory]:
    return series(400)


@pytest.fixture(scope="module")
def manifest(rows) -> SplitManifest:
    return assign_by_block(rows, options=OPTIONS, seed=7)


def test_blocks_keep_their_shares_and_their_distance(rows, manifest) -> None:
    counts = manifest.counts["eisv"]
    assert manifest.method == "block"
    assert counts["test"] == 40
    assert 34 <= counts["validation"] <= 40
    assert counts["train"] >= 290
    assert manifest.dropped["eisv"] == {
        "same_session": 0,
        "near_test": 0,
        "gap": counts["dropped"],
    }
    sides = {row.id: manifest.place(row.id).split for row in rows}
    for one, other in combinations(rows, 2):
        if "dropped" not in (sides[one.id], sides[other.id]) and sides[one.id] != sides[other.id]:
            distance = max(other.t_start - one.t_end, one.t_start - other.t_end)
            assert distance >= 19  # the length of a window
    verify(manifest, rows)


def test_every_shape_is_on_every_side(rows, manifest) -> None:
    for split in ("train", "validation", "test"):
        assert set(RARE) <= {row.shape for row in manifest.select(rows, split)}, split


def test_the_same_seed_gives_the_same_manifest_in_any_order(rows, manifest) -> None:
    assert assign_by_block(rows[::-1], options=OPTIONS, seed=7) == manifest
    again = SplitManifest.model_validate(manifest.model_dump(mode="json"))
    assert again == manifest
    assert isinstance(again.options, BlockOptions)


def test_a_shared_state_is_found_again(rows, manifest) -> None:
    test = next(row for row in rows if manifest.place(row.id).split == "test")
    gap = next(
        row
        for row in rows
        if manifest.place(row.id).reason == "gap" and abs(row.t_start - test.t_start) < 40
    )
    moved = dict(manifest.rows)
    moved[gap.id] = moved[gap.id].model_copy(update={"split": "train", "reason": None})
    with pytest.raises(DataError, match=r"share states with a test row|nearer than the gap"):
        verify(manifest.model_copy(update={"rows": moved}), rows)


@pytest.mark.parametrize(
    ("start", "message"), [(19.0, "share states"), (20.0, "nearer than the gap"), (38.0, None)]
)
def test_where_sharing_ends_and_the_gap_begins(start: float, message: str | None) -> None:
    one, other = measured(0.0), measured(start)
    base = assign_by_block([one, other], options=OPTIONS, seed=1)
    place = base.rows[other.id].model_copy(update={"split": "test"})
    changed = base.model_copy(update={"rows": {**base.rows, other.id: place}})
    if message is None:
        verify(changed, [one, other])
    else:
        with pytest.raises(DataError, match=message):
            verify(changed, [one, other])


def test_windows_of_other_series_share_nothing() -> None:
    one, other = measured(0.0), measured(0.0, series="another", step=1.001)
    base = assign_by_block([one, other], options=OPTIONS, seed=1)
    place = base.rows[other.id].model_copy(update={"split": "test"})
    verify(base.model_copy(update={"rows": {**base.rows, other.id: place}}), [one, other])


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (10, (8, 1, 1)), (50, (40, 5, 5))],
)
def test_generated_rows_are_drawn_within_their_shape(count: int, wanted) -> None:
    rows = [generated(i, shape) for i in range(count) for shape in RARE]
    manifest = assign_by_block(rows, options=OPTIONS, seed=3)
    for shape in RARE:
        sides = Counter(manifest.place(row.id).split for row in rows if row.shape == shape)
        assert tuple(sides[name] for name in ("train", "validation", "test")) == wanted
    report = block_report(rows, placed(manifest), OPTIONS)
    assert report["only_trained"] == (sorted(RARE) if count < 3 else [])
    assert report["untested"] == report["only_trained"]
    verify(manifest, rows)


def test_the_report_tells_stretches_and_shapes(rows, manifest) -> None:
    both = [*rows, *(generated(i, "drift_dissonance") for i in range(10))]
    manifest = assign_by_block(both, options=OPTIONS, seed=7)
    report = block_report(both, placed(manifest), OPTIONS)
    assert report["gap_s"] == {"lumen": 19.0}
    assert report["shapes"]["drift_dissonance"] == {
        "synthetic": {"train": 8, "validation": 1, "test": 1, "dropped": 0}
    }
    kept = sum(stretch["windows"] for stretch in report["blocks"])
    assert kept == 400 - manifest.counts["eisv"]["dropped"]
    for one, other in zip(report["blocks"], report["blocks"][1:], strict=False):
        assert one["side"] != other["side"]
        assert other["from"] - one["to"] >= 19


def test_examples_follow_their_windows_and_equal_questions_are_dropped() -> None:
    windows = [generated(i, "convergence") for i in range(30)]
    rows = [example(row, f"window {n}", a) for n, row in enumerate(windows) for a in "ab"]
    manifest = assign_by_block(rows, options=OPTIONS, seed=5)
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert manifest.place(one.id) == manifest.place(other.id)
    tested = next(row for row in rows if manifest.place(row.id).split == "test")
    trained = next(n for n, row in enumerate(rows) if manifest.place(row.id).split == "train")
    rows[trained] = example(windows[trained // 2], tested.prompt[0].content, "c")
    again = assign_by_block(rows, options=OPTIONS, seed=5)
    assert again.place(rows[trained].id).reason == "near_test"
    assert again.place(rows[trained ^ 1].id).reason == "near_test"  # the window goes as a whole
    verify(again, rows)
    place = again.place(rows[trained].id).model_copy(update={"split": "train", "reason": None})
    changed = again.model_copy(update={"rows": {**again.rows, rows[trained].id: place}})
    with pytest.raises(DataError, match="ask the same as a test row"):
        verify(changed, rows)


def test_one_manifest_serves_all_variants_of_a_prompt() -> None:
    base = AnimaDatabase(ROOT / "data/01_raw/demo/eisv/demo.db").read()
    windows, _ = trajectories_of(base, WindowOptions(), tenant="demo")
    rows = [one for variant in VARIANTS for one in examples_of(windows, variant=variant, seed=1)[0]]
    manifest = assign_by_block(rows, options=OPTIONS, seed=1)
    verify(manifest, rows)
    by_window: dict[str, set[Placed]] = {}
    for one in rows:
        place = manifest.place(one.id)
        by_window.setdefault(one.provenance.group, set()).add((place.split, place.reason))
    assert len(by_window) == len(windows)
    assert all(len(places) == 1 for places in by_window.values())


def test_rows_that_hide_their_window_are_refused() -> None:
    row = measured(0.0)
    bare = make_example(
        prompt=[Message(role="user", content="q")],
        completion=[Message(role="assistant", content="a")],
        source="eisv",
        tenant="demo",
        ids={},
        group="g",
        created_at=None,
        tags=row.tags,
    )
    with pytest.raises(DataError, match="says nothing of 'series'"):
        assign_by_block([bare], options=OPTIONS, seed=1)
    with pytest.raises(DataError, match="differ in series or shape"):
        assign_by_block(
            [generated(1, "convergence", group="g"), generated(2, "void_rising", group="g")],
            options=OPTIONS,
            seed=1,
        )
    with pytest.raises(DataError, match="row ids stand twice"):
        assign_by_block([row, row], options=OPTIONS, seed=1)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing to train on"):
        BlockOptions(test_share=0.5, validation_share=0.5)
    rows = [generated(i, "convergence") for i in range(3)]
    with pytest.raises(DataError, match="cannot be divided"):
        assign_by_block(rows, options=BlockOptions(test_share=0.6), seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_a_shape_of_three_windows_is_on_all_three_sides(seed: int) -> None:
    counts = np.zeros((20, 2))
    counts[:, 0] = 10
    counts[[4, 11, 17], 1] = 1
    costs = Costs(counts=counts, lost=np.ones(19), shares=(0.1, 0.1), fewest=3)
    sides = choose_blocks(costs, (2, 2), seed)
    assert sorted(sides[[4, 11, 17]].tolist()) == [TRAIN, VALIDATION, TEST]
    assert np.bincount(sides).tolist() == [16, 2, 2]


SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8)


@given(one=SPANS, other=SPANS, gap=st.sampled_from([None, 0.5, 3.0, 12.0]))
def test_nearness_is_that_of_every_pair(one, other, gap: float | None) -> None:
    def units(spans) -> list[Unit]:
        return [Unit("g", "s", "lumen", float(t), float(t + d), ()) for t, d in spans]

    def near(a: Unit, b: Unit) -> bool:
        distance = max(b.start - a.end, a.start - b.end)
        return distance <= 0 if gap is None else distance < gap

    wanted = [any(near(a, b) for b in units(other)) for a in units(one)]
    assert touching(units(one), units(other), gap).tolist() == wanted


@settings(max_examples=40)
@given(
    steps=st.lists(st.sampled_from([10.0, 10.0, 10.0, 20.0, 500.0]), min_size=1, max_size=60),
    shapes=st.randoms(use_true_random=False),
    blocks=st.integers(3, 12),
    gap=st.sampled_from([1.0, 1.5, 3.0]),
    seed=st.integers(0, 99),
)
def test_no_side_ever_shares_a_state(steps, shapes, blocks: int, gap: float, seed: int) -> None:
    start, rows = 0.0, []
    for step in steps:
        rows.append(measured(start, shape=shapes.choice([*RARE, "convergence"])))
        start += step
    options = BlockOptions(blocks=blocks, gap_windows=gap)
    manifest = assign_by_block(rows, options=options, seed=seed)
    verify(manifest, rows)
    sides: dict[str, set[float]] = {"train": set(), "validation": set(), "test": set()}
    for row in rows:
        split = manifest.place(row.id).split
        if split != "dropped":
            sides[split] |= {state.t for state in row.states}
    assert not sides["train"] & sides["test"]
    assert not sides["train"] & sides["validation"]
    assert not sides["validation"] & sides["test"]
