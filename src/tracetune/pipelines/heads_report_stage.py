"""The last stage of ``heads``: the report of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.heads_data_stage import RELEASED, VARIANTS
from tracetune.pipelines.heads_judgement_stage import FIGURES
from tracetune.pipelines.heads_training_stage import HeadsParameters
from tracetune.pipelines.namespaces import shared

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any

Document = dict[str, Any]

DOCUMENTS = ("metrics", "gate", "corpus", "splits", "base", "decision", "privacy")
STAGES = ("sft", *VARIANTS)


def write_heads_report(
    metrics: Document,
    gate: Document,
    corpus: Document,
    splits: Document,
    base: Document,
    decision: Document,
    privacy: Document,
    reference: Document,
    heads: Figure,
    confusion: Figure,
    style_map: Figure,
    gates: Figure,
    calibration: Figure,
    losses: Figure,
    options: HeadsParameters,
    tenant: str,
    name: str,
    **stages: Document,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run."""
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.report import ReportContext, render
    from tracetune.pipelines import heads_notes, judgement_notes

    verdict = Gate.model_validate(gate)
    plans: dict[str, Document] = {stage: stages[f"{stage}_plan"] for stage in STAGES}
    of_heads: dict[str, Document] = {variant: plans[variant] for variant in VARIANTS}
    page = render(
        ReportContext(
            title=f"{name}: heads on a frozen base",
            tenant=tenant,
            name=name,
            metrics={
                "status": "heads",
                "n": metrics["n"],
                "not_shown": metrics["not_shown"],
            },
            gate=verdict,
            figures={
                "heads": heads,
                "confusion": confusion,
                "calibration": calibration,
                "style_map": style_map,
                "gates": gates,
                "losses": losses,
            },
            funnel=[],
            counts={
                "answers of phase 1": judgement_notes.row_counts(splits)["examples"],
                "turns of phase 2": corpus["turns"],
            },
            preflight=_preflights(stages),
            made_with=made_with(base, plans, reference, privacy),
            notes=[
                *heads_notes.notes(metrics, corpus, decision, reference, options.base, of_heads),
                *judgement_notes.costs({"sft": plans["sft"]}),
            ],
            tables=heads_notes.tables(metrics, corpus),
            effect=heads_notes.effect(metrics),
        )
    )
    lines = heads_notes.summary_lines(metrics, verdict, corpus)
    return page, "\n".join([*lines, *heads_notes.costs(of_heads)])


def _preflights(stages: dict[str, Document]) -> dict[str, Document]:
    """Preflight reports by stage; what a gate means has the name that the page gives it."""
    found = {}
    for stage in STAGES:
        report = stages[f"{stage}_preflight"]
        if "gates" in report:
            gates = [
                {**gate, "text": gate["words"]} if "words" in gate else gate
                for gate in report["gates"]
            ]
            found["phase 1" if stage == "sft" else f"heads {stage}"] = {**report, "gates": gates}
    return found


def made_with(
    base: Document, plans: dict[str, Document], reference: Document, privacy: Document
) -> Document:
    """Hashes, versions and seeds of the run."""
    jobs = {stage: plan["job"] for stage, plan in plans.items() if plan["job"] is not None}
    last: Document = jobs.get(RELEASED, {})
    return {
        "base": {key: value for key, value in base.items() if key != "path"},
        "jobs": {stage: plans[stage]["job_hash"] for stage in jobs},
        "coordinates": reference,
        "phase 1": (last.get("start_from") or {}).get("weights_sha256"),
        "trainer": {
            key: value for key, value in last.get("trainer", {}).items() if key != "reference"
        },
        "versions": last.get("versions"),
        "seed": last.get("seed"),
        "redacted": privacy,
    }


def heads_report_stage(pipeline: str) -> Pipeline:
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
                write_heads_report,
                inputs={
                    **{name: name for name in (*DOCUMENTS, "reference", *of_stages)},
                    **{figure: f"figure_{figure}" for figure in FIGURES},
                    "options": "params:heads",
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
            "reference": f"{pipeline}.{RELEASED}.reference",
        },
        outputs=shared(pipeline, "report", "summary"),
        parameters={"heads", "tenant", "name"},
    )
