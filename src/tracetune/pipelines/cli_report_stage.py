"""The last stage of ``cli``: the exported file answers the held-out requests; report of the run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.cli_schema.schema import CliSchema
from tracetune.evaluation.options import EvaluationOptions
from tracetune.pipelines.cli_judgement_stage import FIGURES, STAGES, parts_of, prediction
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example, Message

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from tracetune.export.runtime import GgufModel
else:
    DataFrame = Figure = Any

Document = dict[str, Any]


def answer_from_file(
    cli_schema: CliSchema,
    test: list[Example],
    model: Path,
    exported: Document,
    base: Document,
    predictions: DataFrame,
    candidates: Document,
    evaluation: EvaluationOptions,
) -> Document:
    """Answers of the exported file to all held-out requests, free and under the grammar.

    The file is opened as :class:`tracetune.ask.Interpreter` opens it, and both kinds of answers
    have the room that it gives, so validity, cut answers and latency are those of ``kedro ask``.

    Returns:
        ``status``, and for ``free`` and ``constrained`` the parts of the answers (domain reference
        B7), the share that was cut, the latency of each request alone (``p50_ms``, ``p99_ms``),
        and under ``against`` the comparison with the adapter the file was made of, on the same
        requests; ``likelihood``: perplexity of right answers in the file and in the adapter.
    """
    from tracetune.ask import MOST_TOKENS
    from tracetune.cli_schema.answer_schema import decoding_schema
    from tracetune.evaluation.metrics import by_model, comparison, records
    from tracetune.evaluation.statistics import quantile
    from tracetune.export.runtime import GgufModel

    if exported["status"] != "trained" or not test:
        reason = exported["reason"] or "there is no held-out request"
        return {"status": "unjudged", "reason": reason}

    found: Document = {"status": "judged", "n": len(test), "adapter": candidates["judged"]}
    adapter = by_model(records(predictions))[candidates["judged"]]
    path = next(model.glob("*.gguf"))
    with GgufModel(path) as loaded:
        loaded.answer(turns(test[0].prompt), max_tokens=1)  # the first one warms up
        for kind, grammar in (("free", None), ("constrained", decoding_schema(cli_schema))):
            answers = [
                loaded.answer(turns(row.prompt), max_tokens=MOST_TOKENS, grammar=grammar)
                for row in test
            ]
            latency = [answer.latency_ms for answer in answers]
            texts = {row.id: answer.text for row, answer in zip(test, answers, strict=True)}
            found[kind] = {
                **parts_of(cli_schema, test, texts),
                "against": comparison(
                    _in_order(
                        prediction(cli_schema, row, kind, answer)
                        for row, answer in zip(test, answers, strict=True)
                    ),
                    adapter,
                    evaluation,
                ),
                "cut": sum(answer.finish == "length" for answer in answers) / len(answers),
                "p50_ms": quantile(latency, 0.5),
                "p99_ms": quantile(latency, 0.99),
            }
        found["likelihood"] = _likelihood(loaded, Path(base["path"]), test, adapter)
    return found


def turns(prompt: list[Message]) -> list[dict[str, str]]:
    """A conversation as plain values."""
    return [message.model_dump() for message in prompt]


def _in_order(rows: Iterable[Document]) -> list[Document]:
    return sorted(rows, key=lambda row: str(row["row_id"]))


def _likelihood(
    loaded: GgufModel, base: Path, test: list[Example], adapter: list[Document]
) -> Document:
    """Perplexity of the right answers in file and adapter, where they fit both.

    llama.cpp gives one probability per request and keeps what it has read, so this takes about as
    long as answering once more. The token ids are those of the base's tokenizer; the gates of the
    export have proved that the file has the same ones.
    """
    from tracetune.evaluation.rewards import divided_ids
    from tracetune.evaluation.statistics import perplexity
    from tracetune.training.base import load_tokenizer

    tokenizer = load_tokenizer(base)
    known = {row["row_id"]: row["reference_nats"] for row in adapter}
    ours, theirs = [], []
    for row in test:
        prompt, answer = divided_ids(tokenizer, row.prompt, row.completion, row.id)
        if known[row.id] is None or len(prompt) + len(answer) >= loaded.context:
            continue
        logs = [
            loaded.log_probability([*prompt, *answer[:place]], token, keep=True)
            for place, token in enumerate(answer)
        ]
        ours.append(-math.fsum(logs) / len(logs))
        theirs.append(known[row.id])
    return {"n": len(ours), "file": perplexity(ours), "adapter": perplexity(theirs)}


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
    from tracetune.pipelines.judgement_notes import asked_lines, costs, row_counts

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
            notes=[
                *cli_notes.notes(generation, pairs, pair_decision, exported),
                cli_notes.earlier(candidates["previous"]),
                *asked_lines(candidates),
                *costs(plans),
            ],
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
                    *("cli_schema", "test", "model", "exported", "base", "predictions"),
                    *("candidates", "params:cli_evaluation"),
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
            **shared(
                pipeline, *(set(documents) - {"from_file", "exported"}), "test", "predictions"
            ),
            **shared(pipeline, *(f"figure_{figure}" for figure in FIGURES)),
            **of_stages,
            "cli_schema": "cli_schema",
            "model": f"{pipeline}.export.model",
            "exported": f"{pipeline}.export.report",
        },
        outputs=shared(pipeline, "from_file", "report", "summary"),
        parameters={"cli_evaluation", "tenant", "name"},
    )
