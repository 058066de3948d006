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
_LEAST = 1e-9


def judge_patterns(
    train: Turns, held: Turns, outputs: Mapping[str, Outputs], draws: Draws
) -> dict[str, Any]:
    """F1 of heads and baselines with intervals, per pattern, and calibration.

    Baselines: ``constant`` says of every turn what is best to always say by the training rows;
    ``mean_embedding`` is a logistic regression on the frozen base's mean embedding of the turn,
    ``coordinates`` the same on the five coordinates and the phase alone.

    Args:
        train: Turns that heads and baselines were fitted to.
        held: Held-out turns.
        outputs: What each model says of the held-out turns.
        draws: Draws of the held-out conversations.
    """
    said: dict[str, Flags] = {name: out.pattern_logits > 0 for name, out in outputs.items()}
    said[CONSTANT] = np.tile(best_constant(train.labels), (len(held), 1))
    said[EMBEDDING] = probe(train.base, train.labels, held.base)
    said[COORDINATES] = probe(_places(train), train.labels, _places(held))
    scores = {name: f1(answers, held.labels, draws) for name, answers in said.items()}
    chances = {name: out.pattern_probabilities for name, out in outputs.items()}
    chances[CONSTANT] = np.tile(train.labels.mean(axis=0), (len(held), 1))
    return {
        "n": len(held),
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


def f1(said: Flags, labels: Flags, draws: Draws) -> tuple[Estimate, Estimate]:
    """Micro and macro F1 over the patterns that occur among the held-out turns.

    In a draw in which a pattern neither occurs nor is named, its F1 is undefined and left out.
    """
    seen = labels.any(axis=0)
    counts = np.stack([said & labels, said & ~labels, ~said & labels], axis=1)[:, :, seen]
    total, drawn = draws.sums(counts)

    def ratio(hits: Floats, false: Floats, missed: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * hits / (2 * hits + false + missed))

    micro = float(ratio(*total.sum(axis=-1))), ratio(*np.moveaxis(drawn.sum(axis=-1), 1, 0))
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


def probe(train: Floats, labels: Flags, held: Floats) -> Flags:
    """A logistic regression per pattern, weighted by class like the loss of the head.

    A pattern with fewer than two training turns on either side is never named.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    one, other = scaler.transform(train), scaler.transform(held)
    said = np.zeros((len(held), labels.shape[1]), dtype=np.bool_)
    for k in range(labels.shape[1]):
        if 2 <= labels[:, k].sum() <= len(labels) - 2:
            model = LogisticRegression(class_weight="balanced", max_iter=2000, C=0.1)
            said[:, k] = model.fit(one, labels[:, k]).predict(other)
    return said


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


def _places(turns: Turns) -> Floats:
    """Coordinates and phase as features."""
    return np.hstack([turns.coordinates, np.eye(len(PHASES))[turns.phases]])
