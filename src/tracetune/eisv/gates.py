"""Gate 1 as document 004 defines it, and beside it the question that Gate 1 does not ask.

Gate 1 looks at coherence with the shape that the prompt names, so it can be passed without reading
a trajectory. The honest gate looks at the variants that do not name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from tracetune.eisv.answer import parse_answer
from tracetune.eisv.classifier import one_token_coherence
from tracetune.eisv.coherence import coherence
from tracetune.eisv.imitator import expected_coherence, expected_fit
from tracetune.eisv.score import Interval, Judged, Scores, interval
from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import SHAPE_INDEX, SHAPES
from tracetune.errors import DataError
from tracetune.records import Record

COHERENCE_BAR, VALID_BAR = 0.933, 0.90
DECIDING_VARIANT, DECIDING_TEMPERATURE = "no_shape_no_duration", 1.0
MARGIN = 0.10
"""How far below the bar coherence may lie; at temperature 1 the shape is worth about 0.25."""
SHARPER = 0.05
"""Answers that are sharper than the labels by more than this are held against one token."""

GATE_1_DOES_NOT_SHOW = (
    "That a trajectory was read: the prompt of the variant full names the shape, and a "
    "table of nine lines passes. Coherence also rises as the temperature falls: a perfect "
    "imitator of the labels has about .50 at 1 and about .90 at .3."
)
"""What passing Gate 1 does not show."""

_ROUNDING = 1e-3


class Gate1Results(Record):
    """The results document that Gate 1 reads: the fields of document 004, Task 6.

    Attributes:
        mean_coherence: Over answers in vocabulary; 0 if there are none.
        valid_rate: Answers in vocabulary / all; 0 if there are none.
        pattern_accuracy: Of those in vocabulary that have a pattern to compare with.
        n_total: Answers.
        n_valid: Those in vocabulary.
        per_shape_coherence: Mean coherence of each shape.
        diversity: Distinct tokens / all tokens.
        model: Who answered; not in the document's own files.
        variant: What the prompt showed; likewise.
        temperature: Of decoding; likewise. Gate 1 depends on it (A10.2).
    """

    mean_coherence: float = Field(ge=0, le=1, allow_inf_nan=False)
    valid_rate: float = Field(ge=0, le=1, allow_inf_nan=False)
    pattern_accuracy: float = Field(ge=0, le=1, allow_inf_nan=False)
    n_total: int = Field(ge=0)
    n_valid: int = Field(ge=0)
    per_shape_coherence: dict[str, float]
    diversity: float = Field(ge=0, le=1, allow_inf_nan=False)
    model: str | None = None
    variant: str | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Verdict(Record):
    """What a gate says.

    Attributes:
        gate: ``gate 1`` or ``honest gate``.
        passed: Whether it is passed.
        reasons: Why not; empty if it is passed.
        shows: What passing it shows.
        does_not_show: What passing it does not show.
    """

    gate: str
    passed: bool
    reasons: list[str]
    shows: str
    does_not_show: str


def results_of(scores: Scores) -> Gate1Results:
    """Scores as the document that Gate 1 reads."""
    return Gate1Results(
        mean_coherence=scores.coherence.mean if scores.coherence else 0.0,
        valid_rate=scores.valid_rate.mean,
        pattern_accuracy=scores.pattern_accuracy.mean if scores.pattern_accuracy else 0.0,
        n_total=scores.n,
        n_valid=scores.n_valid,
        per_shape_coherence={
            shape: one.coherence
            for shape, one in scores.per_shape.items()
            if one.coherence is not None
        },
        diversity=scores.diversity or 0.0,
        model=scores.model,
        variant=scores.variant,
        temperature=scores.temperature,
    )


def read_results(path: Path) -> Gate1Results:
    """Reads a results document for Gate 1.

    Args:
        path: A JSON file with the fields of :class:`Gate1Results`.

    Raises:
        DataError: No such file, no JSON, fields missing, unknown or out of range, or a valid rate
            that is not ``n_valid / n_total``.
    """
    remedy = f"give a JSON object with {', '.join(Gate1Results.model_fields)} (last three optional)"
    try:
        found = Gate1Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=str(path), remedy=remedy
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"{place}: {first['msg']}" if place else first["msg"]
        raise DataError(problem, where=str(path), remedy=remedy) from error
    rate = found.n_valid / found.n_total if found.n_total else 0.0
    if found.n_valid > found.n_total or abs(rate - found.valid_rate) > _ROUNDING:
        raise DataError(
            f"valid_rate {found.valid_rate} is not n_valid / n_total = "
            f"{found.n_valid} / {found.n_total}",
            where=str(path),
            remedy="make the results again from the predictions",
        )
    return found


def gate1(results: Gate1Results) -> Verdict:
    """Gate 1: mean coherence strictly above 0.933 and a valid rate of at least 0.90.

    No answers at all fail it.
    """
    reasons = []
    if results.n_total == 0:
        reasons.append("there are no answers")
    if not results.mean_coherence > COHERENCE_BAR:
        reasons.append(
            f"coherence {_number(results.mean_coherence)} is not above {COHERENCE_BAR} "
            f"({results.n_valid} answers in vocabulary)"
        )
    if results.valid_rate < VALID_BAR:
        reasons.append(
            f"valid rate {_number(results.valid_rate)} is below {VALID_BAR:.2f} "
            f"({results.n_valid} of {results.n_total} answers)"
        )
    named = "" if results.temperature is None else f" at temperature {results.temperature:g}"
    return Verdict(
        gate="gate 1",
        passed=not reasons,
        reasons=reasons,
        shows=f"Answers{named} have the form asked for, and their tokens fit the shape of the row.",
        does_not_show=GATE_1_DOES_NOT_SHOW,
    )


def _number(value: float) -> str:
    """Three decimals, or as many as it takes to tell the number from a bar next to it."""
    near = min(abs(value - COHERENCE_BAR), abs(value - VALID_BAR)) < 0.0005
    return repr(value) if near else f"{value:.3f}"


class HonestTrial(Record):
    """Answers to prompts without the shape, against a classifier on the same numbers.

    All means are over all answers; one that is not in vocabulary counts 0.

    Attributes:
        model: Who answered.
        variant: What the prompt showed.
        temperature: Of decoding.
        n: Answers.
        coherence: With the true shape.
        gain: Coherence with the true shape less the mean coherence with the shapes of all rows.
            An answer that does not depend on the window has 0.
        classifier_rules: What the expression rules get at this temperature for the shapes that
            the classifier says.
        classifier_one_token: What the classifier's best single token gets.
        sharpness: Coherence of the answers with whatever shape fits each of them best, less that of
            a perfect imitator of the labels at this temperature.
        bar: Which of the two is the bar: ``rules``, or ``one_token`` if the interval of sharpness
            lies above 0.05, so that the rules are no fair comparison.
        difference: Coherence less the bar, row by row.
        recognised: The interval of ``gain`` lies above 0.
        not_worse: The interval of ``difference`` lies above -0.10.
    """

    model: str
    variant: str
    temperature: float
    n: int
    coherence: Interval
    gain: Interval
    classifier_rules: Interval
    classifier_one_token: Interval
    sharpness: Interval
    bar: str
    difference: Interval
    recognised: bool
    not_worse: bool


class HonestVerdict(Record):
    """The verdict of the honest gate with the numbers behind it."""

    verdict: Verdict
    trials: list[HonestTrial]


def honest_trial(
    rows: Sequence[Judged], predicted: Sequence[str], one_token: Sequence[str], *, seed: int = 17
) -> HonestTrial:
    """Compares answers with the true shape and with a classifier on the same numbers.

    A single answer per window is mostly luck at temperature 1. Several answers to each window, with
    the group of the window, narrow the intervals.

    Args:
        rows: Answers of one model to one variant at one temperature, at least one.
        predicted: The shape that the classifier says, per row.
        one_token: The token that the classifier would answer if it were to answer with one.
        seed: Of the intervals.

    Raises:
        DataError: There are no rows.
    """
    if not rows:
        raise DataError("there are no answers to judge", remedy="generate answers first")
    groups, shapes = [row.group for row in rows], [row.shape for row in rows]
    temperature = rows[0].temperature
    table = _coherence_table(rows)
    own = table[np.arange(len(rows)), [SHAPE_INDEX[shape] for shape in shapes]]
    anyones = table @ np.array([shapes.count(shape) / len(rows) for shape in SHAPES])
    rules = expected_coherence(predicted, shapes, temperature=temperature)
    single = one_token_coherence(one_token, shapes)

    def sure(values: Floats) -> Interval:
        found = interval(values.tolist(), groups, seed=seed)
        assert found is not None  # there are rows
        return found

    sharpness = sure(table.max(axis=1) - expected_fit(shapes, temperature=temperature))
    bar = "one_token" if sharpness.low is None or sharpness.low > SHARPER else "rules"
    difference = sure(own - (single if bar == "one_token" else rules))
    gain = sure(own - anyones)
    return HonestTrial(
        model=rows[0].model,
        variant=rows[0].variant,
        temperature=temperature,
        n=len(rows),
        coherence=sure(own),
        gain=gain,
        classifier_rules=sure(rules),
        classifier_one_token=sure(single),
        sharpness=sharpness,
        bar=bar,
        difference=difference,
        recognised=gain.low is not None and gain.low > 0,
        not_worse=difference.low is not None and difference.low > -MARGIN,
    )


def _coherence_table(rows: Sequence[Judged]) -> Floats:
    """``(rows, 9)`` the coherence of each answer with each shape; 0 if not in vocabulary."""
    answers = [parse_answer(row.answer) for row in rows]
    return np.array(
        [
            [coherence(shape, answer.eisv_tokens) for shape in SHAPES]
            if answer.in_vocabulary
            else [0.0] * len(SHAPES)
            for answer in answers
        ]
    )


def honest_gate(trials: Sequence[HonestTrial]) -> HonestVerdict:
    """Is the shape recognised from the numbers alone?

    Decided by the variant without shape and duration at temperature 1, where decoding adds nothing:
    answers must fit their own shape better than the shapes of other rows, and no worse (by more
    than 0.10) than a classifier on the same numbers. Other trials are shown and decide nothing.

    Args:
        trials: Of one model.

    Raises:
        DataError: Trials of several models.
    """
    models = sorted({trial.model for trial in trials})
    if len(models) > 1:
        raise DataError(
            "the trials are of several models",
            where=", ".join(models),
            remedy="judge each model on its own",
        )
    deciding = [
        trial
        for trial in trials
        if (trial.variant, trial.temperature) == (DECIDING_VARIANT, DECIDING_TEMPERATURE)
    ]
    reasons = [reason for trial in deciding for reason in reasons_of(trial).values()]
    if not deciding:
        reasons.append(
            f"there are no answers in the variant {DECIDING_VARIANT} at temperature "
            f"{DECIDING_TEMPERATURE:g}"
        )
    verdict = Verdict(
        gate="honest gate",
        passed=not reasons,
        reasons=reasons,
        shows=(
            "The numbers of a trajectory are read: without its name and duration, answers fit its "
            "shape about as well as those of a classifier trained on the same numbers would."
        ),
        does_not_show=(
            "That the shape is always right, or that synthetic windows are told apart by their "
            "dynamics: flat dimensions and levels give some of them away to a classifier too. "
            "Nor that answers have the variety of the labels: see total variation."
        ),
    )
    return HonestVerdict(verdict=verdict, trials=list(trials))


def reasons_of(trial: HonestTrial) -> dict[str, str]:
    """Why a trial does not pass: ``gain`` and ``difference``, each where it fails."""
    found = {}
    if not trial.recognised:
        found["gain"] = (
            "answers fit their own shape no better than the shapes of other rows: gain "
            f"{shown(trial.gain)}, n = {trial.n}"
        )
    if not trial.not_worse:
        how = "one affine token" if trial.bar == "one_token" else "the expression rules"
        clearly = trial.difference.high is not None and trial.difference.high < 0
        found["difference"] = (
            f"answers {'are' if clearly else 'may be'} worse than a classifier on the same numbers "
            f"with {how}: difference {shown(trial.difference)}, its lower end must lie above "
            f"-{MARGIN:.2f}"
            + (
                ""
                if clearly
                else f"; n = {trial.n} is too few to tell, draw more answers per window"
            )
        )
    return found


def shown(found: Interval) -> str:
    """A signed mean with its interval."""
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f} without an interval (all rows are of one group)"
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
