"""From ranks to metrics and a verdict: paired bootstrap over sessions, slices, the gate."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.gate import Check, Gate, unjudged
from tracetune.evaluation.retrieval import SCORES, by_chance
from tracetune.evaluation.retrieval_options import RetrievalGateOptions, RetrievalOptions
from tracetune.evaluation.statistics import paired_bootstrap, quantile

if TYPE_CHECKING:
    import pandas as pd

TRAINED = "trained"
LABELS = {
    "trained": "trained encoder",
    "previous": "previous encoder",
    "base": "base encoder",
    "bm25": "BM25",
    "random": "random order",
}
SCORE_LABELS = {
    "recall_1": "recall@1",
    "recall_5": "recall@5",
    "recall_10": "recall@10",
    "ndcg_10": "nDCG@10",
    "reciprocal_rank": "MRR",
}
SLICES = {
    "seen": "all wanted documents were positives in training",
    "partly": "some of them were",
    "unseen": "none of them was",
}
SMALL = 10


def judge(
    predictions: pd.DataFrame,
    *,
    documents: int,
    trained_positives: Collection[str],
    options: RetrievalOptions,
    reason: str | None = None,
) -> tuple[dict[str, Any], Gate]:
    """Metrics and the verdict.

    Args:
        predictions: Result of :func:`tracetune.evaluation.retrieval.rank`.
        documents: Size of the catalogue.
        trained_positives: Ids of the documents that were positives in training.
        options: Draws, seed and gate.
        reason: Why there is nothing to judge, if so.

    Returns:
        The metrics as JSON values and the gate. Both say ``unjudged`` if no encoder was trained or
        no query was held out; that is a result, not an error.
    """
    if reason is None and predictions.empty:
        reason = "there is no held-out query"
    if reason is not None:
        gate = unjudged(reason.rstrip("."))
        return {"status": "unjudged", "reason": reason.rstrip("."), "n": 0}, gate
    tables: dict[str, pd.DataFrame] = dict(iter(predictions.groupby("model", sort=False)))
    trained = tables[TRAINED]
    relevant = [len(json.loads(text)) for text in trained["relevant"]]
    chance = [by_chance(count, documents) for count in relevant]
    metrics = {
        "status": "judged",
        "n": len(trained),
        "groups": int(trained["group"].nunique()),
        "documents": documents,
        "relevant_per_query": sum(relevant) / len(relevant),
        "models": {name: _model(table, options) for name, table in tables.items()},
        "random": {
            score: math.fsum(row[score] for row in chance) / len(chance) for score in SCORES
        },
        "comparisons": {
            name: _compare(trained, table, options)
            for name, table in tables.items()
            if name != TRAINED
        },
        "slices": _slices(tables, trained_positives, options),
        "examples": _examples(tables, options.examples),
    }
    return metrics, decide(metrics, options.gate)


def _model(table: pd.DataFrame, options: RetrievalOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    groups = table["group"].tolist()
    for score in SCORES:
        interval = paired_bootstrap(
            table[score].tolist(), groups, draws=options.bootstrap, seed=options.seed
        )
        assert interval is not None
        found[score] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    times = table["latency_ms"].dropna().tolist()
    found["latency_ms"] = {
        "n": len(times),
        "mean": math.fsum(times) / len(times) if times else None,
        "p95": quantile(times, 0.95),
    }
    return found


def _compare(
    trained: pd.DataFrame, other: pd.DataFrame, options: RetrievalOptions
) -> dict[str, Any]:
    """Differences trained - other on the same queries, with intervals over whole sessions."""
    pairs = trained.merge(other, on="row_id", suffixes=("", "_other"), validate="one_to_one")
    found: dict[str, Any] = {}
    for score in SCORES:
        differences = (pairs[score] - pairs[f"{score}_other"]).tolist()
        interval = paired_bootstrap(
            differences, pairs["group"].tolist(), draws=options.bootstrap, seed=options.seed
        )
        assert interval is not None
        found[score] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    ranks = pairs["first_rank"] - pairs["first_rank_other"]
    found["better"] = int((ranks < 0).sum())
    found["worse"] = int((ranks > 0).sum())
    return found


def _slices(
    tables: Mapping[str, pd.DataFrame], known: Collection[str], options: RetrievalOptions
) -> list[dict[str, Any]]:
    """Quality by whether the wanted documents were positives in training."""

    def place(text: str) -> str:
        seen = [key in known for key in json.loads(text)]
        return "seen" if all(seen) else "partly" if any(seen) else "unseen"

    found = []
    for name, words in SLICES.items():
        parts = {
            model: table[table["relevant"].map(place) == name] for model, table in tables.items()
        }
        n = len(parts[TRAINED])
        if n:
            found.append(
                {
                    "slice": name,
                    "words": words,
                    "n": n,
                    "small": n < SMALL,
                    "models": {
                        model: {score: float(part[score].mean()) for score in SCORES}
                        for model, part in parts.items()
                    },
                    "against_base": _compare(parts[TRAINED], parts["base"], options)["ndcg_10"],
                }
            )
    return found


def _examples(tables: Mapping[str, pd.DataFrame], count: int) -> dict[str, list[dict[str, Any]]]:
    """Queries with the largest difference to the base, both ways."""
    pairs = tables[TRAINED].merge(tables["base"], on="row_id", suffixes=("", "_base"))
    pairs["gain"] = pairs["reciprocal_rank"] - pairs["reciprocal_rank_base"]
    pairs = pairs.sort_values(["gain", "row_id"], ascending=[False, True])

    def shown(part: pd.DataFrame) -> list[dict[str, Any]]:
        return [
            {
                "query": row["query"],
                "relevant": json.loads(row["relevant"]),
                "rank": int(row["first_rank"]),
                "rank_base": int(row["first_rank_base"]),
                "first": (json.loads(row["top"]) or [None])[0],
            }
            for _, row in part.iterrows()
        ]

    won, lost = pairs[pairs["gain"] > 0], pairs[pairs["gain"] < 0]
    return {"wins": shown(won.head(count)), "losses": shown(lost.tail(count)[::-1])}


def decide(metrics: Mapping[str, Any], options: RetrievalGateOptions) -> Gate:
    """Holds the trained encoder against its base and against BM25, on nDCG@10."""
    base = metrics["comparisons"]["base"]["ndcg_10"]
    bm25 = metrics["comparisons"]["bm25"]["ndcg_10"]
    means = {name: found["ndcg_10"]["mean"] for name, found in metrics["models"].items()}
    n = metrics["n"]
    checks = [
        Check(
            name="better_than_base",
            value=base["low"],
            limit=0.0,
            passed=base["low"] > 0,
            words=f"nDCG@10 {means[TRAINED]:.3f} against {means['base']:.3f} of the base on {n} "
            f"held-out queries; difference {_interval(base)}, its lower end must lie above 0",
        ),
        Check(
            name="holds_against_bm25",
            value=bm25["mean"],
            limit=-options.margin,
            # A difference of exactly the margin must not fail by rounding.
            passed=bm25["mean"] >= -options.margin - 1e-9,
            words=f"BM25 reaches {means['bm25']:.3f}; difference {_interval(bm25)}, must be at "
            f"least {-options.margin:+.3f}",
        ),
    ]
    failed = [check for check in checks if not check.passed]
    if failed:
        verdict = "Do not promote the trained encoder: " + "; ".join(
            f"{_REASONS[check.name]} ({check.words})" for check in failed
        )
    else:
        verdict = (
            f"Promote: the trained encoder is better than its base by {base['mean']:.3f} nDCG@10 "
            f"[{base['low']:.3f}, {base['high']:.3f}] on {n} held-out queries and holds against "
            "BM25"
        )
    return Gate(
        status="judged", promote=not failed, adapter=TRAINED, verdict=f"{verdict}.", checks=checks
    )


_REASONS = {
    "better_than_base": "it is not surely better than its base",
    "holds_against_bm25": "BM25 does better",
}


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def summary_lines(
    metrics: Mapping[str, Any], gate: Gate, counts: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """The lines a run ends with."""
    used = "; ".join(
        f"{kind} " + ", ".join(f"{count} {split}" for split, count in sides.items())
        for kind, sides in counts.items()
    )
    lines = [f"Rows     {used or 'none'}"]
    if metrics["status"] == "judged":
        models = metrics["models"]
        shown: Sequence[str] = [name for name in LABELS if name in models]
        lines.append(
            "nDCG@10  "
            + ", ".join(f"{LABELS[name]} {models[name]['ndcg_10']['mean']:.3f}" for name in shown)
            + f", random {metrics['random']['ndcg_10']:.3f}"
        )
        against = metrics["comparisons"]["base"]
        lines.append(
            f"         {_interval(against['ndcg_10'])} to the base on {metrics['n']} held-out "
            f"queries, {metrics['documents']} documents ({against['better']} better, "
            f"{against['worse']} worse)"
        )
    return [*lines, f"Verdict  {gate.verdict}"]
