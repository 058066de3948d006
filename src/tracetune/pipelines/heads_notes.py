"""What the report of ``heads`` says: tables, sentences, lines at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracetune.evaluation.gate import Gate
from tracetune.evaluation.heads_held import FULL, HEADS
from tracetune.evaluation.heads_judge import (
    HEAD_NAMES,
    LABELS,
    measure_of,
    measure_words,
)
from tracetune.evaluation.heads_patterns import CONSTANT, COORDINATES, EMBEDDING
from tracetune.records.heads import PATTERNS

Document = dict[str, Any]
Row = list[str]
SIDES = ("train", "validation", "test")


def notes(
    metrics: Document,
    corpus: Document,
    decision: Document,
    reference: Document,
    base_given: str | None,
    plans: Mapping[str, Document],
) -> list[str]:
    """What a reader should know beside the verdict."""
    found = [f"Decision: {decision['reason']}.", *_of_corpus(corpus)]
    found.append(
        f"Causal coordinates are measured against N_ref = {reference['turns']:g} turns and "
        f"T_ref = {reference['seconds']:.0f} s, the medians of {reference['conversations']} "
        "training conversations."
    )
    if base_given:
        found.append(
            "Phase 1 was done elsewhere. Whether it was trained on conversations that are held out "
            "here is not known; if it was, the figures flatter the heads and the mean embedding."
        )
    if metrics["status"] == "judged":
        chosen = metrics["patterns"]
        found += [f"{head.capitalize()}: {metrics['verdicts'][head]}" for head in HEAD_NAMES]
        found.append(
            f"A pattern is named from a probability of {chosen['thresholds'][HEADS]:.2f}, chosen "
            f"on {chosen['tuned_on']} {_tuned_on(corpus)} turns; every other model has one of its "
            "own."
        )
    return [*found, *costs(plans)]


def _of_corpus(corpus: Document) -> list[str]:
    talks, turns = corpus["conversations"], corpus["turns"]
    sides = ", ".join(f"{talks[side]} for {side} ({turns[side]} turns)" for side in SIDES)
    text = f"{talks['read']} conversations: {sides}"
    if talks["without_an_answer"]:
        text += f"; {talks['without_an_answer']} without an answer are left out"
    if corpus["calls_of_tools"]:
        text += f"; {corpus['calls_of_tools']} calls of tools and results are no turns"
    by = "there is one author, so turns of one conversation are positives of the style head"
    if corpus["style_by"] == "author":
        by = "turns of one author are positives of the style head"
    return [f"{text}.", f"Style: {by}."]


def _tuned_on(corpus: Document) -> str:
    """Where thresholds were chosen, as ``judge_heads`` does."""
    if corpus["turns"]["validation"]:
        return "validation"
    return "training"


def costs(plans: Mapping[str, Document]) -> list[str]:
    """What the planned heads of a dry run would take."""
    return [
        f"Heads ({variant}) would take about {plan['estimate']['seconds']:.0f} s on this machine: "
        f"{plan['estimate']['steps']} steps, {plan['estimate']['tokens']:,} tokens through the "
        f"frozen base once, {plan['estimate']['cache_gb']:g} GB of kept states."
        for variant, plan in plans.items()
        if plan["estimate"]
    ]


def tables(metrics: Document, corpus: Document) -> list[Document]:
    """Heads against baselines, patterns one by one, calibration, signatures."""
    found = [_support(corpus)]
    if metrics["status"] != "judged":
        return found
    judged = [head for head in HEAD_NAMES if metrics[head].get("status") != "unjudged"]
    return [
        *(_of_head(metrics, head) for head in judged),
        _per_pattern(metrics),
        _more(metrics),
        *found,
    ]


def _of_head(metrics: Document, head: str) -> Document:
    """One head: every measure of every model, and the difference of the deciding one."""
    found = metrics[head]
    deciding = measure_of(metrics, head)
    measures = {
        "patterns": {"micro": "micro F1", "macro": "macro F1"},
        "style": {f"recall_{k}": f"recall@{k}" for k in found.get("neighbours", ())},
        "planning": {"cosine": "cosine", "centred": "cosine, mean taken away"},
    }[head]
    rows: list[Row] = []
    for model in _ordered(found["models"]):
        values = found["models"][model]
        row = [LABELS[model], *(_value(values[measure]) for measure in measures)]
        if head == "style":
            shown = values["silhouette"]
            row.append("–" if shown is None else f"{shown:.3f}")
        apart = found["against"].get(model)
        row.append("" if apart is None else _difference(apart[deciding]))
        rows.append(row)
    extra = ["silhouette"] if head == "style" else []
    return {
        "id": head,
        "title": f"{head.capitalize()} head",
        "caption": f"{metrics['n']} held-out turns of {metrics['conversations']} conversations, "
        "with 95 % intervals of a bootstrap over conversations. Last column: heads (causal) minus "
        f"this one in {measure_words(metrics, head)}, paired.",
        "header": ["model", *measures.values(), *extra, "difference"],
        "rows": rows,
    }


def _per_pattern(metrics: Document) -> Document:
    found = metrics["patterns"]
    each = found["models"][HEADS]["per_pattern"]
    others = [FULL, CONSTANT, EMBEDDING, COORDINATES]
    rows = []
    for name in PATTERNS:
        support, one = found["support"][name], each[name]
        rows.append(
            [
                name.replace("_", " ") + (" *" if support["test"] < 10 else ""),
                f"{support['train']} / {support['test']}",
                *(_share(one[key]) for key in ("precision", "recall", "f1")),
                *(_share(found["models"][other]["per_pattern"][name]["f1"]) for other in others),
            ]
        )
    return {
        "id": "per-pattern",
        "title": "Patterns one by one",
        "caption": "Support in training and held-out turns by the frozen rules; precision, recall "
        "and F1 of the heads, F1 of the others. * fewer than 10 held-out turns: says next to "
        "nothing. A dash: neither labelled nor named.",
        "header": [
            *("pattern", "support", "precision", "recall", "F1"),
            *(LABELS[other] for other in others),
        ],
        "rows": rows,
    }


def _more(metrics: Document) -> Document:
    """Calibration, ends of conversations, and how different signatures are."""
    calibration, planning, style = (
        metrics["patterns"]["calibration"],
        metrics["planning"],
        metrics["style"],
    )
    rows = []
    for model in _ordered(calibration):
        found = calibration[model]
        stops = planning.get("stop", {}).get("models", {})
        spread = style.get("spread", {}).get(model)
        rows.append(
            [
                "frequency in training" if model == CONSTANT else LABELS[model],
                f"{found['ece']:.3f}",
                _value(found["brier"]),
                _value(stops.get("frequency" if model == CONSTANT else model)),
                "–" if spread is None else f"{spread['mean_cosine']:.3f}",
                "–" if spread is None else ("yes" if spread["constant"] else "no"),
            ]
        )
    return {
        "id": "more",
        "title": "Calibration, ends and signatures",
        "caption": "ECE and Brier score of the pattern probabilities over all turns and patterns; "
        "Brier score of when the conversation ends, over all steps; mean cosine of the signatures "
        "of two turns, and whether the signature is constant. Lower Brier scores are better.",
        "header": ["model", "ECE", "Brier", "Brier of ends", "mean cosine", "constant"],
        "rows": rows,
    }


def _support(corpus: Document) -> Document:
    return {
        "id": "support",
        "title": "Support of the patterns",
        "caption": f"Turns that show each pattern by the rules, version {corpus['pattern_rules']}.",
        "header": ["pattern", *SIDES],
        "rows": [
            [name.replace("_", " "), *(str(corpus["support"][side][name]) for side in SIDES)]
            for name in PATTERNS
        ],
    }


def effect(metrics: Document) -> str:
    """What the number of held-out conversations allows to see."""
    if metrics["status"] != "judged":
        return "Nothing was judged."
    return (
        f"{metrics['n']} held-out turns lie in {metrics['conversations']} conversations, and turns "
        "of one conversation resemble each other: the intervals say how wide the doubt is."
    )


def summary_lines(metrics: Document, gate: Gate, corpus: Document) -> list[str]:
    """The lines a run ends with."""
    lines = [*_of_corpus(corpus)[:1], gate.verdict]
    if metrics["status"] == "judged":
        lines += [f"{head:9}{metrics['verdicts'][head]}" for head in HEAD_NAMES]
    return lines


def _ordered(models: Mapping[str, Any]) -> list[str]:
    """Models in the order in which people read them."""
    return [name for name in LABELS if name in models]


def _value(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _difference(found: Mapping[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
