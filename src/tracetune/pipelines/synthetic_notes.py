"""What the report of a run and its last lines say about synthetic rows and their review."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracetune.evaluation.names import label, percent, points, span

Document = dict[str, Any]

_MEASURES = {
    "words": "Words per message, 10 / 50 / 90 %",
    "nearest_real": "Likeness to the nearest (other) real message, 10 / 50 / 90 %",
    "nearest_own": "Likeness to the nearest other row of its kind, 10 / 50 / 90 %",
    "distinct_1": "Different words, share",
    "distinct_2": "Different pairs of words, share",
}


def synthetic_section(synthetic: Document, metrics: Document) -> Document:
    """Sentences and tables of the report's section on synthetic rows.

    Args:
        synthetic: Plan, generation, review and distance of the run.
        metrics: Metrics of the run, for the result with and without synthetic rows.
    """
    from tracetune.telemetry.synthesis.screen import REASONS

    distance, generation = synthetic["distance"], synthetic["generation"]
    dropped = [(REASONS[reason], count) for reason, count in generation["dropped"].items() if count]
    limits = []
    if distance["status"] == "compared":
        limits.append(distance["not_shown"])
    return {
        "sentences": [
            *_generated(synthetic),
            *_reviewed(synthetic["review"]),
            *with_and_without(metrics),
            *_label_mix(distance),
        ],
        "table": _table(distance) if distance["status"] == "compared" else [],
        "dropped": dropped,
        "limits": limits,
    }


def review_lines(synthetic: Document) -> list[str]:
    """The last lines of a run: what was written, what waits for whom, and how it goes on."""
    review, generation = synthetic["review"], synthetic["generation"]
    lines = []
    if generation["planned_requests"]:
        lines.append(
            f"Would write {synthetic['plan']['reason']}: {generation['planned_requests']} requests "
            f"in the first round, at most {generation['most_usd']:.2f} USD for them."
        )
    if generation["candidates"]:
        lines.append(
            f"Written  {generation['candidates']} candidates by the {generation['writer']}"
        )
    if generation["short"]:
        short = ", ".join(f"{cell} ({count})" for cell, count in generation["short"].items())
        lines.append(f"Short    {short}")
    if generation["not_rewritten"]:
        lines.append(
            f"Again    {len(generation['not_rewritten'])} rejected candidates could not be written "
            "anew; the next run tries again"
        )
    lines += [f"Problem  {problem}" for problem in generation["problems"]]
    if review["total"]:
        lines.append(f"Review   {_counts(review)}")
    if review["open"]:
        lines.append(f"Waiting  {review['open']} candidates wait for people: {review['next']}")
    return lines


def _counts(review: Document) -> str:
    words = {
        "approved": "approved",
        "auto_approved": "approved by rule",
        "rejected": "rejected",
        "pending_review": "open",
        "regenerated": "written anew and open",
    }
    counts = [f"{review['counts'][state]} {word}" for state, word in words.items()]
    rate = percent(review["approval_rate"], 0)
    return f"{', '.join(counts)} of {review['total']} (approval rate {rate})"


def _generated(synthetic: Document) -> list[str]:
    plan, generation = synthetic["plan"], synthetic["generation"]
    found = [f"Plan of this run: {plan['reason']}."]
    if generation["requests"]:
        cost = f", estimated cost {generation['usd']:.4f} USD" if generation["usd"] else ""
        found.append(
            f"{generation['requests']} requests went to the {generation['writer']}{cost}: "
            f"{generation['written']} items came, {generation['candidates']} were put before "
            f"reviewers."
        )
    return found


def _reviewed(review: Document) -> list[str]:
    if not review["total"]:
        return []
    found = [f"Review of this tenant and name, all runs: {_counts(review)}."]
    if review["writers"]:
        found.append(f"Approved candidates were written by: {', '.join(review['writers'])}.")
    if review["open"]:
        found.append(
            f"{review['open']} candidates wait for people: {review['next']}. Then run the same "
            "command again."
        )
    return found


def with_and_without(metrics: Mapping[str, Any]) -> list[str]:
    """How the result changes with synthetic rows; nothing where no adapter did without them."""
    if metrics["status"] != "judged" or "real" not in metrics["models"]:
        return []
    measure, adapter = metrics["measure"], metrics["adapter"]
    without, compared = metrics["models"]["real"], metrics["comparisons"]["real"]
    found = [
        f"Without synthetic rows (SFT on the real rows alone): {percent(without[measure])}; with "
        f"them the {label(adapter)} reaches {percent(metrics['models'][adapter][measure])} on the "
        f"same {metrics['n']} held-out real rows ({compared['wins']} won, {compared['losses']} "
        f"lost, difference {points(compared['difference'])} "
        f"{span(compared['difference_low'], compared['difference_high'])})."
    ]
    if adapter != "sft" and "sft" in metrics["models"]:
        found.append(
            f"SFT alone with synthetic rows: {percent(metrics['models']['sft'][measure])}; the "
            f"rest of the difference is due to {adapter.upper()}."
        )
    return found


def _label_mix(distance: Document) -> list[str]:
    if distance["status"] != "compared" or distance["label_distance"] is None:
        return []
    return [
        f"The mix of labels differs by {percent(distance['label_distance'])} (total variation); "
        f"two sets of these sizes from one pool stay below {percent(distance['by_chance'])} in "
        "95 % of the draws."
    ]


def _table(distance: Document) -> list[tuple[str, str, str]]:
    real, synthetic = distance["real"], distance["synthetic"]
    rows = [("Rows", f"{real['n']:,}", f"{synthetic['n']:,}")]
    rows += [
        (words, _cell(real[key], key), _cell(synthetic[key], key))
        for key, words in _MEASURES.items()
    ]
    return rows


def _cell(value: Any, key: str) -> str:
    digits = 0 if key == "words" else 2
    if isinstance(value, dict):
        return " / ".join("–" if v is None else f"{v:.{digits}f}" for v in value.values())
    return "–" if value is None else f"{value:.2f}"
