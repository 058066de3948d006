"""The last stage of ``eisv``: the report of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.eisv.prompt import VARIANTS
from tracetune.pipelines.eisv_judgement_stage import FIGURES
from tracetune.pipelines.namespaces import shared

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any

Document = dict[str, Any]

DOCUMENTS = (
    *("metrics", "gate", "windows", "mix", "labels", "blocks", "splits", "base", "decision"),
    "students",
)


def write_eisv_report(
    metrics: Document,
    gate: Document,
    windows: Document,
    mix: Document,
    labels: Document,
    blocks: Document,
    splits: Document,
    base: Document,
    decision: Document,
    students: Document,
    shapes: Figure,
    confusion: Figure,
    coherence: Figure,
    tokens: Figure,
    losses: Figure,
    tenant: str,
    name: str,
    **stages: Document,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run."""
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.report import ReportContext, render
    from tracetune.pipelines import eisv_notes
    from tracetune.pipelines.eisv_figures import WORDS
    from tracetune.pipelines.judgement_notes import costs
    from tracetune.splits import SplitManifest

    verdict = Gate.model_validate(gate)
    plans: dict[str, Document] = {variant: stages[f"{variant}_plan"] for variant in VARIANTS}
    preflights = {
        f"teacher {WORDS[variant]}": stages[f"{variant}_preflight"]
        for variant in VARIANTS
        if "gates" in stages[f"{variant}_preflight"]
    }
    counts = SplitManifest.model_validate(splits).counts
    page = render(
        ReportContext(
            title=f"{name}: EISV trajectories to expressions",
            tenant=tenant,
            name=name,
            metrics={"status": "eisv", "n": metrics["n"], "not_shown": metrics["not_shown"]},
            gate=verdict,
            figures={
                "coherence": coherence,
                "confusion": confusion,
                "tokens": tokens,
                "shapes": shapes,
                "losses": losses,
            },
            funnel=[],
            counts={"windows": counts["eisv"], "rows of all variants": counts["sft"]},
            preflight=preflights,
            made_with=made_with(base, plans, windows, labels),
            notes=[
                *eisv_notes.notes(windows, mix, decision, metrics, students),
                *costs(plans),
            ],
            tables=eisv_notes.tables(metrics, blocks, students),
            effect=eisv_notes.effect(metrics),
        )
    )
    lines = eisv_notes.summary_lines(metrics, verdict, decision)
    return page, "\n".join([*lines, *costs(plans)])


def made_with(
    base: Document, plans: dict[str, Document], windows: Document, labels: Document
) -> Document:
    """Hashes, versions and seeds of the run."""
    jobs = {variant: plan["job"] for variant, plan in plans.items() if plan["job"] is not None}
    first: Document = next(iter(jobs.values()), {})
    return {
        "source": windows["source"],
        "labels": labels[VARIANTS[0]]["labels"],
        "base": {key: value for key, value in base.items() if key != "path"},
        "jobs": {variant: plans[variant]["job_hash"] for variant in jobs},
        "versions": first.get("versions"),
        "seed": first.get("seed"),
    }


def eisv_report_stage(pipeline: str) -> Pipeline:
    """Metrics, reports of all stages, figures → ``report``, ``summary``.

    Args:
        pipeline: Name of the pipeline.
    """
    of_stages = {
        f"{variant}_{what}": f"{pipeline}.{variant}.{what}"
        for what in ("plan", "preflight")
        for variant in VARIANTS
    }
    return Pipeline(
        [
            Node(
                write_eisv_report,
                inputs={
                    **{name: name for name in (*DOCUMENTS, *of_stages)},
                    **{figure: f"figure_{figure}" for figure in FIGURES},
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
            **shared(pipeline, *(name for name in DOCUMENTS if name != "students")),
            **shared(pipeline, *(f"figure_{figure}" for figure in FIGURES)),
            **of_stages,
            "students": f"{pipeline}.student.report",
        },
        outputs=shared(pipeline, "report", "summary"),
        parameters={"tenant", "name"},
    )
