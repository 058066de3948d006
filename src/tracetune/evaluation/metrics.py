"""From the table of predictions to the figures people read, each with its n and uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracetune.errors import DataError
from tracetune.evaluation import statistics
from tracetune.evaluation.options import EvaluationOptions
from tracetune.outputs import OutputSpec

SMALL_SLICE = 10
"""Slices with fewer rows are flagged: their accuracy says next to nothing."""

UNITS = "sessions or traces"
"""What the rows of telemetry come in; the bootstrap draws them whole."""

Rows = list[dict[str, Any]]

NOT_SHOWN = (
    "The held-out rows are requests that a person reviewed. Requests nobody looked at may be "
    "easier, harder or of another kind.",
    "An answer counts as right if it names the target a person approved or wrote. Another target "
    "might have served the user as well, and approved answers of the earlier agent favour what "
    "it already did.",
    "McNemar's test takes rows as independent; turns of one session are not quite. The interval "
    "of the difference draws whole sessions and shows how much that matters.",
    "Only the judged adapter against the base is tested. The slices per agent and the other "
    "comparisons describe; with many of them some differ by chance.",
    "Confidence is the probability of the exact text of the answer. A calibrated model can still "
    "be useless, and a low figure may only mean that several texts say the same.",
    "Reward accuracy shows that the adapter prefers the better of two given answers, not that it "
    "writes it. Above 95 % on few pairs it often means that length or form gives the better one "
    "away.",
    "Latency was measured on the machine of this run, one request at a time, with the adapter not "
    "merged. A server with batching and merged weights gives other figures.",
)
"""What a reader could wrongly take from the figures."""

NOT_SHOWN_BY_KIND = {
    "exact": (),
    "set": (
        "A selection counts as right only if it is the same set. Slices overlap: a row stands in "
        "the slice of each name its approved answer holds.",
    ),
    "entities": (
        "An answer counts as right from an F1 of one half (evaluation of source document 003); "
        "the mean F1 beside it is finer. Texts are compared without regard to case, and an "
        "entity whose text is cut or longer by a word counts as wrong. Slices overlap.",
    ),
    "text": (
        "Word F1 compares words, not meaning: a good answer in other words scores low, and a "
        "wrong one that shares common words scores above zero. The likelihood of the approved "
        "answer (nats per token) is finer, and only models with the same tokens compare.",
        "Every turn was answered after the approved answers of the turns before it. In use a "
        "model reads its own earlier answers, and errors may add up.",
    ),
}
"""The same by kind of comparison."""


def records(table: Any) -> Rows:
    """Rows of a data frame as plain dictionaries, with ``None`` for every missing value."""
    frame = table.astype(object)
    rows: Rows = frame.where(frame.notna(), None).to_dict("records")
    return rows


def by_model(rows: Rows) -> dict[str, Rows]:
    """Predictions by model, each in the order of the row ids.

    Raises:
        DataError: If the models did not answer the same rows: they could not be compared.
    """
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    ids: dict[str, list[str]] = {}
    for model, answers in found.items():
        answers.sort(key=lambda row: str(row["row_id"]))
        ids[model] = [row["row_id"] for row in answers]
        if len(set(ids[model])) != len(answers):
            raise DataError(f"the model {model!r} answered a row twice", where="predictions")
    if len({tuple(rows) for rows in ids.values()}) > 1:
        counts = ", ".join(f"{model}: {len(rows)}" for model, rows in ids.items())
        raise DataError(
            f"the models did not answer the same rows ({counts})",
            where="predictions",
            remedy="make the predictions again",
        )
    return found


def model_metrics(rows: Rows) -> dict[str, Any]:
    """Figures of one model over its answers; rates are shares of all rows."""
    n = len(rows)
    right = sum(row["correct"] for row in rows)
    stated = [row for row in rows if row["confidence"] is not None]
    confidence = [row["confidence"] for row in stated]
    correct = [row["correct"] for row in stated]
    latency = [row["latency_ms"] for row in rows if row["latency_ms"] is not None]
    low, high = statistics.wilson_interval(right, n) or (0.0, 1.0)
    looked = [row["in_top_k"] for row in rows if row["in_top_k"] is not None]
    nats = [row["reference_nats"] for row in rows if row["reference_nats"] is not None]
    return {
        "n": n,
        "correct": right,
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "score": sum(row["score"] for row in rows) / n,
        "top_k_accuracy": sum(looked) / len(looked) if looked else None,
        "top_k_n": len(looked),
        "reference_nats": sum(nats) / len(nats) if nats else None,
        "perplexity": statistics.perplexity(nats),
        "valid_json_rate": None
        if all(row["valid_json"] is None for row in rows)
        else _share(rows, lambda row: row["valid_json"]),
        "unparsable_rate": _share(rows, lambda row: row["answer"] is None),
        "impossible_rate": _share(rows, lambda row: row["answer"] is not None and not row["known"]),
        "cut_rate": _share(rows, lambda row: row["finish"] == "length"),
        "too_long_rate": _share(rows, lambda row: row["finish"] == "too_long"),
        "mean_confidence": sum(confidence) / len(confidence) if confidence else None,
        "confidence_n": len(confidence),
        "ece": statistics.calibration_error(confidence, correct),
        "confidence_gap": statistics.confidence_gap(confidence, correct),
        "reliability": [vars(part).copy() for part in statistics.reliability(confidence, correct)],
        "latency_n": len(latency),
        "latency_p50_ms": statistics.quantile(latency, 0.5),
        "latency_p95_ms": statistics.quantile(latency, 0.95),
        "mean_tokens": sum(row["tokens"] for row in rows) / n,
    }


def _share(rows: Rows, holds: Any) -> float:
    return sum(bool(holds(row)) for row in rows) / len(rows)


def comparison(ours: Rows, theirs: Rows, options: EvaluationOptions) -> dict[str, Any]:
    """One model against another on the same rows.

    ``wins`` are the rows only the first got right (b of McNemar), ``losses`` those only the second
    did (c). Two smallest effects are given: what this many rows can show at all, and what would be
    noticed four times out of five given how often the two models differ here.
    """
    pairs = list(zip(ours, theirs, strict=True))
    wins = sum(mine["correct"] and not other["correct"] for mine, other in pairs)
    losses = sum(other["correct"] and not mine["correct"] for mine, other in pairs)
    n = len(pairs)
    interval = statistics.paired_bootstrap(
        [float(mine["correct"]) - float(other["correct"]) for mine, other in pairs],
        [row["group"] for row in ours],
        draws=options.bootstrap,
        seed=options.seed,
    )
    alpha = options.gate.alpha
    scores = statistics.paired_bootstrap(
        [mine["score"] - other["score"] for mine, other in pairs],
        [row["group"] for row in ours],
        draws=options.bootstrap,
        seed=options.seed,
    )
    return {
        "n": n,
        "wins": wins,
        "losses": losses,
        "difference": (wins - losses) / n,
        "difference_low": interval.low if interval else None,
        "difference_high": interval.high if interval else None,
        "score_difference": scores.mean if scores else None,
        "score_low": scores.low if scores else None,
        "score_high": scores.high if scores else None,
        "latency_overhead_ms": _overhead(ours, theirs),
        "p": statistics.mcnemar_exact(wins, losses),
        "smallest_effect": smallest_effect(n, alpha),
        "smallest_effect_80": statistics.detectable_difference(n, wins + losses, alpha=alpha),
    }


def _overhead(ours: Rows, theirs: Rows) -> float | None:
    """Difference of the median latencies in milliseconds."""
    medians = [
        statistics.quantile([r["latency_ms"] for r in rows if r["latency_ms"] is not None], 0.5)
        for rows in (ours, theirs)
    ]
    return None if medians[0] is None or medians[1] is None else medians[0] - medians[1]


def smallest_effect(n: int, alpha: float) -> float | None:
    """Smallest improvement of accuracy that ``n`` rows can show at level ``alpha``.

    Reached when every row on which the models differ goes to the better one; ``None`` if ``n`` is
    too small to show anything.
    """
    rows = statistics.smallest_one_way(alpha)
    return rows / n if n >= rows else None


def slices(models: dict[str, Rows]) -> list[dict[str, Any]]:
    """Accuracy and mean score of each model per slice, largest slice first."""
    first = next(iter(models.values()))
    places_of: dict[str, list[int]] = {}
    for place, row in enumerate(first):
        for name in row["slices"].splitlines():
            places_of.setdefault(name, []).append(place)
    found = []
    for name, places in sorted(places_of.items(), key=lambda item: (-len(item[1]), item[0])):
        chosen = {model: [rows[place] for place in places] for model, rows in models.items()}
        correct = {model: sum(row["correct"] for row in rows) for model, rows in chosen.items()}
        n = len(places)
        found.append(
            {
                "target": name,
                "n": n,
                "small": n < SMALL_SLICE,
                "correct": correct,
                "accuracy": {model: count / n for model, count in correct.items()},
                "score": {
                    model: sum(row["score"] for row in rows) / n for model, rows in chosen.items()
                },
            }
        )
    return found


def examples(models: dict[str, Rows], adapter: str, count: int) -> dict[str, Rows]:
    """Rows worth reading: wins and losses against the base, losses against the neighbour.

    Of each kind at most ``count``, taken in turn from the targets, so that one frequent target
    does not fill the list.
    """
    kinds = {
        "wins": ("base", True),
        "losses": ("base", False),
        "nearest_better": ("nearest", False),
    }
    found: dict[str, Rows] = {}
    for kind, (other, ours_right) in kinds.items():
        if other not in models:
            continue
        places = [
            place
            for place, (mine, theirs) in enumerate(zip(models[adapter], models[other], strict=True))
            if mine["correct"] == ours_right and theirs["correct"] != ours_right
        ]
        found[kind] = [
            _example(models, place) for place in _in_turn(models[adapter], places)[:count]
        ]
    return found


def _in_turn(rows: Rows, places: Sequence[int]) -> list[int]:
    seen: dict[str, int] = {}
    order = []
    for place in places:
        target = rows[place]["target"]
        seen[target] = seen.get(target, 0) + 1
        order.append((seen[target], target, place))
    return [place for _, _, place in sorted(order)]


def _example(models: dict[str, Rows], place: int) -> dict[str, Any]:
    row = next(iter(models.values()))[place]
    return {
        "row_id": row["row_id"],
        "prompt": row["prompt"],
        "target": row["target"],
        "answers": {
            model: rows[place]["answer"] if rows[place]["known"] else rows[place]["answer_text"]
            for model, rows in models.items()
        },
        "correct": {model: rows[place]["correct"] for model, rows in models.items()},
    }


def reward_metrics(pairs: Rows, options: EvaluationOptions) -> dict[str, Any] | None:
    """Share of held-out pairs whose better answer has the higher reward, and the mean margin."""
    if not pairs:
        return None
    margins = [row["chosen_reward"] - row["rejected_reward"] for row in pairs]
    right = sum(margin > 0 for margin in margins)
    low, high = statistics.wilson_interval(right, len(pairs)) or (0.0, 1.0)
    interval = statistics.paired_bootstrap(
        margins,
        [row["group"] for row in pairs],
        draws=options.bootstrap,
        seed=options.seed,
    )
    return {
        "n": len(pairs),
        "accuracy": right / len(pairs),
        "accuracy_low": low,
        "accuracy_high": high,
        "margin": interval.mean if interval else None,
        "margin_low": interval.low if interval else None,
        "margin_high": interval.high if interval else None,
        "chosen_reward": sum(row["chosen_reward"] for row in pairs) / len(pairs),
        "rejected_reward": sum(row["rejected_reward"] for row in pairs) / len(pairs),
        "policy": pairs[0]["policy"],
        "reference": pairs[0]["reference"],
        "beta": pairs[0]["beta"],
    }


def compute(
    predictions: Any,
    rewards: Rows,
    *,
    adapter: str,
    options: EvaluationOptions,
    output: OutputSpec | None = None,
    units: str = UNITS,
) -> dict[str, Any]:
    """All metrics of a run as plain JSON values.

    Args:
        predictions: Data frame with the columns of :data:`tracetune.evaluation.tables.ANSWERS`.
        rewards: Rewards of held-out pairs, as in :class:`tracetune.evaluation.judge.Predictions`.
        adapter: The adapter to judge; it and ``base`` must be among the models.
        options: Seeds, draws and limits.
        output: What a valid answer looks like.
        units: What the groups of rows are that resemble each other, in words.

    Returns:
        ``measure`` (``accuracy``, or ``score`` for text), ``n``, ``groups``, ``units``,
        ``models`` (by name), ``comparisons`` (the adapter against each other
        model), ``slices``, ``examples``, ``rewards`` (or ``None``), ``not_shown``.

    Raises:
        DataError: If the models did not answer the same rows, or one that is needed is missing.
    """
    models = by_model(records(predictions))
    for needed in (adapter, "base"):
        if needed not in models:
            raise DataError(
                f"there are no answers of {needed!r}, only of {sorted(models)}",
                where="predictions",
                remedy="make the predictions again",
            )
    first = models[adapter]
    compare = (output or OutputSpec()).compare
    return {
        "status": "judged",
        "adapter": adapter,
        "compare": compare,
        "measure": "score" if compare == "text" else "accuracy",
        "top_k": options.top_k,
        "n": len(first),
        "groups": len({row["group"] for row in first}),
        "units": units,
        "alpha": options.gate.alpha,
        "models": {model: model_metrics(rows) for model, rows in models.items()},
        "comparisons": {
            model: comparison(first, rows, options)
            for model, rows in models.items()
            if model != adapter
        },
        "slices": slices(models),
        "examples": examples(models, adapter, options.examples),
        "rewards": reward_metrics(rewards, options),
        "not_shown": [*NOT_SHOWN_BY_KIND[compare], *NOT_SHOWN],
    }
