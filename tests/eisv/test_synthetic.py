"""Synthetic trajectories: their shapes, their making and their seeds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.eisv.shapes import classify
from tracetune.eisv.synthetic import ATTEMPTS, generate, seed_of
from tracetune.eisv.vocabulary import SHAPES
from tracetune.errors import DataError

shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
def test_every_trajectory_has_its_shape(shape):
    for n in (3, 4, 10, 20):
        for dt in (0.5, 1.0, 2.0):
            for seed in range(12):
                window = generate(shape, n, dt, seed=seed)
                assert classify(window) == shape
                assert len(window) == n
                assert ((window.values >= 0) & (window.values <= 1)).all()
                assert (window.values[:, 3] <= 0.31).all()
                assert (window.drift is not None) == (shape == "drift_dissonance")


@shapes
def test_the_seed_decides(shape):
    first, again, other = (generate(shape, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first.values, again.values)
    assert np.array_equal(first.t, again.t)
    assert not np.array_equal(first.values, other.values)


@pytest.mark.parametrize(
    ("shape", "duration"),
    [("rising_entropy", 14.17), ("falling_energy", 3.45), ("void_rising", 4.17)],
)
def test_three_shapes_need_short_windows(shape, duration):
    assert generate(shape, seed=1).duration == pytest.approx(duration, abs=0.01)
    assert generate(shape, dt=0.01, seed=1).duration == pytest.approx(0.19)
    rest = set(SHAPES) - {"rising_entropy", "falling_energy", "void_rising"}
    assert {generate(name, seed=1).duration for name in rest} == {19.0}


def test_recipes():
    settled = generate("settled_presence", seed=3).values
    assert (settled == settled[0]).all()
    assert ((settled[0] >= [0.65, 0.60, 0.15, 0.05]) & (settled[0] <= [0.8, 0.75, 0.25, 0.1])).all()
    down = generate("basin_transition_down", seed=3).values[:, 0]
    assert 0.79 < down[0] < 0.91
    assert 0.04 < down[-1] < 0.56
    spike = generate("entropy_spike_recovery", seed=3).values[:, 2]
    assert 7 <= spike.argmax() <= 13
    assert spike[0] == pytest.approx(spike[-1], abs=0.02)
    drift = generate("drift_dissonance", seed=3)
    assert (drift.drift > 0.3).sum() == 1
    assert drift.drift.argmax() in (9, 10, 11)
    assert (drift.values == drift.values[0]).all()
    falling = generate("falling_energy", seed=3).values[:, 0]
    assert falling[0] - falling[-1] == pytest.approx(0.19, abs=0.01)
    void = generate("void_rising", seed=3).values[:, 3]
    assert void[-1] - void[0] == pytest.approx(0.25, abs=0.01)
    swing = generate("convergence", seed=3).values
    assert 0 < np.abs(swing - swing.mean(axis=0)).max() < 0.05


def test_noise_comes_from_a_generator_of_its_own():
    quiet = np.random.default_rng(5)
    start = 0.8 + quiet.uniform(0, 0.1)
    noise = np.random.default_rng(6).normal(0, 0.002, (20, 4))
    made = generate("basin_transition_down", seed=5).values
    assert made[0, 0] == pytest.approx(start + noise[0, 0])
    assert np.allclose(made[:, 1] - noise[:, 1], made[0, 1] - noise[0, 1])


def test_a_shape_that_no_attempt_reaches_is_an_error():
    with pytest.raises(DataError, match=f"{ATTEMPTS} attempts") as error:
        generate("convergence", dt=1e9, seed=4)
    assert "convergence" in error.value.where
    assert "seed 4" in error.value.where


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": "calm"}, "no shape 'calm'"),
        ({"shape": "convergence", "n_points": 2}, "2 points"),
        ({"shape": "convergence", "dt": 0.0}, "at 0.0 s"),
        ({"shape": "convergence", "dt": float("nan")}, "at nan s"),
        ({"shape": "convergence", "seed": -1}, "the seed -1"),
    ],
)
def test_what_cannot_be_made(arguments, message):
    with pytest.raises(DataError, match=message):
        generate(**{"seed": 0, **arguments})


SEED_RANGE = ATTEMPTS * 7919 + 1
ITEMS = st.tuples(st.sampled_from(SHAPES), st.integers(0, 2**24 - 1))


@given(st.integers(-(2**70), 2**70), st.sets(ITEMS, min_size=2, max_size=8))
def test_no_two_items_share_a_seed_nor_those_of_their_attempts(run_seed, items):
    seeds = sorted(seed_of(run_seed, shape, index) for shape, index in items)
    assert seeds[0] >= 0
    assert seeds[-1] + SEED_RANGE < 2**63
    gaps = [b - a for a, b in pairwise(seeds)]
    assert min(gaps) > SEED_RANGE


def test_seeds_differ_by_run_and_stay_the_same():
    assert seed_of(42, "convergence", 3) == seed_of(42, "convergence", 3)
    assert seed_of(42, "convergence", 3) != seed_of(43, "convergence", 3)
    with pytest.raises(DataError, match="number -1"):
        seed_of(42, "convergence", -1)
    with pytest.raises(DataError, match="no shape"):
        seed_of(42, "calm", 0)
