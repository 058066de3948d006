"""Sentences and facts of a run's report that come from more than one of its documents."""

from __future__ import annotations

from typing import Any

from tracetune.splits import SplitManifest

Document = dict[str, Any]

KINDS = {
    "sft": "examples",
    "pair": "pairs",
    "good": "good answers",
    "bad": "bad answers",
}
"""Kinds of rows in a split manifest, as people read them."""

ENDPOINT = (
    "Base and adapters were asked at an endpoint of Together AI, with its weights and its chat "
    "template. It shows no probabilities, so confidence, likelihood and rewards are not measured; "
    "neither is latency, which would be that of the network."
)
"""What judging at an endpoint leaves out."""


def title(name: str, decision: Document, candidates: Document) -> str:
    """Heading of the report: what was trained by which method."""
    method = decision["method"]
    words = method if method in ("insufficient", "waiting") else method.upper()
    on = " on conversations" if candidates["output"]["compare"] == "text" else ""
    return f"{name}: {words}{on}"


def row_counts(splits: Document) -> dict[str, dict[str, int]]:
    """Rows per side by kind: those of the first two kinds always, the others if there are any."""
    found = SplitManifest.model_validate(splits).counts
    always = ("sft", "pair") if "pair" in found else ("sft",)
    return {
        words: found.get(kind, {})
        for kind, words in KINDS.items()
        if kind in always or found.get(kind)
    }


def notes(decision: Document, candidates: Document, plans: dict[str, Document]) -> list[str]:
    """What a reader should know beside the verdict: decision, earlier adapter, cost."""
    counts, confidence = decision["counts"], decision["confidence"]
    rows = (
        f"{counts['pairs']} pairs, {counts['examples']} approved rows, {counts['good']} good and "
        f"{counts['bad']} bad answers for training"
    )
    found = [f"Decision: {decision['reason']} ({rows}; confidence {confidence:.2f})."]
    previous = candidates["previous"]
    if previous["path"] is None:
        found.append(f"Previous adapter: none ({previous['reason']}).")
    else:
        text = f"Previous adapter: {previous['pipeline']}, version {previous['version']}."
        if previous["saw_test_window"]:
            text += " It was trained on rows of this test window, so its figures flatter it."
        found.append(text)
    return found + asked_lines(candidates) + costs(plans)


def asked_lines(candidates: Document) -> list[str]:
    """What a reader should know of where the models were asked; nothing if it was here."""
    return [ENDPOINT] if candidates["asked_at"] == "endpoint" else []


def costs(plans: dict[str, Document]) -> list[str]:
    """What the planned stages of a dry run would take: time here, or money at Together AI."""
    from tracetune.backends.together_prices import Price, price_lines

    found = []
    for stage, plan in plans.items():
        cost = plan["estimate"]
        if cost is not None:
            found.append(
                f"{stage.upper()} would take about {cost['seconds']:.0f} s on this machine: "
                f"{cost['steps']} steps, {cost['tokens']:,} tokens."
            )
    prices = [
        (stage, Price.model_validate(plan["price"]))
        for stage, plan in plans.items()
        if plan["price"]
    ]
    return found + price_lines(prices)


def dry_run_lines(
    funnel: Document, preflights: dict[str, Document], plans: dict[str, Document]
) -> list[str]:
    """Funnel, preflight and cost in a few lines for the end of a dry run."""
    from tracetune.evaluation.funnel_figure import funnel_steps

    lines = ["Funnel"]
    lines += [
        f"  {step['step']:<22} {step['count']:>8,}"
        + (f"   -{step['dropped']:,}" if step["dropped"] else "")
        for step in funnel_steps(funnel)
    ]
    for stage, report in preflights.items():
        failed = [gate["name"] for gate in report["gates"] if not gate["passed"]]
        lengths = report["sequence_tokens"]
        lines.append(
            f"Preflight of {stage.upper()}: {report['rows_used']} of {report['rows_in']} rows, "
            f"{'about ' if report['counted_by'] == 'bytes' else ''}{lengths['p50']} to "
            f"{lengths['p100']} tokens, {report['trained_tokens']:,} trained; "
            + (f"failed: {', '.join(failed)}" if failed else "all checks hold")
        )
    return [*lines, *costs(plans)]


def made_with(
    snapshot: Document, base: Document, privacy: Document, plans: dict[str, Document]
) -> Document:
    """Hashes, versions and seeds of the run."""
    jobs = {stage: plan["job"] for stage, plan in plans.items() if plan["job"] is not None}
    first: Document = next(iter(jobs.values()), {})
    return {
        "snapshot": {key: snapshot[key] for key in ("project", "anchor", "window", "content_hash")},
        "base": {key: value for key, value in base.items() if key != "path"},
        "jobs": {stage: plans[stage]["job_hash"] for stage in jobs},
        "versions": first.get("versions"),
        "seed": first.get("seed"),
        "redacted": privacy,
    }
