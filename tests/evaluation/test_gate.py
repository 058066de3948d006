"""The gate as a table of cases."""

from __future__ import annotations

from typing import Any

import pytest

from tracetune.evaluation.baselines import BASELINES
from tracetune.evaluation.gate import decide, unjudged
from tracetune.evaluation.options import GateOptions
from tracetune.evaluation.statistics import mcnemar_exact


def metrics(n: int, wins: int, losses: int, base: int, nearest: int) -> dict[str, Any]:
    """Metrics of ``n`` rows: ``base`` right by the base, wins and losses of the adapter."""
    right = {"base": base, "dpo": base + wins - losses, "majority": 1, "nearest": nearest}
    return {
        "adapter": "dpo",
        "measure": "accuracy",
        "n": n,
        "models": {model: {"accuracy": count / n} for model, count in right.items()},
        "comparisons": {
            "base": {
                "difference": (wins - losses) / n,
                "p": mcnemar_exact(wins, losses),
                "wins": wins,
                "losses": losses,
            }
        },
    }


@pytest.mark.parametrize(
    ("case", "n", "wins", "losses", "base", "nearest", "failed"),
    [
        ("clear", 100, 30, 2, 50, 70, []),
        ("just significant", 100, 6, 0, 60, 50, []),
        ("one row short of it", 100, 5, 0, 60, 50, ["significant"]),
        ("no difference", 100, 0, 0, 60, 50, ["better_than_base", "significant"]),
        ("even", 100, 10, 10, 60, 50, ["better_than_base", "significant"]),
        ("significantly worse", 100, 2, 30, 60, 10, ["better_than_base"]),
        ("behind the neighbour", 100, 30, 2, 50, 90, ["holds_against_cheap"]),
        ("behind by exactly the margin", 100, 30, 2, 50, 83, []),
        ("behind by more", 100, 30, 2, 50, 84, ["holds_against_cheap"]),
        ("tiny set", 3, 3, 0, 0, 0, ["significant"]),
    ],
)
def test_cases(
    case: str, n: int, wins: int, losses: int, base: int, nearest: int, failed: list[str]
) -> None:
    gate = decide(metrics(n, wins, losses, base, nearest), GateOptions(), BASELINES)
    assert [check.name for check in gate.checks if not check.passed] == failed, case
    assert gate.promote == (not failed)
    assert gate.status == "judged"
    assert gate.verdict.startswith("Promote: " if gate.promote else "Do not promote")
    assert all(check.words for check in gate.checks)


def test_limits_are_parameters() -> None:
    found = metrics(100, 6, 0, 60, 70)
    assert decide(found, GateOptions(), BASELINES).promote
    assert not decide(found, GateOptions(alpha=0.01), BASELINES).promote
    assert not decide(found, GateOptions(margin=0.0), BASELINES).promote


def test_unjudged_never_promotes() -> None:
    gate = unjudged("this is a dry run")
    assert (gate.status, gate.promote, gate.checks) == ("unjudged", False, [])
    assert gate.verdict == "Not judged: this is a dry run."
