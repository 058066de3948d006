"""The last stage of ``twin``: the report of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.twin_judgement_stage import FIGURES, STAGES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any

Document = dict[str, Any]

DOCUMENTS = (
    *("metrics", "gate", "scores", "ab", "surgery", "splits", "base", "decision"),
    "candidates",
)

_KINDS = {"bad answers": "evaluation cases"}
"""Rows of evaluation cases hold the answer that failed."""


def write_twin_report(
    metrics: Document,
    gate: Document,
    scores: Document,
    ab: Document,
    surgery: Document,
    splits: Document,
    base: Document,
    decision: Document,
    candidates: Document,
    cases: Figure,
    score_figure: Figure,
    comparison: Figure,
    losses: Figure,
    rewards: Figure,
    tenant: str,
    name: str,
    **stages: Document,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run."""
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.report import ReportContext, render
    from tracetune.pipelines import twin_notes
    from tracetune.pipelines.judgement_notes import asked_lines, costs, row_counts
    from tracetune.pipelines.twin_tables import tables

    verdict = Gate.model_validate(gate)
    plans: dict[str, Document] = {stage: stages[f"{stage}_plan"] for stage in STAGES}
    preflights = {
        stage: stages[f"{stage}_preflight"]
        for stage in STAGES
        if "gates" in stages[f"{stage}_preflight"]
    }
    counts = {_KINDS.get(kind, kind): sides for kind, sides in row_counts(splits).items()}
    page = render(
        ReportContext(
            title=f"{name}: a model of one's own way of working",
            tenant=tenant,
            name=name,
            metrics={"status": "twin", "n": metrics["n"], "not_shown": metrics["not_shown"]},
            gate=verdict,
            figures={
                "cases": cases,
                "scores": score_figure,
                "comparison": comparison,
                "losses": losses,
                "rewards": rewards,
            },
            funnel=twin_notes.funnel_of(surgery),
            counts=counts,
            preflight=preflights,
            made_with=twin_notes.made_with(base, plans, metrics),
            notes=[
                *twin_notes.notes(decision, surgery, metrics, candidates),
                *asked_lines(candidates),
                *costs(plans),
            ],
            tables=tables(metrics, scores, ab, surgery),
            effect=twin_notes.effect(metrics),
        )
    )
    lines = twin_notes.summary_lines(metrics, scores, verdict, counts)
    return page, "\n".join([*lines, *costs(plans)])


def twin_report_stage(pipeline: str) -> Pipeline:
    """Metrics, reports of all stages, figures → ``report``, ``summary``.

    Args:
        pipeline: Name of the pipeline.
    """
    of_stages = {
        f"{stage}_{what}": f"{pipeline}.{stage}.{what}"
        for what in ("plan", "preflight")
        for stage in STAGES
    }
    return Pipeline(
        [
            Node(
                write_twin_report,
                inputs={
                    **{name: name for name in (*DOCUMENTS, *of_stages)},
                    # The suite's own figures are called scores too.
                    **{
                        "score_figure" if figure == "scores" else figure: f"figure_{figure}"
                        for figure in FIGURES
                    },
                    "tenant": "params:tenant",
                    "name": "params:name",
                },
                outputs=["report", "summary"],
                name="write_report",
                tags="judgement",
            )
        ],
        namespace=f"{pipeline}.reporting",
        inputs={
            **shared(pipeline, *DOCUMENTS),
            **shared(pipeline, *(f"figure_{figure}" for figure in FIGURES)),
            **of_stages,
        },
        outputs=shared(pipeline, "report", "summary"),
        parameters={"tenant", "name"},
    )
