"""What is trained for which numbers of rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.errors import DataError
from tracetune.training.decision import Counts, Decision, Thresholds, choose, demand, missing_rows

KTO = Thresholds(pairs=20, examples=50, ratings=50)
NO_KTO = Thresholds(pairs=20, examples=50)


def counts(pairs: int = 0, examples: int = 0, good: int = 0, bad: int = 0) -> Counts:
    return Counts(pairs=pairs, examples=examples, good=good, bad=bad)


def trained(decision: Decision) -> list[str]:
    return [name for name, stage in decision.stages.items() if stage.train]


@pytest.mark.parametrize(
    ("found", "thresholds", "method", "stages", "confidence"),
    [
        (counts(20, 0), NO_KTO, "dpo", ["sft", "dpo"], 0.5),
        (counts(80, 500), NO_KTO, "dpo", ["sft", "dpo"], 1.0),
        (counts(19, 50), NO_KTO, "sft", ["sft"], 0.5),
        (counts(19, 49, 49, 40), NO_KTO, "insufficient", [], 1.0),
        (counts(19, 49, 49, 40), KTO, "kto", ["kto"], 0.8),
        (counts(0, 0, 300, 24), KTO, "insufficient", [], 1.0),
        (counts(0, 0, 25, 300), KTO, "kto", ["kto"], 0.5),
    ],
)
def test_choices(
    found: Counts, thresholds: Thresholds, method: str, stages: list[str], confidence: float
) -> None:
    decision = choose(found, thresholds, dry_run=False)
    assert (decision.method, trained(decision)) == (method, stages)
    assert decision.confidence == pytest.approx(confidence)
    assert all(stage.reason for stage in decision.stages.values() if not stage.train)


def test_what_is_missing_is_said_per_kind() -> None:
    decision = choose(counts(3, 40, 40, 10), KTO, dry_run=False)
    assert decision.missing == {"pairs": 17, "examples": 10, "ratings": 30}
    for words in ("17 preference pairs", "10 approved rows", "30 rated answers"):
        assert words in decision.reason


def test_a_dry_run_chooses_and_trains_nothing() -> None:
    decision = choose(counts(40, 100), NO_KTO, dry_run=True)
    assert decision.method == "dpo"
    assert [name for name, stage in decision.stages.items() if stage.chosen] == ["sft", "dpo"]
    assert not trained(decision)


def test_a_demanded_method_stops_when_there_is_too_little() -> None:
    with pytest.raises(DataError, match=r"dpo\.min_dpo_pairs.*\n?.*19 preference pairs"):
        demand("dpo", counts(19, 500), NO_KTO, dry_run=False)
    with pytest.raises(DataError, match="49 approved rows"):
        demand("sft", counts(500, 49), NO_KTO, dry_run=False)
    alone = demand("dpo", counts(30), NO_KTO, dry_run=False, with_sft=False)
    assert trained(alone) == ["dpo"]
    assert "base" in alone.stages["sft"].reason


@given(*[st.integers(0, 200)] * 4)
def test_any_counts_give_one_clear_answer(pairs: int, examples: int, good: int, bad: int) -> None:
    found = counts(pairs, examples, good, bad)
    decision = choose(found, KTO, dry_run=False)
    assert 0 < decision.confidence <= 1
    assert (decision.method == "insufficient") == (len(decision.missing) == 3)
    assert all(missing > 0 for missing in decision.missing.values())
    more = choose(counts(pairs + 50, examples, good, bad), KTO, dry_run=False)
    assert more.method == "dpo"


def test_too_little_waits_while_people_have_something_to_approve() -> None:
    decision = choose(counts(3, 40), NO_KTO, dry_run=False, waiting=12)
    assert (decision.method, trained(decision)) == ("waiting", [])
    assert "12 synthetic candidates wait for people" in decision.reason
    assert choose(counts(20, 0), NO_KTO, dry_run=False, waiting=12).method == "dpo"


@pytest.mark.parametrize(
    ("synthetic", "expected"),
    [(0, "no synthetic row"), (10, ""), (50, "there is no real row")],
)
def test_real_rows_are_trained_on_alone_beside_synthetic_ones(
    synthetic: int, expected: str
) -> None:
    found = counts(0, 50).model_copy(update={"synthetic_examples": synthetic})
    real = choose(found, NO_KTO, dry_run=False).stages["real"]
    assert real.train == (expected == "")
    assert expected in real.reason
    assert not choose(found, NO_KTO, dry_run=True).stages["real"].train


@given(
    pairs=st.integers(0, 30), examples=st.integers(0, 60), good=st.integers(0, 40),
    bad=st.integers(0, 40), kto=st.booleans(),
)  # fmt: skip
def test_rows_are_missing_exactly_when_nothing_can_be_trained(
    pairs: int, examples: int, good: int, bad: int, kto: bool
) -> None:
    found, thresholds = counts(pairs, examples, good, bad), KTO if kto else NO_KTO
    none = choose(found, thresholds, dry_run=False).method == "insufficient"
    assert bool(missing_rows(found, thresholds)) == none
