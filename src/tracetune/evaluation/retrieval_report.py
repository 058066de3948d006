"""The report of an encoder as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracetune.evaluation.gate import Gate
from tracetune.evaluation.report import (
    _place,
    _verdict,
    _why_empty,
    cut,
    facts,
    figure_json,
    number,
)
from tracetune.evaluation.retrieval import SCORES
from tracetune.evaluation.retrieval_judge import LABELS, SCORE_LABELS

if TYPE_CHECKING:
    import plotly.graph_objects as go

LIMITS = (
    "Only documents that a search had shown could be clicked. A document that answers the query "
    "and was not shown counts as wrong, for every model alike.",
    "Clicks follow the order of the results of the old search; a model that ranks as it did has "
    "an advantage.",
    "The catalogue holds what searches showed in the read window, not every document there is.",
    "Latency is that of this machine, without a vector index.",
)


@dataclass(frozen=True, kw_only=True)
class RetrievalContext:
    """Everything the page shows.

    Attributes:
        title: Heading.
        tenant: Tenant of the run.
        name: What was trained.
        metrics: As :func:`tracetune.evaluation.retrieval_judge.judge` gives them.
        gate: The verdict.
        figures: Figures by a short name, in the order they are shown.
        funnel: The funnel of searches.
        funnel_steps: Its steps, as ``funnel_figure.funnel_steps`` gives them.
        counts: Rows per split by kind.
        preflight: Preflight report, as JSON values.
        made_with: How the run was made: nested names and values.
        notes: Sentences shown below the verdict.
    """

    title: str
    tenant: str
    name: str
    metrics: Mapping[str, Any]
    gate: Gate
    figures: Mapping[str, go.Figure]
    funnel: Mapping[str, Any]
    funnel_steps: Sequence[Mapping[str, Any]]
    counts: Mapping[str, Mapping[str, int]]
    preflight: Mapping[str, Any]
    made_with: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)


def render(context: RetrievalContext) -> str:
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
    environment.filters.update(number=number, cut=cut)
    shown = ("feedback", "triplets", "queries", "document_set", "used", "catalogue")
    return environment.get_template("retrieval.html.j2").render(
        c=context,
        judged=context.metrics["status"] == "judged",
        models=[model for model in LABELS if model in context.metrics.get("models", {})],
        labels=LABELS,
        scores=SCORES,
        score_labels=SCORE_LABELS,
        plotly_js=get_plotlyjs(),
        figures=[(key, figure_json(f)) for key, f in context.figures.items() if f.data],
        empty_figures=[_why_empty(f) for f in context.figures.values() if not f.data],
        verdict=_verdict(context.gate),
        splits=sorted({s for counts in context.counts.values() for s in counts}, key=_place),
        funnel_facts=_words({name: _counts(context.funnel[name]) for name in shown}),
        preflight=_words({k: v for k, v in context.preflight.items() if k != "gates"}),
        limits=LIMITS,
        made_with=facts(context.made_with),
    )


def _counts(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the funnel without what is drawn or would fill the page."""
    return {name: value for name, value in part.items() if name != "steps"}


def _words(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), text) for name, text in facts(value)]
