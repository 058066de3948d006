"""Judgement of the style head: does a signature find turns of the same author or conversation?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
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

CHANCE, EMBEDDING = "chance", "mean_embedding"
CONSTANT_FROM = 0.999
"""Signatures all of whose pairs have at least this cosine count as one and the same."""


def judge_style(
    held: Turns, outputs: Mapping[str, Outputs], draws: Draws, neighbours: Sequence[int]
) -> dict[str, Any]:
    """Recall of turns that are alike, silhouette, and whether the signature is constant.

    A query is a held-out turn, the others are what it looks among. Where authors are told apart,
    turns of its own conversation are left out: they would be found by their topic. Baselines: the
    frozen base's mean embedding, and an order by chance (exact).

    Args:
        held: Held-out turns.
        outputs: What each model says of them.
        draws: Draws of the held-out conversations, as queries.
        neighbours: Numbers of neighbours.
    """
    by_author = held.alike != held.conversations
    allowed = np.ones((len(held), len(held)), dtype=np.bool_)
    if by_author:
        names = np.array(held.conversations)
        allowed = names[:, None] != names[None, :]
    np.fill_diagonal(allowed, False)
    alike = np.array(held.alike)
    same = (alike[:, None] == alike[None, :]) & allowed
    asked = same.any(axis=1)
    vectors = {name: out.style for name, out in outputs.items()} | {EMBEDDING: held.base}
    found: dict[str, Any] = {
        "by": "author" if by_author else "conversation",
        "n": len(held),
        "queries": int(asked.sum()),
        "groups": len(set(held.alike)),
        "neighbours": list(neighbours),
    }
    if not asked.any():
        return {**found, "status": "unjudged", "reason": _nothing(by_author)}
    recalls: dict[str, dict[int, Estimate]] = {
        name: {k: draws.mean(_hits(given, same, allowed, k), asked) for k in neighbours}
        for name, given in vectors.items()
    }
    recalls[CHANCE] = {k: draws.mean(by_chance(same, allowed, k), asked) for k in neighbours}
    return {
        **found,
        "status": "judged",
        "models": {
            name: {
                **{f"recall_{k}": interval(each[k]) for k in neighbours},
                "silhouette": _silhouette(vectors[name], held.alike) if name in vectors else None,
            }
            for name, each in recalls.items()
        },
        "against": {
            name: {f"recall_{k}": difference(recalls[HEADS][k], each[k]) for k in neighbours}
            for name, each in recalls.items()
            if name != HEADS
        },
        "spread": {name: spread(out.style) for name, out in outputs.items()},
        "map": project(outputs[HEADS].style),
    }


def by_chance(same: Flags, allowed: Flags, k: int) -> Floats:
    """Probability that one of k turns drawn by chance is alike, for every query; exact."""
    rest = allowed.sum(axis=1)
    other = rest - same.sum(axis=1)
    return np.array(
        [
            1 - comb(int(no), min(k, int(all_))) / comb(int(all_), min(k, int(all_))) if all_ else 0
            for all_, no in zip(rest, other, strict=True)
        ],
        dtype=np.float64,
    )


def spread(signatures: Floats) -> dict[str, Any]:
    """How different signatures are: cosine of pairs, and whether they are constant."""
    if len(signatures) < 2:
        return {"mean_cosine": None, "least_cosine": None, "constant": True}
    cosines = _cosines(signatures)[np.triu_indices(len(signatures), 1)]
    least = float(cosines.min())
    return {
        "mean_cosine": float(cosines.mean()),
        "least_cosine": least,
        "constant": least >= CONSTANT_FROM,
    }


def project(signatures: Floats) -> dict[str, Any]:
    """The two directions in which signatures differ most (principal components)."""
    centred = signatures.astype(np.float64) - signatures.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((sizes**2).sum())
    places = np.zeros((len(signatures), 2))
    width = min(2, len(sizes))
    # The sign of a component is arbitrary; the largest entry is made positive.
    turned = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    places[:, :width] = (left * sizes * turned)[:, :width]
    shares = [float(size**2) / total if total else 0.0 for size in sizes[:2]]
    return {"x": places[:, 0].tolist(), "y": places[:, 1].tolist(), "shares": shares}


def _hits(vectors: Floats, same: Flags, allowed: Flags, k: int) -> Floats:
    """Whether one of the k nearest turns is alike, for every query."""
    scores = np.where(allowed, _cosines(vectors), -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hit = np.take_along_axis(same, order, axis=1).any(axis=1)
    return np.asarray(hit, dtype=np.float64)


def _cosines(vectors: Floats) -> Floats:
    unit = vectors.astype(np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit @ unit.T)


def _silhouette(vectors: Floats, groups: Sequence[str]) -> float | None:
    """Mean silhouette by cosine distance; None if all turns are alike, or no two are."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(set(groups)) < len(groups):
        return None
    distances = np.clip(1 - _cosines(vectors), 0, None)
    np.fill_diagonal(distances, 0)
    return float(silhouette_score(distances, list(groups), metric="precomputed"))


def _nothing(by_author: bool) -> str:
    if by_author:
        return "no author wrote in two held-out conversations"
    return "no held-out conversation has two turns"
