"""Judgement of the planning head: how near its steps are to the turns that really came."""

from __future__ import annotations

from collections.abc import Mapping
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
    Whole,
    difference,
    interval,
)

MEAN, COPY = "mean_by_role", "same_turn"


def judge_planning(
    train: Turns, held: Turns, outputs: Mapping[str, Outputs], draws: Draws
) -> dict[str, Any]:
    """Cosine of every step with the mean embedding of the turn that came, and when it ends.

    Vectors of a language model point much in one direction, so a cosine is high without any
    knowledge: beside it stands the cosine after the mean of all training turns was taken away.
    Baselines: ``mean_by_role`` is the mean of what came k turns after turns of this role in
    training, ``same_turn`` says that every next turn is as this one.

    Args:
        train: Turns that heads and baselines were fitted to.
        held: Held-out turns.
        outputs: What each model says of them.
        draws: Draws of the held-out conversations.
    """
    steps = next(iter(outputs.values())).plan.shape[1]
    following = held.following[:, :steps]
    there = following >= 0
    said: dict[str, Floats] = {name: out.plan.astype(np.float64) for name, out in outputs.items()}
    said[MEAN] = mean_by_role(train, held, steps)
    said[COPY] = np.repeat(held.base[:, None, :], steps, axis=1)
    found: dict[str, Any] = {"n": len(held), "turns_with_next": int(there[:, 0].sum())}
    if not there.any():
        return {**found, "status": "unjudged", "reason": "no held-out turn has a next one"}
    truth = held.base[np.maximum(following, 0)]
    centre = train.base.mean(axis=0)
    plain = {name: cosine(given, truth) for name, given in said.items()}
    moved = {name: cosine(given - centre, truth - centre) for name, given in said.items()}
    rows = {name: _by_row(each, there, draws) for name, each in plain.items()}
    return {
        **found,
        "status": "judged",
        "models": {
            name: {
                "cosine": interval(rows[name]),
                "centred": interval(_by_row(moved[name], there, draws)),
                "by_step": [
                    float(each[there[:, k], k].mean()) if there[:, k].any() else None
                    for k in range(steps)
                ],
            }
            for name, each in plain.items()
        },
        "against": {
            name: {
                "cosine": difference(rows[HEADS], each),
                "centred": difference(
                    _by_row(moved[HEADS], there, draws), _by_row(moved[name], there, draws)
                ),
            }
            for name, each in rows.items()
            if name != HEADS
        },
        "next_by_step": [int(count) for count in there.sum(axis=0)],
        "stop": _stop(train, held, outputs, draws, steps),
    }


def cosine(said: Floats, truth: Floats) -> Floats:
    """Cosine of vectors along the last axis; 0 where one of them is 0."""
    norms = np.linalg.norm(said, axis=-1) * np.linalg.norm(truth, axis=-1)
    return np.asarray((said * truth).sum(axis=-1) / np.where(norms > 1e-12, norms, np.inf))


def mean_by_role(train: Turns, held: Turns, steps: int) -> Floats:
    """What came k turns after a turn of this role in training, on average.

    Where a role has no such turn, the mean of all training turns stands in.
    """
    everything = train.base.mean(axis=0)
    found = np.tile(everything, (len(held), steps, 1))
    of_train, of_held = np.array(train.roles), np.array(held.roles)
    for role in set(held.roles):
        for k in range(steps):
            places: Whole = train.following[of_train == role, k]
            places = places[places >= 0]
            if len(places):
                found[of_held == role, k] = train.base[places].mean(axis=0)
    return found


def _by_row(cosines: Floats, there: Flags, draws: Draws) -> Estimate:
    """Mean over the turns of the mean over their steps that came."""
    counts = there.sum(axis=1)
    means = np.where(there, cosines, 0).sum(axis=1) / np.maximum(counts, 1)
    return draws.mean(means, counts > 0)


def _stop(
    train: Turns, held: Turns, outputs: Mapping[str, Outputs], draws: Draws, steps: int
) -> dict[str, Any]:
    """Brier score of when the conversation ends, against how often it does in training."""
    ended = held.following[:, :steps] < 0
    often = (train.following[:, :steps] < 0).mean(axis=0)
    chances = {name: out.stop for name, out in outputs.items()}
    chances["frequency"] = np.tile(often, (len(held), 1))
    scores = {
        name: draws.mean(((given - ended) ** 2).mean(axis=1)) for name, given in chances.items()
    }
    return {
        "models": {name: interval(each) for name, each in scores.items()},
        "against_frequency": difference(scores[HEADS], scores["frequency"]),
    }
