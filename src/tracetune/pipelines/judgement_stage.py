"""The judgement stage: candidates, their answers, metrics, gate, figures, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.evaluation.options import EvaluationOptions
from tracetune.outputs import OutputSpec
from tracetune.pipelines.answering import askable, asked, why_unasked
from tracetune.pipelines.candidates import trained_adapters
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.release_stage import release_stage
from tracetune.records import Example, Preference
from tracetune.splits import SplitManifest, verify
from tracetune.telemetry.options import TelemetryOptions

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    DataFrame = Figure = Any

Document = dict[str, Any]

FIGURES = ("losses", "rewards", "accuracy", "agents", "calibration", "funnel")


def collect_agents(
    base: Document,
    previous: Document,
    telemetry: TelemetryOptions,
    together: TogetherOptions,
    **stages: Any,
) -> Document:
    """Who is judged, by what rule, for an agent that answers in JSON.

    Args:
        base: The base model.
        previous: The adapter released before, or none.
        telemetry: Names the output schema and the instruction.
        together: Says whether hosted models are asked.
        **stages: ``<stage>_adapter`` and ``<stage>_plan`` of each stage, in order of training.
    """
    output = telemetry.output.model_dump(mode="json")
    asking = (why_unasked(base, together), together.judge_on)
    return collect_adapters(previous, output, telemetry.instruction, stages, *asking)


def collect_conversations(
    base: Document,
    previous: Document,
    telemetry: TelemetryOptions,
    together: TogetherOptions,
    **stages: Any,
) -> Document:
    """Who is judged, by what rule, for an assistant that answers in words."""
    text = OutputSpec(compare="text").model_dump(mode="json")
    asking = (why_unasked(base, together), together.judge_on)
    return collect_adapters(previous, text, telemetry.sessions.system_prompt, stages, *asking)


def collect_adapters(
    previous: Document,
    output: Document,
    instruction: str | None,
    stages: Document,
    unasked: str = "",
    asked_at: str = "local",
) -> Document:
    """The adapters that were trained, in their order; the last one is judged.

    Args:
        previous: The adapter released before, or none.
        output: What an answer is and how it is compared.
        instruction: System turn of every row.
        stages: ``<stage>_adapter`` and ``<stage>_plan`` of each stage, in order of training.
        unasked: Why nobody can ask the models; the adapter is released without a judgement then.
        asked_at: ``local`` or ``endpoint`` (``together.judge_on``).
    """
    found, rewards = trained_adapters(_of("adapter", stages)), None
    judged = next(reversed(found.adapters), None)
    if "dpo" in found.adapters:
        job = stages["dpo_plan"]["job"]
        reference = "sft" if job["start_from"] else "base"
        rewards = {"reference": reference, "beta": job["trainer"]["beta"]}
    previous = askable(previous, asked_at)
    first = {} if previous["path"] is None else {"previous": previous["path"]}
    return {
        "judged": judged,
        "status": "trained" if judged else found.missing,
        "reason": unasked if judged else found.reason,
        "adapters": {**first, **found.adapters} if judged else {},
        "rewards": rewards,
        "asked_at": asked_at,
        "previous": previous,
        "output": output,
        "instruction": instruction,
    }


def predict(
    test: list[Example],
    train: list[Example],
    splits: Document,
    base: Document,
    candidates: Document,
    evaluation: EvaluationOptions,
    together: TogetherOptions,
    jobs: RemoteJobs,
    test_pairs: list[Preference] | None = None,
    **rows: list[Any],
) -> tuple[DataFrame, list[Document]]:
    """Answers of base, adapters and cheap baselines on the held-out rows; rewards of the pairs.

    The split manifest is checked against all rows before anything is answered. Without an adapter
    or without held-out rows there are no answers, and neither if nobody can ask the models.

    Args:
        test: Held-out rows.
        train: Training rows, for the cheap baselines.
        splits: The manifest.
        base: The base model.
        candidates: Who is judged, by what rule.
        evaluation: Sizes and limits.
        together: Parameters of Together AI, if hosted models are asked.
        jobs: Jobs and endpoints there.
        test_pairs: Held-out pairs, where the pipeline has them.
        **rows: All rows that the manifest divides, by kind.
    """
    from tracetune.evaluation import judge

    verify(SplitManifest.model_validate(splits), [row for kind in rows.values() for row in kind])
    if not test or not candidates["adapters"] or why_unasked(base, together):
        nothing = judge.no_predictions()
        return nothing.answers, nothing.rewards
    rewards = None
    if candidates["rewards"] is not None:
        rewards = judge.RewardSpec(policy="dpo", **candidates["rewards"])
    adapters = {name: Path(path) for name, path in candidates["adapters"].items()}
    with asked(base, adapters, together, jobs, threads=evaluation.threads) as generator:
        found = judge.predict(
            base=base["path"],
            weights_sha256=base["weights_sha256"],
            adapters=adapters,
            train=train,
            test=test,
            pairs=test_pairs or [],
            rewards=rewards,
            output=OutputSpec.model_validate(candidates["output"]),
            options=evaluation,
            generator=generator,
        )
    return found.answers, found.rewards


def judge_adapter(
    predictions: DataFrame,
    rewards: list[Document],
    candidates: Document,
    evaluation: EvaluationOptions,
) -> tuple[Document, Document]:
    """Metrics and the verdict of the gate; both say ``unjudged`` when nothing was trained."""
    from tracetune.evaluation.judge import Predictions, judge

    found = judge(
        Predictions(predictions, rewards),
        adapter=candidates["judged"],
        options=evaluation,
        output=OutputSpec.model_validate(candidates["output"]),
        reason=candidates["reason"] or None,
    )
    return found.metrics, found.gate.model_dump(mode="json")


def draw_figures(
    metrics: Document, funnel: Document, candidates: Document
) -> tuple[Figure, Figure, Figure, Figure, Figure, Figure]:
    """Loss curves, reward curves, accuracy, accuracy per slice, reliability, funnel."""
    from tracetune.evaluation import figures, funnel_figure

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
        funnel_figure.funnel(funnel_figure.funnel_steps(funnel)),
    )


def history_of(adapter: Path) -> list[Document]:
    """What a training logged; empty for an adapter that came without it."""
    from tracetune.files import read_json

    path = adapter / "history.json"
    return read_json(path) if path.is_file() else []


def write_report(
    metrics: Document,
    gate: Document,
    losses: Figure,
    rewards: Figure,
    accuracy: Figure,
    agents: Figure,
    calibration: Figure,
    funnel_figure: Figure,
    funnel: Document,
    splits: Document,
    snapshot: Document,
    privacy: Document,
    base: Document,
    decision: Document,
    candidates: Document,
    tenant: str,
    name: str,
    synthetic: Document | None = None,
    distance_figure: Figure | None = None,
    **stages: Document,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run.

    ``synthetic`` and its figure are there in pipelines that have rows written for review.
    """
    from tracetune.evaluation.funnel_figure import funnel_steps
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.report import ReportContext, render, summary_lines
    from tracetune.pipelines.judgement_notes import (
        dry_run_lines,
        made_with,
        notes,
        row_counts,
        title,
    )
    from tracetune.pipelines.synthetic_notes import review_lines, synthetic_section

    verdict = Gate.model_validate(gate)
    counts = row_counts(splits)
    plans = _of("plan", stages)
    preflights = {
        stage: report for stage, report in _of("preflight", stages).items() if "gates" in report
    }
    page = render(
        ReportContext(
            title=title(name, decision, candidates),
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
                "funnel": funnel_figure,
                **({"distance": distance_figure} if synthetic else {}),
            },
            funnel=funnel_steps(funnel),
            counts=counts,
            preflight=preflights,
            made_with=made_with(snapshot, base, privacy, plans),
            notes=notes(decision, candidates, plans),
            synthetic=synthetic_section(synthetic, metrics) if synthetic else None,
        )
    )
    trained_on = {kind: rows for kind, rows in counts.items() if kind in ("examples", "pairs")}
    lines = summary_lines(metrics, verdict, trained_on)
    if decision["dry_run"]:
        lines += dry_run_lines(funnel, preflights, plans)
    if synthetic:
        lines += review_lines(synthetic)
    return page, "\n".join(lines)


def _of(what: str, stages: Document) -> Document:
    """What there is of one kind, by stage."""
    return {
        name.removesuffix(f"_{what}"): document
        for name, document in stages.items()
        if name.endswith(f"_{what}")
    }


def judgement_stage(
    pipeline: str,
    stages: Sequence[str],
    *,
    rows: Sequence[str] = ("examples", "preferences", "ratings"),
    collect: Callable[..., Document] = collect_agents,
    synthetic: bool = False,
) -> Pipeline:
    """Held-out rows and adapters → predictions, metrics, gate, figures, report, release.

    Args:
        pipeline: Name of the pipeline.
        stages: Its training stages in their order; the last one that trained is judged. With
            ``dpo`` among them held-out pairs are scored too.
        rows: Kinds of rows that the split manifest divides.
        collect: Says by what rule answers are judged.
        synthetic: The pipeline has rows written for review; the report tells about them.
    """
    tests = ["test", "test_pairs"] if "dpo" in stages else ["test"]
    of_stages = {
        f"{stage}_{what}": f"{pipeline}.{stage}.{what}"
        for what in ("adapter", "plan", "preflight")
        for stage in stages
    }
    # Not in the namespace of the stage: release reads the candidates too, and kedro-viz would draw
    # a way back from the judgement's inputs.
    collected = Pipeline(
        [_collect_node(collect, stages)],
        namespace=pipeline,
        inputs={k: v for k, v in of_stages.items() if not k.endswith("preflight")},
        parameters={"telemetry", "together"},
    )
    judged = Pipeline(
        [
            _predict_node([*rows, *tests]),
            Node(
                judge_adapter,
                inputs=["predictions", "rewards", "candidates", "params:evaluation"],
                outputs=["metrics", "gate"],
                name="judge",
                tags="judgement",
            ),
            Node(
                draw_figures,
                inputs=["metrics", "funnel", "candidates"],
                outputs=[f"figure_{figure}" for figure in FIGURES],
                name="draw_figures",
                tags="judgement",
            ),
            _report_node(stages, synthetic),
        ],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, *tests, *rows, "splits", "base", "candidates", "funnel"),
            **shared(pipeline, "snapshot", "privacy", "decision"),
            **{k: v for k, v in of_stages.items() if not k.endswith("adapter")},
            "train": f"{pipeline}.sft.train",
            "jobs": "jobs",
            **(shared(pipeline, "synthetic", "figure_distance") if synthetic else {}),
        },
        outputs=shared(
            pipeline,
            *("predictions", "rewards", "metrics", "gate", "report", "summary"),
            *(f"figure_{figure}" for figure in FIGURES),
        ),
        parameters={"evaluation", "together", "tenant", "name"},
    )
    return collected + judged + release_stage(pipeline)


def _collect_node(collect: Callable[..., Document], stages: Sequence[str]) -> Node:
    names = [f"{stage}_{what}" for stage in stages for what in ("adapter", "plan")]
    return Node(
        collect,
        inputs={
            **{name: name for name in ("base", "previous", *names)},
            "telemetry": "params:telemetry",
            "together": "params:together",
        },
        outputs="candidates",
        name="collect",
        tags="judgement",
    )


def _predict_node(rows: Sequence[str]) -> Node:
    return Node(
        predict,
        inputs={
            **{name: name for name in ("train", "splits", "base", "candidates", *rows)},
            "evaluation": "params:evaluation",
            "together": "params:together",
            "jobs": "jobs",
        },
        outputs=["predictions", "rewards"],
        name="predict",
        tags=["judgement", "gpu"],
    )


def _report_node(stages: Sequence[str], synthetic: bool) -> Node:
    documents = ["metrics", "gate", "funnel", "splits", "snapshot", "privacy", "base", "decision"]
    documents += ["candidates"]
    documents += [f"{stage}_{what}" for stage in stages for what in ("plan", "preflight")]
    drawn = {
        "funnel_figure" if figure == "funnel" else figure: f"figure_{figure}" for figure in FIGURES
    }
    if synthetic:
        drawn |= {"synthetic": "synthetic", "distance_figure": "figure_distance"}
    return Node(
        write_report,
        inputs={
            **{name: name for name in documents},
            **drawn,
            "tenant": "params:tenant",
            "name": "params:name",
        },
        outputs=["report", "summary"],
        name="write_report",
        tags="judgement",
    )
