"""The judgement of ``cli``: adapters and cheap baselines on held-out requests, verdict, figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.cli_schema.cli_options import CliOptions
from tracetune.cli_schema.schema import CliSchema
from tracetune.evaluation.options import EvaluationOptions
from tracetune.outputs import OutputSpec
from tracetune.pipelines.answering import asked, why_unasked
from tracetune.pipelines.judgement_stage import collect_adapters
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.release_stage import release_stage
from tracetune.records import Example, Preference
from tracetune.splits import SplitManifest, verify

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    DataFrame = Figure = Any

Document = dict[str, Any]

FIGURES = ("losses", "rewards", "accuracy", "agents", "calibration")
STAGES = ("sft", "dpo")
_BY_COMMAND = OutputSpec(target=("command",))
"""What the cheap baselines count: the command that an answer names."""

NOT_SHOWN = (
    "The held-out requests were written by the same writer as the training rows. People ask in "
    "other words: the figures say how well the model learned what was written, not how it will do "
    "in use.",
    "An answer counts as right if the object is the same without its confidence. Another command "
    "might have served the user as well.",
    "Only the judged adapter against the base is tested. The slices per command and the other "
    "comparisons describe; with many of them some differ by chance.",
    "Confidence is the probability of the exact text of the answer. A calibrated model can still "
    "be useless.",
    "Latency of the adapters was measured with transformers and the adapter not merged; that of "
    "the GGUF file stands beside it. Both are of the machine of this run.",
)
"""What a reader could wrongly take from the figures."""


def collect_cli(
    base: Document,
    previous: Document,
    cli_schema: CliSchema,
    cli: CliOptions,
    together: TogetherOptions,
    **stages: Any,
) -> Document:
    """Who is judged, by what rule, for a model of a command-line program.

    Args:
        base: The base model.
        previous: The adapter released before, or none.
        cli_schema: The program.
        cli: What the system turn tells.
        together: Says whether hosted models are asked.
        **stages: ``<stage>_adapter`` and ``<stage>_plan`` of each stage, in order of training.
    """
    from tracetune.cli_schema.load import schema_hash
    from tracetune.cli_schema.prompt import system_text

    output = {
        "compare": "cli",
        "schema": cli_schema.cli_name,
        "schema_sha256": schema_hash(cli_schema),
    }
    asking = (why_unasked(base, together), together.judge_on)
    return collect_adapters(previous, output, system_text(cli_schema, cli.prompt), stages, *asking)


def answer_requests(
    cli_schema: CliSchema,
    test: list[Example],
    train: list[Example],
    examples: list[Example],
    preferences: list[Preference],
    pair_splits: Document,
    base: Document,
    candidates: Document,
    evaluation: EvaluationOptions,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> DataFrame:
    """Answers of base, adapters and cheap baselines to the held-out requests.

    Base and adapters also say how likely they find the right answer. The manifest is checked
    against all rows and pairs before anything is answered. Without an adapter or without held-out
    rows there are no answers, and neither if nobody can ask the models.
    """
    from tracetune.cli_schema.baselines import KeywordMatcher
    from tracetune.cli_schema.rows import request_of
    from tracetune.evaluation.baselines import MajorityClass, NearestNeighbour
    from tracetune.evaluation.generate import BASE, Answer
    from tracetune.evaluation.judge import spread
    from tracetune.evaluation.likelihood import reference_nats
    from tracetune.evaluation.tables import frame

    verify(SplitManifest.model_validate(pair_splits), [*examples, *preferences])
    if not test or not candidates["adapters"] or why_unasked(base, together):
        return frame([])
    prompts = [row.prompt for row in test]
    timed = spread(len(test), evaluation.latency_rows)
    adapters = candidates["adapters"]
    with asked(base, adapters, together, jobs, threads=evaluation.threads) as generator:
        answers = {
            model: generator.answers(
                model,
                prompts,
                max_new_tokens=evaluation.max_new_tokens,
                batch_size=evaluation.batch_size,
                timed=timed,
            )
            for model in (BASE, *adapters)
        }
        nats = {
            model: reference_nats(generator, model, test, batch_size=evaluation.batch_size)
            for model in answers
        }
    answers[MajorityClass.name] = MajorityClass(train, _BY_COMMAND).answers(prompts)
    answers[NearestNeighbour.name] = NearestNeighbour(train, _BY_COMMAND).answers(prompts)
    matcher = KeywordMatcher(cli_schema)
    answers["keyword"] = [
        Answer(matcher.answer(request_of(row)), tokens=0, confidence=None) for row in test
    ]
    return frame(
        [
            prediction(cli_schema, row, model, answer) | {"reference_nats": likely}
            for model, given in answers.items()
            for row, answer, likely in zip(
                test, given, nats.get(model) or [None] * len(test), strict=True
            )
        ]
    )


def prediction(cli_schema: CliSchema, row: Example, model: str, answer: Any) -> Document:
    """One answer as a row of the table of predictions."""
    from tracetune.cli_schema.objects import AnswerError, answer_text, parse_answer
    from tracetune.cli_schema.rows import object_of, request_of
    from tracetune.cli_schema.score import score

    found = score(cli_schema, object_of(row), answer.text)
    try:
        parsed = answer_text(parse_answer(answer.text))
    except AnswerError:
        parsed = None
    command = row.tags["target"].split(" ")[0]
    context = "with context" if row.tags["context"] == "yes" else "without context"
    return {
        "row_id": row.id,
        "group": row.provenance.group,
        "created_at": None,
        "model": model,
        "prompt": request_of(row),
        "target": row.completion[0].content,
        "answer_text": answer.text,
        "answer": parsed,
        "valid_json": found.json_valid,
        "known": found.schema_valid,
        "correct": found.exact,
        "score": float(found.exact),
        "slices": f"{command}\n{context}",
        "confidence": answer.confidence,
        "latency_ms": answer.latency_ms,
        "tokens": answer.tokens,
        "finish": answer.finish,
    }


def judge_cli(
    cli_schema: CliSchema,
    predictions: DataFrame,
    test: list[Example],
    candidates: Document,
    evaluation: EvaluationOptions,
) -> tuple[Document, Document, Document]:
    """Metrics on exact match, the verdict of the gate, and the parts of an answer one by one.

    Returns:
        Metrics, gate, and scores: by model the shares of domain reference B7, over all requests,
        per command, per expected type and per context, the share of answers that were cut, and the
        perplexity of the right answers.
    """
    from tracetune.evaluation.baselines import BASELINES
    from tracetune.evaluation.gate import decide, unjudged
    from tracetune.evaluation.metrics import compute

    if candidates["judged"] is None or len(predictions) == 0:
        why = candidates["reason"] or "there is no held-out request"
        empty = {"status": "unjudged", "reason": why, "adapter": candidates["judged"], "n": 0}
        gate = unjudged(why, candidates["judged"])
        return empty, gate.model_dump(mode="json"), {"status": "unjudged", "models": {}}
    metrics = compute(
        predictions,
        [],
        adapter=candidates["judged"],
        options=evaluation,
        output=_BY_COMMAND,
        units="clusters of near-equal requests",
    )
    metrics = {**metrics, "not_shown": list(NOT_SHOWN)}
    verdict = decide(metrics, evaluation.gate, BASELINES)
    texts: dict[str, dict[str, str]] = {}
    cut: Counter[str] = Counter()
    for row in predictions.itertuples():
        texts.setdefault(row.model, {})[row.row_id] = row.answer_text
        cut[row.model] += row.finish == "length"
    models = {
        model: {
            **parts_of(cli_schema, test, given),
            "cut": cut[model] / len(given),
            "perplexity": metrics["models"][model]["perplexity"],
        }
        for model, given in texts.items()
    }
    return (
        metrics,
        verdict.model_dump(mode="json"),
        {"status": "judged", "models": models},
    )


def parts_of(cli_schema: CliSchema, test: list[Example], texts: dict[str, str]) -> Document:
    """How right the parts of answers are, over all requests and by kind of request.

    Args:
        cli_schema: The program.
        test: Held-out rows.
        texts: Answers by row id.
    """
    from tracetune.cli_schema.rows import object_of
    from tracetune.cli_schema.score import score, summarize, summarize_by

    scores = [score(cli_schema, object_of(row), texts[row.id]) for row in test]

    def by(tag: str) -> Document:
        found = summarize_by((row.tags[tag] for row in test), scores)
        return {key: part.model_dump(mode="json") for key, part in found.items()}

    return {
        "all": summarize(scores).model_dump(mode="json"),
        "by_target": by("target"),
        "by_type": by("type"),
        "by_context": by("context"),
    }


def draw_cli_figures(
    metrics: Document, candidates: Document
) -> tuple[Figure, Figure, Figure, Figure, Figure]:
    """Loss curves, reward curves, exact match, exact match per slice, reliability."""
    from tracetune.evaluation import figures
    from tracetune.pipelines.judgement_stage import history_of

    histories = {
        name: history_of(Path(path))
        for name, path in candidates["adapters"].items()
        if name != "previous"
    }
    return (
        figures.loss_curves(histories),
        figures.reward_curves(histories.get("dpo", [])),
        figures.accuracy(metrics),
        figures.accuracy_by_target(metrics),
        figures.reliability(metrics),
    )


def cli_judgement_stage(pipeline: str) -> Pipeline:
    """Held-out requests and adapters → predictions, metrics, gate, scores, figures, release.

    Args:
        pipeline: Name of the pipeline.
    """
    of_stages = {
        f"{stage}_{what}": f"{pipeline}.{stage}.{what}"
        for what in ("adapter", "plan")
        for stage in STAGES
    }
    # Not in the namespace of the stage: release reads the candidates too.
    collected = Pipeline(
        [
            Node(
                collect_cli,
                inputs={
                    **{name: name for name in ("base", "previous", "cli_schema", *of_stages)},
                    "cli": "params:cli",
                    "together": "params:together",
                },
                outputs="candidates",
                name="collect",
                tags="judgement",
            )
        ],
        namespace=pipeline,
        inputs={**of_stages, "cli_schema": "cli_schema"},
        parameters={"cli", "together"},
    )
    rows = ["test", "examples", "preferences", "pair_splits", "base", "candidates"]
    judged = Pipeline(
        [
            Node(
                answer_requests,
                inputs=[
                    *("cli_schema", "test", "train", "examples", "preferences", "pair_splits"),
                    *("base", "candidates", "params:cli_evaluation", "params:together", "jobs"),
                ],
                outputs="predictions",
                name="predict",
                tags=["judgement", "gpu"],
            ),
            Node(
                judge_cli,
                inputs=[
                    *("cli_schema", "predictions", "test", "candidates"),
                    "params:cli_evaluation",
                ],
                outputs=["metrics", "gate", "scores"],
                name="judge",
                tags="judgement",
            ),
            Node(
                draw_cli_figures,
                inputs=["metrics", "candidates"],
                outputs=[f"figure_{figure}" for figure in FIGURES],
                name="draw_figures",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, *rows),
            "cli_schema": "cli_schema",
            "train": f"{pipeline}.sft.train",
            "jobs": "jobs",
        },
        outputs=shared(
            pipeline,
            *("predictions", "metrics", "gate", "scores"),
            *(f"figure_{figure}" for figure in FIGURES),
        ),
        parameters={"cli_evaluation", "together"},
    )
    return collected + judged + release_stage(pipeline, "cli_evaluation")
