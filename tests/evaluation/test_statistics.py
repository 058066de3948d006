"""Statistics against scipy, against figures worked out by hand, and by their properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracetune.evaluation import statistics

COUNTS = st.integers(min_value=0, max_value=300)
SHARES = st.floats(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (5, 0, 0.0625),  # 2 / 32
        (6, 0, 0.03125),  # 2 / 64
        (3, 1, 0.625),  # 2 * (1 + 4) / 16
        (8, 2, 0.109375),  # 2 * (1 + 10 + 45) / 1024
        (4, 4, 1.0),
    ],
)
def test_mcnemar_by_hand(b: int, c: int, p: float) -> None:
    assert statistics.mcnemar_exact(b, c) == p


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert statistics.mcnemar_exact(b, c) == pytest.approx(expected, abs=1e-12)


@given(COUNTS, COUNTS)
def test_mcnemar_is_symmetric_and_a_probability(b: int, c: int) -> None:
    p = statistics.mcnemar_exact(b, c)
    assert p == statistics.mcnemar_exact(c, b)
    assert 0 < p <= 1


def test_mcnemar_of_many_rows_does_not_overflow() -> None:
    assert 0 <= statistics.mcnemar_exact(5000, 4000) < 1e-20


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="negative"):
        statistics.mcnemar_exact(-1, 3)


@pytest.mark.parametrize(("alpha", "rows"), [(0.05, 6), (0.01, 8), (0.001, 11)])
def test_fewest_rows_that_can_show_anything(alpha: float, rows: int) -> None:
    assert statistics.smallest_one_way(alpha) == rows


@given(st.integers(min_value=0, max_value=120), st.sampled_from([0.05, 0.01]))
def test_fewest_wins_is_the_edge_of_significance(discordant: int, alpha: float) -> None:
    wins = statistics.fewest_wins(discordant, alpha)
    if wins is None:
        assert statistics.mcnemar_exact(discordant, 0) >= alpha
        return
    assert statistics.mcnemar_exact(wins, discordant - wins) < alpha
    assert wins > discordant - wins
    fewer = wins - 1
    assert statistics.mcnemar_exact(fewer, discordant - fewer) >= alpha or fewer * 2 <= discordant


def test_detectable_difference_has_the_stated_power() -> None:
    from scipy.stats import binom

    n, discordant = 100, 30
    found = statistics.detectable_difference(n, discordant)
    assert found is not None
    share = (found * n / discordant + 1) / 2
    power = sum(
        binom.pmf(wins, discordant, share)
        for wins in range(discordant + 1)
        if wins > discordant - wins and statistics.mcnemar_exact(wins, discordant - wins) < 0.05
    )
    assert power == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("discordant", [0, 1, 5])
def test_too_few_differences_show_nothing(discordant: int) -> None:
    assert statistics.detectable_difference(50, discordant) is None


@given(st.integers(min_value=1, max_value=500), st.data())
def test_wilson_equals_scipy(n: int, data: st.DataObject) -> None:
    from scipy.stats import binomtest

    successes = data.draw(st.integers(min_value=0, max_value=n))
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    found = statistics.wilson_interval(successes, n)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nothing() -> None:
    assert statistics.wilson_interval(0, 0) is None


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40),
    st.integers(min_value=0, max_value=2**31),
)
def test_bootstrap_is_seeded_and_brackets(values: list[float], seed: int) -> None:
    groups = list(range(len(values)))
    first = statistics.paired_bootstrap(values, groups, draws=100, seed=seed)
    assert first == statistics.paired_bootstrap(values, groups, draws=100, seed=seed)
    assert first is not None
    assert min(values) <= first.low <= first.high <= max(values)
    assert first.mean == pytest.approx(sum(values) / len(values))


def test_bootstrap_is_near_the_normal_interval() -> None:
    values = [1.0] * 60 + [0.0] * 100 + [-1.0] * 40
    found = statistics.paired_bootstrap(values, list(range(200)), draws=4000)
    assert found is not None
    half = 1.96 * math.sqrt((100 / 200 - 0.1**2) / 200)
    assert found.low == pytest.approx(0.1 - half, abs=0.015)
    assert found.high == pytest.approx(0.1 + half, abs=0.015)


def test_bootstrap_draws_whole_sessions() -> None:
    """Turns that always agree carry no more than their session: the interval is wider."""
    values = [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0] * 5
    rows = statistics.paired_bootstrap(values, list(range(40)))
    sessions = statistics.paired_bootstrap(values, [place // 4 for place in range(40)])
    assert rows is not None
    assert sessions is not None
    assert sessions.high - sessions.low > 1.5 * (rows.high - rows.low)


def test_bootstrap_without_rows_and_with_wrong_groups() -> None:
    assert statistics.paired_bootstrap([], []) is None
    with pytest.raises(ValueError, match="one group"):
        statistics.paired_bootstrap([1.0], [])


def test_calibration_by_hand() -> None:
    confidence = [0.95, 0.85, 0.35, 0.32]
    correct = [True, False, True, False]
    # bins: .95 right (gap .05), .85 wrong (gap .85), .335 half right (gap .165, 2 rows)
    assert statistics.calibration_error(confidence, correct) == pytest.approx(
        (0.05 + 0.85 + 2 * 0.165) / 4
    )
    assert statistics.confidence_gap(confidence, correct) == pytest.approx(0.6175 - 0.5)


def test_reliability_edges() -> None:
    bins = statistics.reliability([0.0, 0.1, 0.1000001, 1.0], [True, True, False, True])
    assert [(part.low, part.n) for part in bins] == [(0.0, 2), (0.1, 1), (0.9, 1)]
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.reliability([1.2], [True])


@given(st.lists(st.tuples(SHARES, st.booleans()), min_size=1, max_size=50))
def test_calibration_lies_between_gap_and_one(pairs: list[tuple[float, bool]]) -> None:
    confidence = [pair[0] for pair in pairs]
    correct = [pair[1] for pair in pairs]
    error = statistics.calibration_error(confidence, correct)
    gap = statistics.confidence_gap(confidence, correct)
    assert error is not None
    assert gap is not None
    assert gap - 1e-9 <= error <= 1 + 1e-9


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1), SHARES)
def test_quantile_equals_numpy(values: list[float], share: float) -> None:
    import numpy as np

    assert statistics.quantile(values, share) == pytest.approx(
        float(np.quantile(values, share)), abs=1e-6
    )


def test_perplexity_by_hand() -> None:
    # two answers with 1/2 and 1/8 per token: the geometric mean of 2 and 8
    assert statistics.perplexity([math.log(2), math.log(8)]) == pytest.approx(4.0)
    assert statistics.perplexity([0.0]) == 1.0


def test_figures_of_nothing() -> None:
    assert statistics.perplexity([]) is None
    assert statistics.quantile([], 0.5) is None
    assert statistics.calibration_error([], []) is None
    assert statistics.confidence_gap([], []) is None
