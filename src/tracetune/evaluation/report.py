"""The report of a run as one HTML page, and the few lines a person reads at its end.

The page needs no network: plotly.js is inside, once, and a content policy in the page forbids any
other source. Every text is escaped by the template; figures travel as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.baselines import BASELINES
from tracetune.evaluation.gate import Gate
from tracetune.evaluation.metrics import smallest_effect
from tracetune.evaluation.names import COLOURS, MEASURES, label, p_value, percent, points, span

if TYPE_CHECKING:
    import plotly.graph_objects as go

Facts = list[tuple[str, str]]

PROMPT_CHARACTERS = 400
"""Longer texts are cut in the examples; the predictions hold them whole."""

_NOT_IN_PREFLIGHT = {"gates", "dropped_rows", "method"}

EXAMPLE_KINDS = {
    "wins": "Won: the adapter is right, the base is not",
    "losses": "Lost: the base is right, the adapter is not",
    "nearest_better": "The adapter is wrong, the nearest neighbour is right",
}


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Everything the page shows.

    Attributes:
        title: Heading, for example ``dpo: routing agent``.
        tenant: Tenant of the run.
        name: What was trained.
        metrics: As :func:`tracetune.evaluation.judge.judge` gives them.
        gate: The verdict.
        figures: Figures by a short name, in the order they are shown.
        funnel: Steps as :func:`tracetune.evaluation.funnel_figure.funnel_steps` gives them.
        counts: Rows per split by kind, for example ``{"examples": {"train": 700, "test": 110}}``.
        preflight: Preflight report by stage, as JSON values.
        made_with: How the run was made: nested names and values (hashes, versions, seeds).
        notes: Sentences shown below the verdict, for example the estimate of a dry run.
        tables: Further tables of one task, shown after the numbers: ``id``, ``title``,
            ``caption``, ``header`` and ``rows`` of texts; with ``prose`` set the cells are
            sentences, which wrap and stand on the left.
        synthetic: What is told about rows written for review: ``sentences``, ``table`` (rows of
            name, real, synthetic), ``dropped`` (rows of reason and number) and ``limits``; None
            where there are none.
        effect: What the number of held-out rows allows to see; None: the words for right and wrong
            answers.
    """

    title: str
    tenant: str
    name: str
    metrics: Mapping[str, Any]
    gate: Gate
    figures: Mapping[str, go.Figure]
    funnel: Sequence[Mapping[str, Any]]
    counts: Mapping[str, Mapping[str, int]]
    preflight: Mapping[str, Mapping[str, Any]]
    made_with: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)
    tables: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    synthetic: Mapping[str, Any] | None = None
    effect: str | None = None


def render(context: ReportContext) -> str:
    """The page as HTML text."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tracetune.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=points, label=label, span=span, number=number, cut=cut
    )
    order = [*COLOURS, *sorted(set(context.metrics.get("models", {})) - set(COLOURS))]
    return environment.get_template("report.html.j2").render(
        c=context,
        judged=context.metrics["status"] == "judged",
        compare=context.metrics.get("compare"),
        measure=context.metrics.get("measure", "accuracy"),
        models=[model for model in order if model in context.metrics.get("models", {})],
        plotly_js=get_plotlyjs(),
        figures=[
            (key, figure_json(figure)) for key, figure in context.figures.items() if figure.data
        ],
        empty_figures=[_why_empty(f) for f in context.figures.values() if not f.data],
        example_kinds=EXAMPLE_KINDS,
        verdict=_verdict(context.gate),
        effect=context.effect or _effect_words(context.metrics, context.counts),
        splits=sorted(
            {split for counts in context.counts.values() for split in counts}, key=_place
        ),
        preflight={stage: _preflight(found) for stage, found in context.preflight.items()},
        made_with=facts(context.made_with),
    )


def figure_json(figure: go.Figure) -> str:
    """A figure as JSON that can stand inside a script element."""
    text: str = figure.to_json()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _why_empty(figure: go.Figure) -> tuple[str, str]:
    """Title of a figure without data, and the reason it gives."""
    import html

    return figure.layout.title.text, html.unescape(figure.layout.annotations[0].text)


def facts(value: Any, prefix: str = "") -> Facts:
    """Nested names and values as flat lines ``a.b: value``; empty ones are left out."""
    if isinstance(value, Mapping):
        return [line for key, inner in value.items() for line in facts(inner, f"{prefix}.{key}")]
    if value is None or value == [] or value == "":
        return []
    if isinstance(value, list | tuple):
        text = ", ".join(number(item) for item in value)
    else:
        text = number(value)
    return [(prefix.removeprefix("."), text)]


def number(value: Any, digits: int = 3) -> str:
    """A value for people: dash for none, thousands separated, floats rounded."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) >= 10**-digits or value == 0 else f"{value:.2g}"
    return str(value)


def cut(text: str | None, length: int = PROMPT_CHARACTERS) -> str:
    """A text, shortened with an ellipsis if it is long."""
    if text is None:
        return "–"
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _verdict(gate: Gate) -> tuple[str, str, str]:
    """Class of the box, its heading, and the rest of the sentence."""
    if gate.status == "unjudged":
        kind, heading = "unjudged", "Not judged"
    else:
        kind, heading = ("yes", "Promote") if gate.promote else ("no", "Do not promote")
    rest = gate.verdict.removeprefix(heading).lstrip(": ")
    return kind, heading, rest[:1].upper() + rest[1:]


def _place(split: str) -> tuple[int, str]:
    order = ("train", "validation", "test", "dropped")
    return (order.index(split) if split in order else len(order), split)


def _preflight(report: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in report.items() if key not in _NOT_IN_PREFLIGHT}
    words = [(key.replace("_", " "), text) for key, text in facts(shown)]
    return {"facts": words, "gates": list(report.get("gates", []))}


def _effect_words(
    metrics: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]], alpha: float = 0.05
) -> str:
    """What the size of the test set allows to see, before and after the judgement."""
    n = metrics["n"] or counts.get("examples", {}).get("test", 0)
    alpha = metrics.get("alpha", alpha)
    least = smallest_effect(n, alpha)
    if least is None:
        return f"{n} held-out rows are too few to show any difference at p < {alpha:g}."
    words = (
        f"With {n} held-out rows the smallest improvement that can reach p < {alpha:g} is "
        f"{least * 100:.1f} points: every row on which the models differ would have to be won."
    )
    if metrics["status"] == "judged":
        against = metrics["comparisons"]["base"]
        noticed = against["smallest_effect_80"]
        if noticed is not None:
            words += (
                f" As often as adapter and base differ here ({against['wins'] + against['losses']} "
                f"rows), a true improvement of {noticed * 100:.1f} points would be noticed four "
                "times out of five."
            )
    return words


def summary_lines(
    metrics: Mapping[str, Any],
    gate: Gate,
    counts: Mapping[str, Mapping[str, int]],
    report_path: str | Path | None = None,
) -> list[str]:
    """The lines a run ends with.

    Args:
        metrics: Metrics of the run.
        gate: Its verdict.
        counts: Rows per split by kind.
        report_path: Where the page lies, if the caller knows.
    """
    used = "; ".join(
        f"{kind} " + ", ".join(f"{counts[kind][split]} {split}" for split in splits)
        for kind in counts
        if (splits := sorted(counts[kind], key=_place))
    )
    lines = [f"Rows     {used or 'none'}"]
    if metrics["status"] == "judged":
        adapter = metrics["adapter"]
        models = metrics["models"]
        against = metrics["comparisons"]["base"]
        measure = metrics["measure"]
        cheap = max(
            (model for model in BASELINES if model in models),
            key=lambda model: models[model][measure],
        )
        words = MEASURES[measure]
        words = words[:1].upper() + words[1:]
        lines += [
            f"{words:8} {label('base')} {_stated(models['base'], measure)}, "
            f"{label(adapter)} {_stated(models[adapter], measure)}, "
            f"{label(cheap)} {percent(models[cheap][measure])}",
            f"         {_difference(against, measure)} on {metrics['n']} held-out rows",
        ]
    lines.append(f"Verdict  {gate.verdict}")
    return lines if report_path is None else [*lines, f"Report   {report_path}"]


def _difference(against: Mapping[str, Any], measure: str) -> str:
    if measure == "accuracy":
        return (
            f"{points(against['difference'])} ({against['wins']} won, {against['losses']} lost, "
            f"{p_value(against['p'])})"
        )
    interval = span(against["score_low"], against["score_high"])
    return f"{points(against['score_difference'])} {interval}"


def _stated(found: Mapping[str, Any], measure: str) -> str:
    if measure == "score":
        return percent(found["score"])
    return f"{percent(found['accuracy'])} {span(found['accuracy_low'], found['accuracy_high'], 0)}"
