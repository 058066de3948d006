"""Judgement of the pattern head: F1 per pattern and over all, cheap baselines, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from tracetune.evaluation.heads_held import (
    HEADS,
    Draws,
    Estimate,
    Flags,
    Floats,
    Outputs,
    Turns,
    difference,
    interval,
)
from tracetune.evaluation.statistics import calibration_error, reliability
from tracetune.records.heads import PATTERNS, PHASES

CONSTANT, EMBEDDING, COORDINATES = "constant", "mean_embedding", "coordinates"
THRESHOLDS = np.round(np.arange(0.02, 0.981, 0.02), 2)
"""Probabilities that are tried as thresholds."""
_LEAST = 1e-9


def judge_patterns(
    train: Turns,
    tuning: Turns,
    held: Turns,
    outputs: Mapping[str, Outputs],
    tuning_outputs: Mapping[str, Outputs],
    draws: Draws,
) -> dict[str, Any]:
    """F1 of heads and baselines with intervals, per pattern, and calibration.

    A model says yes from a probability that is chosen on ``tuning`` for the best micro F1: one for
    all patterns, in the same way for every model. Baselines: ``constant`` says of every turn what
    is best to always say by the training rows; ``mean_embedding`` is a logistic regression on the
    frozen base's mean embedding of the turn, ``coordinates`` the same on the five coordinates and
    the phase alone.

    Args:
        train: Turns that heads and baselines were fitted to.
        tuning: Turns on which thresholds are chosen: those for validation.
        held: Held-out turns.
        outputs: What each model says of the held-out turns.
        tuning_outputs: What it says of those for tuning.
        draws: Draws of the held-out conversations.
    """
    chances = {name: out.pattern_probabilities for name, out in outputs.items()}
    before = {name: out.pattern_probabilities for name, out in tuning_outputs.items()}
    for name, features in ((EMBEDDING, _base), (COORDINATES, _places)):
        fitted = Probe(features(train), train.labels)
        chances[name] = fitted.probabilities(features(held))
        before[name] = fitted.probabilities(features(tuning))
    thresholds = {name: best_threshold(before[name], tuning.labels) for name in chances}
    said: dict[str, Flags] = {name: chances[name] >= thresholds[name] for name in chances}
    said[CONSTANT] = np.tile(best_constant(train.labels), (len(held), 1))
    chances[CONSTANT] = np.tile(train.labels.mean(axis=0), (len(held), 1))
    scores = {name: f1(answers, held.labels, draws) for name, answers in said.items()}
    return {
        "n": len(held),
        "thresholds": thresholds,
        "tuned_on": len(tuning),
        "support": {
            name: {"train": int(train.labels[:, k].sum()), "test": int(held.labels[:, k].sum())}
            for k, name in enumerate(PATTERNS)
        },
        "models": {
            name: {
                "micro": interval(micro),
                "macro": interval(macro),
                "per_pattern": per_pattern(said[name], held.labels),
            }
            for name, (micro, macro) in scores.items()
        },
        "against": {
            name: {
                "micro": difference(scores[HEADS][0], micro),
                "macro": difference(scores[HEADS][1], macro),
            }
            for name, (micro, macro) in scores.items()
            if name != HEADS
        },
        "calibration": {
            name: calibration(chance, held.labels, draws) for name, chance in chances.items()
        },
    }


def best_threshold(chances: Floats, labels: Flags) -> float:
    """The probability from which saying yes gives the best micro F1; of equals the middle one.

    Args:
        chances: n x 12.
        labels: n x 12.
    """
    scores = []
    for threshold in THRESHOLDS:
        said = chances >= threshold
        whole = said.sum() + labels.sum()
        scores.append(2 * (said & labels).sum() / whole if whole else 0.0)
    best = np.flatnonzero(np.array(scores) >= max(scores) - _LEAST)
    return float(THRESHOLDS[best[len(best) // 2]])


def f1(said: Flags, labels: Flags, draws: Draws) -> tuple[Estimate, Estimate]:
    """Micro F1 over all patterns, macro F1 over those that occur among the held-out turns.

    A pattern that does not occur costs micro F1 what is named of it. In a draw in which a pattern
    neither occurs nor is named, its F1 is undefined and left out of the mean.
    """
    seen = labels.any(axis=0)
    counts = np.stack([said & labels, said & ~labels, ~said & labels], axis=1)
    total, drawn = draws.sums(counts)

    def ratio(hits: Floats, false: Floats, missed: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * hits / (2 * hits + false + missed))

    micro = float(ratio(*total.sum(axis=-1))), ratio(*np.moveaxis(drawn.sum(axis=-1), 1, 0))
    total, drawn = total[:, seen], drawn[:, :, seen]
    each = ratio(*np.moveaxis(drawn, 1, 0))
    defined = ~np.isnan(each)
    means = np.where(defined, each, 0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1)
    return micro, (float(np.nanmean(ratio(*total))), means)


def per_pattern(said: Flags, labels: Flags) -> dict[str, dict[str, Any]]:
    """Counts, precision, recall and F1 of each pattern; None where nothing can be divided by."""
    found: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(PATTERNS):
        yes, true = said[:, k], labels[:, k]
        hits, false, missed = (
            int((yes & true).sum()),
            int((yes & ~true).sum()),
            int((~yes & true).sum()),
        )
        found[name] = {
            "hits": hits,
            "false": false,
            "missed": missed,
            "rest": len(said) - hits - false - missed,
            "precision": hits / (hits + false) if hits + false else None,
            "recall": hits / (hits + missed) if hits + missed else None,
            "f1": 2 * hits / (2 * hits + false + missed) if hits + false + missed else None,
        }
    return found


def best_constant(labels: Flags) -> Flags:
    """The one answer for all turns with the best micro F1: so many of the most frequent ones."""
    shares = labels.mean(axis=0)
    order = np.argsort(-shares, kind="stable")
    best, found = -1.0, np.zeros(labels.shape[1], dtype=np.bool_)
    for count in range(1, labels.shape[1] + 1):
        hits = shares[order[:count]].sum()
        score = 2 * hits / (count + shares.sum())
        if score > best + _LEAST:
            best, found = score, np.isin(np.arange(labels.shape[1]), order[:count])
    return found


class Probe:
    """A logistic regression per pattern on standardised features.

    Args:
        features: n x m.
        labels: n x 12. A pattern with fewer than two turns on either side keeps its frequency.
    """

    def __init__(self, features: Floats, labels: Flags) -> None:
        """Fits the regressions."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler().fit(features)
        scaled = self._scaler.transform(features)
        self._often: Floats = labels.mean(axis=0)
        self._fitted = {
            k: LogisticRegression(max_iter=2000, C=0.1).fit(scaled, labels[:, k])
            for k in range(labels.shape[1])
            if 2 <= labels[:, k].sum() <= len(labels) - 2
        }

    def probabilities(self, features: Floats) -> Floats:
        """Of each pattern, n x 12."""
        scaled = self._scaler.transform(features)
        found = np.tile(self._often, (len(features), 1))
        for k, model in self._fitted.items():
            found[:, k] = model.predict_proba(scaled)[:, 1]
        return found


def calibration(chance: Floats, labels: Flags, draws: Draws) -> dict[str, Any]:
    """How honest the probabilities are, over all turns and patterns together."""
    flat = [min(1.0, max(0.0, float(p))) for p in chance.ravel()]
    true = [bool(label) for label in labels.ravel()]
    brier = draws.mean(((chance - labels) ** 2).mean(axis=1))
    return {
        "ece": calibration_error(flat, true),
        "brier": interval(brier),
        "bins": [asdict(part) for part in reliability(flat, true)],
        "n": len(flat),
    }


def _base(turns: Turns) -> Floats:
    """Mean embedding of the frozen base."""
    return turns.base


def _places(turns: Turns) -> Floats:
    """Coordinates and phase as features."""
    return np.hstack([turns.coordinates, np.eye(len(PHASES))[turns.phases]])
