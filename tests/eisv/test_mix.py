"""Measured rows, filled up with generated ones."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from tests.project import ROOT
from tracetune.eisv.anima_db import AnimaDatabase
from tracetune.eisv.mix import fill_up
from tracetune.eisv.options import EisvDataOptions, MixOptions, WindowOptions
from tracetune.eisv.shapes import classify
from tracetune.eisv.vocabulary import SHAPES
from tracetune.eisv.windows import trajectories_of, window_of
from tracetune.records import EisvTrajectory
from tracetune.splits import assign_by_block, verify
from tracetune.splits_blocks import BlockOptions


@pytest.fixture(scope="module")
def measured() -> list[EisvTrajectory]:
    base = AnimaDatabase(ROOT / "data/01_raw/demo/eisv/demo.db").read()
    return trajectories_of(base, WindowOptions(), tenant="demo")[0]


def test_rare_shapes_are_filled_up_and_common_ones_left(measured) -> None:
    rows, report = fill_up(measured, MixOptions(min_per_shape=12), tenant="demo", seed=1)
    assert rows[: len(measured)] == measured
    before, after = (Counter(row.shape for row in some) for some in (measured, rows))
    for shape in SHAPES:
        assert after[shape] == max(12, before[shape])
        assert report["shapes"][shape] == {
            "measured": before[shape],
            "given": 0,
            "generated": after[shape] - before[shape],
        }
    made = rows[len(measured) :]
    assert {row.origin for row in made} == {"synthetic"}
    assert all(classify(window_of(row)) == row.shape for row in made)
    drifting = [row for row in made if row.shape == "drift_dissonance"]
    assert all(window_of(row).drift is not None for row in drifting)


def test_seeds_are_never_shared_and_decide_everything() -> None:
    options = MixOptions(min_per_shape=5)
    rows, _ = fill_up([], options, tenant="demo", seed=1)
    assert len({row.provenance.ids["seed"] for row in rows}) == len(rows) == 45
    assert len({row.id for row in rows}) == len({row.provenance.group for row in rows}) == 45
    assert fill_up([], options, tenant="demo", seed=1)[0] == rows
    other, _ = fill_up([], options, tenant="demo", seed=2)
    assert not {row.id for row in rows} & {row.id for row in other}


def test_generated_windows_have_the_length_asked_for() -> None:
    options = MixOptions(min_per_shape=1, points=7, interval_s=0.5)
    rows, _ = fill_up([], options, tenant="demo", seed=1)
    assert {len(row.states) for row in rows} == {7}
    assert max(row.t_end for row in rows) == 3.0


def test_filled_up_rows_are_divided_and_verified(measured) -> None:
    rows, _ = fill_up(measured, MixOptions(), tenant="demo", seed=1)
    manifest = assign_by_block(rows, options=BlockOptions(), seed=1)
    verify(manifest, rows)
    tested = {row.shape for row in manifest.select(rows, "test")}
    assert tested == set(SHAPES)
    counts = manifest.counts["eisv"]
    assert counts["test"] == pytest.approx(len(rows) / 10, abs=5)
    assert counts["validation"] == pytest.approx(len(rows) / 10, abs=5)
    assert counts["dropped"] < len(rows) / 20


def test_parameters_that_give_nothing_are_refused() -> None:
    assert EisvDataOptions().source == "anima"
    with pytest.raises(ValidationError, match="without a source"):
        EisvDataOptions(source="none", mix=MixOptions(min_per_shape=0))
    for wrong in ({"points": 2}, {"min_per_shape": -1}, {"interval_s": 0.0}, {"per_shape": 5}):
        with pytest.raises(ValidationError):
            MixOptions.model_validate(wrong)
    for wrong in ({"size": 1}, {"stride": 0}, {"max_gap_s": 0.0}, {"max_gap_s": float("inf")}):
        with pytest.raises(ValidationError):
            WindowOptions.model_validate(wrong)
