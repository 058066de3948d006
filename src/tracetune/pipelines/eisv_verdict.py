"""The verdict of ``eisv`` on the released teacher: each condition with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracetune.eisv.gates import (
    COHERENCE_BAR,
    DECIDING_TEMPERATURE,
    DECIDING_VARIANT,
    MARGIN,
    VALID_BAR,
    HonestVerdict,
    Verdict,
    reasons_of,
    shown,
)
from tracetune.eisv.judge import TEACHER, Judgement
from tracetune.eisv.score import Scores
from tracetune.evaluation.gate import Check, Gate, unjudged
from tracetune.evaluation.names import percent
from tracetune.evaluation.report import number
from tracetune.pipelines.eisv_figures import temperature_name

Document = dict[str, Any]
Pairs = Sequence[tuple[Scores, Verdict]]


def gate_of(found: Judgement, candidates: Document) -> Gate:
    """Both gates as the verdict on the released teacher: it takes both to be promoted."""
    if candidates["judged"] is None:
        return unjudged(candidates["reason"] or "there is no held-out window")
    of_teacher = [
        (one, verdict)
        for one, verdict in zip(found.scores, found.gate1, strict=True)
        if (one.model, one.variant) == (TEACHER, candidates["judged"])
    ]
    if not of_teacher:
        why = candidates["unasked"] or "there is no held-out window"
        return unjudged(why, candidates["judged"])
    gates = {
        "gate 1": any(verdict.passed for _, verdict in of_teacher),
        "honest gate": found.honest.verdict.passed,
    }
    failed = [name for name, passed in gates.items() if not passed]
    verdict = (
        "Promote: Gate 1 holds at a temperature that is named, and the shape is recognised from "
        "the numbers alone."
        if not failed
        else f"Do not promote: {' and '.join(failed)} {'fails' if len(failed) == 1 else 'fail'}."
    )
    return Gate(
        status="judged",
        promote=not failed,
        adapter=candidates["judged"],
        verdict=verdict,
        checks=[*_gate_1(of_teacher), *_honest_gate(found.honest)],
    )


def _gate_1(of_teacher: Pairs) -> list[Check]:
    """Both conditions at one temperature: one that passes, else that with most valid answers."""
    passed = [one for one, verdict in of_teacher if verdict.passed]
    one = passed[0] if passed else max((s for s, _ in of_teacher), key=lambda s: s.valid_rate.mean)
    coherence = None if one.coherence is None else one.coherence.mean
    at = " and ".join(temperature_name(each.temperature) for each in passed)
    every = ", ".join(
        f"{temperature_name(each.temperature)}: coherence "
        f"{number(each.coherence.mean if each.coherence else None)}, "
        f"valid {percent(each.valid_rate.mean)}"
        for each, _ in of_teacher
    )
    here = temperature_name(one.temperature)
    return [
        Check(
            name="gate_1_coherence",
            value=coherence,
            limit=COHERENCE_BAR,
            passed=coherence is not None and coherence > COHERENCE_BAR,
            words=f"{here}: {number(coherence)}, must be above {COHERENCE_BAR}; Gate 1 is passed "
            f"at {at or 'no temperature'} ({every})",
        ),
        Check(
            name="gate_1_valid_rate",
            value=one.valid_rate.mean,
            limit=VALID_BAR,
            passed=one.valid_rate.mean >= VALID_BAR,
            words=f"{here}: {percent(one.valid_rate.mean)} of the answers, must be at least "
            f"{VALID_BAR:.0%}",
        ),
    ]


def _honest_gate(honest: HonestVerdict) -> list[Check]:
    """Both conditions of the trial that decides; their intervals decide by their lower ends."""
    trial = next(
        (
            one
            for one in honest.trials
            if (one.variant, one.temperature) == (DECIDING_VARIANT, DECIDING_TEMPERATURE)
        ),
        None,
    )
    why = {} if trial is None else reasons_of(trial)
    nothing = "; ".join(honest.verdict.reasons)
    return [
        Check(
            name="honest_gate_gain",
            value=None if trial is None else trial.gain.low,
            limit=0.0,
            passed=trial is not None and trial.recognised,
            words=nothing
            if trial is None
            else why.get("gain")
            or "answers fit their own shape better than the shapes of other rows: gain "
            f"{shown(trial.gain)}, its lower end must lie above 0",
        ),
        Check(
            name="honest_gate_difference",
            value=None if trial is None else trial.difference.low,
            limit=-MARGIN,
            passed=trial is not None and trial.not_worse,
            words=nothing
            if trial is None
            else why.get("difference")
            or "answers are about as good as a classifier on the same numbers: difference "
            f"{shown(trial.difference)}, its lower end must lie above -{MARGIN:.2f}",
        ),
    ]
