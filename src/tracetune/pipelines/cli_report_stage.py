"""The last stage of ``cli``: the exported file answers the held-out requests; report of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.cli_schema.schema import CliSchema
from tracetune.evaluation.options import EvaluationOptions
from tracetune.export.options import ExportOptions
from tracetune.pipelines.cli_judgement_stage import FIGURES, STAGES, parts_of
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any

Document = dict[str, Any]


def answer_from_file(
    cli_schema: CliSchema,
    test: list[Example],
    model: Path,
    exported: Document,
    evaluation: EvaluationOptions,
    export: ExportOptions,
) -> Document:
    """Answers of the exported file to all held-out requests, free and under the grammar.

    Returns:
        ``status``, and for ``free`` and ``constrained`` the parts of the answers (domain reference
        B7), how many were cut, and the latency of each request alone (``p50_ms``, ``p99_ms``).
    """
    from tracetune.ask import MOST_TOKENS
    from tracetune.cli_schema.answer_schema import decoding_schema
    from tracetune.evaluation.statistics import quantile
    from tracetune.export.runtime import GgufModel
    from tracetune.records import Message

    if exported["status"] != "trained" or not test:
        reason = exported["reason"] or "there is no held-out request"
        return {"status": "unjudged", "reason": reason}

    def turns(prompt: list[Message]) -> list[dict[str, str]]:
        return [message.model_dump() for message in prompt]

    found: Document = {"status": "judged", "n": len(test)}
    path = next(model.glob("*.gguf"))
    with GgufModel(path, threads=export.threads, context=export.context) as loaded:
        loaded.answer(turns(test[0].prompt), max_tokens=1)  # the first one warms up
        kinds = (
            ("free", None, evaluation.max_new_tokens),
            ("constrained", decoding_schema(cli_schema), MOST_TOKENS),
        )
        for kind, grammar, most in kinds:
            answers = [
                loaded.answer(turns(row.prompt), max_tokens=most, grammar=grammar) for row in test
            ]
            latency = [answer.latency_ms for answer in answers]
            texts = {row.id: answer.text for row, answer in zip(test, answers, strict=True)}
            found[kind] = {
                **parts_of(cli_schema, test, texts),
                "cut": sum(answer.finish == "length" for answer in answers),
                "p50_ms": quantile(latency, 0.5),
                "p99_ms": quantile(latency, 0.99),
            }
    return found


def write_cli_report(
    metrics: Document,
    gate: Document,
    scores: Document,
    from_file: Document,
    exported: Document,
    generation: Document,
    pairs: Document,
    pair_splits: Document,
    base: Document,
    pair_decision: Document,
    candidates: Document,
    losses: Figure,
    rewards: Figure,
    accuracy: Figure,
    agents: Figure,
    calibration: Figure,
    tenant: str,
    name: str,
    **stages: Document,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run."""
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.report import ReportContext, render, summary_lines
    from tracetune.pipelines import cli_notes
    from tracetune.pipelines.judgement_notes import costs, row_counts

    verdict = Gate.model_validate(gate)
    counts = row_counts(pair_splits)
    plans = {stage: stages[f"{stage}_plan"] for stage in STAGES}
    preflights = {
        stage: stages[f"{stage}_preflight"]
        for stage in STAGES
        if "gates" in stages[f"{stage}_preflight"]
    }
    page = render(
        ReportContext(
            title=f"{name}: requests to commands of {candidates['output']['schema']}",
            tenant=tenant,
            name=name,
            metrics=metrics,
            gate=verdict,
            figures={
                "accuracy": accuracy,
                "agents": agents,
                "losses": losses,
                "rewards": rewards,
                "calibration": calibration,
            },
            funnel=cli_notes.funnel_of(generation),
            counts=counts,
            preflight=preflights,
            made_with=cli_notes.made_with(base, plans, generation, exported),
            notes=[*cli_notes.notes(generation, pairs, pair_decision, exported), *costs(plans)],
            tables=cli_notes.tables(scores, from_file),
        )
    )
    trained_on = {kind: rows for kind, rows in counts.items() if kind in ("examples", "pairs")}
    lines = summary_lines(metrics, verdict, trained_on)
    lines += cli_notes.file_lines(from_file, exported)
    return page, "\n".join([*lines, *costs(plans)])


def cli_report_stage(pipeline: str) -> Pipeline:
    """Exported file, metrics, figures → ``from_file``, ``report``, ``summary``.

    Args:
        pipeline: Name of the pipeline.
    """
    of_stages = {
        f"{stage}_{what}": f"{pipeline}.{stage}.{what}"
        for what in ("plan", "preflight")
        for stage in STAGES
    }
    documents = [
        *("metrics", "gate", "scores", "from_file", "exported", "generation", "pairs"),
        *("pair_splits", "base", "pair_decision", "candidates"),
    ]
    return Pipeline(
        [
            Node(
                answer_from_file,
                inputs=[
                    *("cli_schema", "test", "model", "exported"),
                    *("params:cli_evaluation", "params:export"),
                ],
                outputs="from_file",
                name="answer_from_file",
                tags="judgement",
            ),
            Node(
                write_cli_report,
                inputs={
                    **{name: name for name in (*documents, *of_stages)},
                    **{figure: f"figure_{figure}" for figure in FIGURES},
                    "tenant": "params:tenant",
                    "name": "params:name",
                },
                outputs=["report", "summary"],
                name="write_report",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.file",
        inputs={
            **shared(pipeline, *(set(documents) - {"from_file", "exported"}), "test"),
            **shared(pipeline, *(f"figure_{figure}" for figure in FIGURES)),
            **of_stages,
            "cli_schema": "cli_schema",
            "model": f"{pipeline}.export.model",
            "exported": f"{pipeline}.export.report",
        },
        outputs=shared(pipeline, "from_file", "report", "summary"),
        parameters={"cli_evaluation", "export", "tenant", "name"},
    )
