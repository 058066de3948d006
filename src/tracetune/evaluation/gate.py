"""The gate: may this adapter be promoted, and why."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tracetune.evaluation.names import MEASURES, label, p_value, percent, points, span
from tracetune.evaluation.options import GateOptions


class Check(BaseModel):
    """One condition of the gate.

    Attributes:
        name: Short name, stable for programs.
        value: What was measured; None where nothing was.
        limit: What it was held against.
        passed: Whether the condition holds.
        words: The same as a sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: float | None
    limit: float
    passed: bool
    words: str


class Gate(BaseModel):
    """The verdict; a failed gate is a result, not an error.

    Attributes:
        status: ``unjudged`` if there was nothing to judge.
        promote: All checks passed. Never true when unjudged.
        adapter: Name of the judged adapter, if there is one.
        verdict: One sentence for people.
        checks: The conditions, each with its figures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["judged", "unjudged"]
    promote: bool
    adapter: str | None
    verdict: str
    checks: list[Check] = Field(default_factory=list)


def unjudged(reason: str, adapter: str | None = None) -> Gate:
    """The gate of a run with nothing to judge: a dry run, no adapter, no held-out row."""
    return Gate(status="unjudged", promote=False, adapter=adapter, verdict=f"Not judged: {reason}.")


def decide(metrics: dict[str, Any], options: GateOptions, baselines: tuple[str, ...]) -> Gate:
    """Holds the metrics of an adapter against the three conditions.

    It must be better than the base, by more than chance explains (exact McNemar on right and
    wrong; for text, whose score has steps in between, the interval of the paired bootstrap), and
    not behind the best cheap baseline by more than the margin.

    Args:
        metrics: As :func:`tracetune.evaluation.metrics.compute` gives them.
        options: Level and margin.
        baselines: Names of the cheap baselines among the models.
    """
    adapter, measure, n = metrics["adapter"], metrics["measure"], metrics["n"]
    value = {name: found[measure] for name, found in metrics["models"].items()}
    against_base = metrics["comparisons"]["base"]
    gain = against_base["difference" if measure == "accuracy" else "score_difference"]
    cheap = max((name for name in baselines if name in value), key=lambda name: value[name])
    floor = value[cheap] - options.margin
    checks = [
        Check(
            name="better_than_base",
            value=gain,
            limit=0.0,
            passed=gain > 0,
            words=f"{MEASURES[measure]} {percent(value[adapter])} against "
            f"{percent(value['base'])} of the base on {n} held-out rows: {points(gain)}",
        ),
        _significance(against_base, measure, options.alpha),
        Check(
            name="holds_against_cheap",
            value=value[adapter],
            limit=floor,
            # Counts divided by n: a difference of exactly the margin must not fail by rounding.
            passed=value[adapter] >= floor - 1e-9,
            words=f"the best cheap baseline, {label(cheap)}, reaches {percent(value[cheap])}; "
            f"the adapter with {percent(value[adapter])} must reach {percent(floor)} "
            f"(margin {options.margin * 100:g} points)",
        ),
    ]
    return Gate(
        status="judged",
        promote=all(check.passed for check in checks),
        adapter=adapter,
        verdict=_verdict(adapter, checks, gain, n),
        checks=checks,
    )


def _significance(against_base: dict[str, Any], measure: str, alpha: float) -> Check:
    if measure == "accuracy":
        p = against_base["p"]
        return Check(
            name="significant",
            value=p,
            limit=alpha,
            passed=p < alpha,
            words=f"exact McNemar {p_value(p)}, must be below {alpha:g} "
            f"({against_base['wins']} rows won, {against_base['losses']} lost)",
        )
    low, high = against_base["score_low"], against_base["score_high"]
    return Check(
        name="significant",
        value=low,
        limit=0.0,
        passed=low > 0,
        words=f"95 % interval of the difference {span(low, high)} points (paired bootstrap over "
        "groups), must lie above 0",
    )


def _verdict(adapter: str, checks: list[Check], gain: float, n: int) -> str:
    failed = [check for check in checks if not check.passed]
    if not failed:
        return (
            f"Promote: the {label(adapter)} is {gain * 100:.1f} points better than the base on {n} "
            f"held-out rows ({_how_sure(checks[1])}) and holds against the cheap baselines."
        )
    return (
        f"Do not promote the {label(adapter)}: "
        + "; ".join(_REASONS[check.name] + f" ({check.words})" for check in failed)
        + "."
    )


def _how_sure(check: Check) -> str:
    return p_value(check.value) if check.limit else f"at least {points(check.value)} at 95 %"


_REASONS = {
    "better_than_base": "it is not better than the base",
    "significant": "the difference to the base may be chance",
    "holds_against_cheap": "a cheap baseline does better",
}
