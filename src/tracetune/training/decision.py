"""What is trained and why: decided once from the rows; nothing further down decides again.

Source document 003 and reference C3/C9.10: enough preference pairs mean SFT and DPO on top of it,
else enough approved rows mean SFT, else nothing. KTO (Ethayarajh et al. 2024), which needs no pairs
and no approved majority, stands between the last two if it is allowed. Synthetic rows count once a
person approved them (C9.17); while some wait for people, too little is no final answer.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tracetune.errors import DataError

Choice = Literal["dpo", "sft", "kto", "waiting", "insufficient"]

KINDS = {"pairs": "preference pairs", "examples": "approved rows", "ratings": "rated answers"}
"""Kinds of rows, in words for people."""


class Counts(BaseModel):
    """Training rows that the extractors really built, by kind.

    Attributes:
        pairs: Preference pairs.
        examples: Approved and corrected rows.
        good: Good rated answers.
        bad: Bad rated answers.
        synthetic_pairs: How many of the pairs are approved synthetic ones.
        synthetic_examples: How many of the rows are approved synthetic ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: int
    examples: int
    good: int
    bad: int
    synthetic_pairs: int = 0
    synthetic_examples: int = 0


class Thresholds(BaseModel):
    """Fewest training rows per kind; ``ratings`` is None where KTO is not allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: int
    examples: int
    ratings: int | None = None


class StageDecision(BaseModel):
    """Whether one stage trains.

    Attributes:
        chosen: The stage belongs to what was decided.
        train: It is chosen and this is no dry run.
        reason: Why it does not train; empty if it does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    chosen: bool
    train: bool
    reason: str


class Decision(BaseModel):
    """The decision of a run.

    Attributes:
        method: What is trained.
        counts: Training rows by kind.
        thresholds: Fewest rows by kind.
        missing: Rows missing per kind, for the kinds that are below their threshold.
        confidence: Rows over twice the threshold, at most 1 (source document 003); 1 for
            ``waiting`` and ``insufficient``. It says how far the count is from the threshold,
            nothing else.
        reason: One sentence for people.
        dry_run: Nothing is trained, whatever was decided.
        stages: What each stage of the pipeline does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Choice
    counts: Counts
    thresholds: Thresholds
    missing: dict[str, int]
    confidence: float
    reason: str
    dry_run: bool
    stages: dict[str, StageDecision]


REAL = "real"
"""The stage that trains SFT without synthetic rows, so that one sees what they change."""


def missing_rows(counts: Counts, thresholds: Thresholds) -> dict[str, int]:
    """Rows missing per kind; empty if one of the kinds has enough, because one is enough."""
    missing = _missing(counts, thresholds, _usable_ratings(counts))
    kinds = [kind for kind in KINDS if kind != "ratings" or thresholds.ratings is not None]
    return missing if all(kind in missing for kind in kinds) else {}


def _usable_ratings(counts: Counts) -> int:
    return 2 * min(counts.good, counts.bad)  # the rarer kind counts twice


def choose(counts: Counts, thresholds: Thresholds, *, dry_run: bool, waiting: int = 0) -> Decision:
    """The method that the rows are enough for (pipeline ``auto``).

    Args:
        counts: Training rows by kind.
        thresholds: Fewest rows by kind.
        dry_run: Nothing is trained.
        waiting: Synthetic candidates that wait for people.
    """
    decision = _choose(counts, thresholds, dry_run, waiting)
    chosen = decision.method in ("dpo", "sft") and counts.synthetic_examples > 0
    why = decision.stages["sft"].reason
    if decision.method in ("dpo", "sft", "kto") and not chosen:
        why = "no synthetic row is among the training rows"
    if chosen and counts.examples == counts.synthetic_examples:
        chosen, why = False, "there is no real row to train on"
    real = StageDecision(chosen=chosen, train=chosen and not dry_run, reason=why)
    return decision.model_copy(update={"stages": {**decision.stages, REAL: real}})


def _choose(counts: Counts, thresholds: Thresholds, dry_run: bool, waiting: int) -> Decision:
    ratings = _usable_ratings(counts)
    missing = _missing(counts, thresholds, ratings)
    method: Choice
    if "pairs" not in missing:
        method, found, needed, kind = "dpo", counts.pairs, thresholds.pairs, "pairs"
        what = "SFT, then DPO on top of it"
    elif "examples" not in missing:
        method, found, needed, kind = "sft", counts.examples, thresholds.examples, "examples"
        what = "SFT"
    elif thresholds.ratings is not None and "ratings" not in missing:
        method, found, needed, kind = "kto", ratings, thresholds.ratings, "ratings"
        what = "KTO from the base model"
    else:
        words = ", ".join(f"{count} {KINDS[kind]}" for kind, count in missing.items())
        reason = f"too little to train on; missing for training: {words} (one of them is enough)"
        method = "insufficient"
        if waiting:
            method = "waiting"
            reason += f"; {waiting} synthetic candidates wait for people"
        return _decision(method, counts, thresholds, missing, 1.0, reason, dry_run)
    confidence = min(1.0, found / (2 * needed))
    reason = f"{found} {KINDS[kind]} reach {needed}: {what}"
    return _decision(method, counts, thresholds, missing, confidence, reason, dry_run)


def demand(
    method: Literal["dpo", "sft"],
    counts: Counts,
    thresholds: Thresholds,
    *,
    dry_run: bool,
    with_sft: bool = True,
) -> Decision:
    """The decision of a pipeline that trains one method or stops (``dpo``, ``sft``).

    Args:
        method: The method.
        counts: Training rows by kind.
        thresholds: Fewest rows by kind.
        dry_run: Nothing is trained.
        with_sft: DPO goes on from an SFT adapter; if not, from the base model.

    Raises:
        DataError: There are fewer rows than the threshold.
    """
    kind = "pairs" if method == "dpo" else "examples"
    found, needed = getattr(counts, kind), getattr(thresholds, kind)
    if found < needed:
        place = "dpo.min_dpo_pairs" if method == "dpo" else "min_sft_examples"
        raise DataError(
            f"{found} {KINDS[kind]} for training, at least {needed} are needed",
            where=place,
            remedy="collect more verdicts (for pairs: metadata.corrected_output on rejected "
            f"spans), widen telemetry.windows, or lower {place}; the funnel shows where rows were "
            "lost",
        )
    what = "SFT" if method == "sft" else "SFT, then DPO on top of it"
    if method == "dpo" and not with_sft:
        what = "DPO from the base model"
    decision = _decision(
        method,
        counts,
        thresholds,
        _missing(counts, thresholds, 0),
        min(1.0, found / (2 * needed)),
        f"{found} {KINDS[kind]} reach {needed}: {what}",
        dry_run,
    )
    if with_sft:
        return decision
    base_only = StageDecision(chosen=False, train=False, reason="dpo.start_from is 'base'")
    return decision.model_copy(update={"stages": {**decision.stages, "sft": base_only}})


_STAGES: dict[Choice, tuple[str, ...]] = {
    "dpo": ("sft", "dpo"),
    "sft": ("sft",),
    "kto": ("kto",),
    "waiting": (),
    "insufficient": (),
}


def _missing(counts: Counts, thresholds: Thresholds, ratings: int) -> dict[str, int]:
    short = {
        "pairs": thresholds.pairs - counts.pairs,
        "examples": thresholds.examples - counts.examples,
        "ratings": (thresholds.ratings or 0) - ratings,
    }
    return {kind: count for kind, count in short.items() if count > 0}


def _decision(
    method: Choice,
    counts: Counts,
    thresholds: Thresholds,
    missing: dict[str, int],
    confidence: float,
    reason: str,
    dry_run: bool,
) -> Decision:
    stages = {}
    for stage in ("sft", "dpo", "kto"):
        chosen = stage in _STAGES[method]
        none = method in ("waiting", "insufficient")
        why = "" if chosen else reason if none else f"not chosen: {reason}"
        if chosen and dry_run:
            why = "dry run: nothing is trained"
        stages[stage] = StageDecision(chosen=chosen, train=chosen and not dry_run, reason=why)
    return Decision(
        method=method,
        counts=counts,
        thresholds=thresholds,
        missing=missing,
        confidence=confidence,
        reason=reason,
        dry_run=dry_run,
        stages=stages,
    )
