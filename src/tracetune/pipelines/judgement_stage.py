"""The judgement stage: answers of all models, metrics, gate, figures, report, release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.evaluation.options import EvaluationOptions, OutputSpec
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example, Preference
from tracetune.runs import read_status
from tracetune.telemetry.options import TelemetryOptions
from tracetune.training.options import DpoOptions

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    DataFrame = Figure = Any


def predict(
    test: list[Example],
    test_pairs: list[Preference],
    sft_train: list[Example],
    base: dict[str, Any],
    sft_adapter: Path,
    dpo_adapter: Path,
    dpo_plan: dict[str, Any],
    telemetry: TelemetryOptions,
    evaluation: EvaluationOptions,
    options: DpoOptions,
) -> tuple[DataFrame, list[dict[str, Any]]]:
    """Answers of base, adapters and cheap baselines on the held-out rows; rewards of the pairs.

    A stage that did not train has no answers; without any adapter both are empty.
    """
    from tracetune.evaluation import judge

    adapters = {
        name: folder
        for name, folder in (("sft", sft_adapter), ("dpo", dpo_adapter))
        if read_status(folder).status == "trained"
    }
    rewards = None
    if "dpo" in adapters:
        rewards = judge.RewardSpec(
            policy="dpo",
            reference="sft" if options.start_from == "sft" else "base",
            beta=dpo_plan["job"]["trainer"]["beta"],
        )
    found = judge.predict(
        base=base["path"],
        weights_sha256=base["weights_sha256"],
        adapters=adapters,
        train=sft_train,
        test=test,
        pairs=test_pairs,
        rewards=rewards,
        output=OutputSpec(target=telemetry.output.target, known=telemetry.output.known),
        options=evaluation,
    )
    return found.answers, found.rewards


def judge_adapter(
    predictions: DataFrame,
    rewards: list[dict[str, Any]],
    dpo_adapter: Path,
    evaluation: EvaluationOptions,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and the verdict of the gate; both say ``unjudged`` when nothing was trained."""
    from tracetune.evaluation.judge import Predictions, judge

    status = read_status(dpo_adapter)
    trained = status.status == "trained"
    found = judge(
        Predictions(predictions, rewards),
        adapter="dpo" if trained else None,
        options=evaluation,
        reason=None if trained else status.reason,
    )
    return found.metrics, found.gate.model_dump(mode="json")


def draw_figures(
    metrics: dict[str, Any], funnel: dict[str, Any], sft_adapter: Path, dpo_adapter: Path
) -> tuple[Figure, Figure, Figure, Figure, Figure, Figure]:
    """Loss curves, reward curves, accuracy, accuracy per agent, reliability, funnel."""
    from tracetune.evaluation import figures

    sft, dpo = _history(sft_adapter), _history(dpo_adapter)
    return (
        figures.loss_curves({"sft": sft, "dpo": dpo}),
        figures.reward_curves(dpo),
        figures.accuracy(metrics),
        figures.accuracy_by_target(metrics),
        figures.reliability(metrics),
        figures.funnel(figures.funnel_steps(funnel)),
    )


def _history(adapter: Path) -> list[dict[str, Any]]:
    from tracetune.files import read_json

    path = adapter / "history.json"
    return read_json(path) if path.is_file() else []


def write_report(
    metrics: dict[str, Any],
    gate: dict[str, Any],
    losses: Figure,
    rewards: Figure,
    accuracy: Figure,
    agents: Figure,
    calibration: Figure,
    funnel_figure: Figure,
    funnel: dict[str, Any],
    splits: dict[str, Any],
    snapshot: dict[str, Any],
    privacy: dict[str, Any],
    base: dict[str, Any],
    decision: dict[str, Any],
    sft_preflight: dict[str, Any],
    dpo_preflight: dict[str, Any],
    sft_plan: dict[str, Any],
    dpo_plan: dict[str, Any],
    tenant: str,
    name: str,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run."""
    from tracetune.evaluation.figures import funnel_steps
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.report import ReportContext, render, summary_lines
    from tracetune.splits import SplitManifest

    verdict = Gate.model_validate(gate)
    kinds = SplitManifest.model_validate(splits).counts
    counts = {"examples": kinds.get("sft", {}), "pairs": kinds.get("pair", {})}
    notes = [f"Decision: {decision['reason']}."]
    if decision["dry_run"]:
        for stage, plan in (("SFT", sft_plan), ("DPO", dpo_plan)):
            cost = plan["estimate"]
            notes.append(
                f"{stage} would take about {cost['seconds']:.0f} s on this machine: "
                f"{cost['steps']} steps, {cost['tokens']:,} tokens."
            )
    page = render(
        ReportContext(
            title=f"dpo: {name}",
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
            },
            funnel=funnel_steps(funnel),
            counts=counts,
            preflight={"sft": sft_preflight, "dpo": dpo_preflight},
            made_with={
                "snapshot": {
                    key: snapshot[key] for key in ("project", "anchor", "window", "content_hash")
                },
                "base": {key: value for key, value in base.items() if key != "path"},
                "jobs": {"sft": sft_plan["job_hash"], "dpo": dpo_plan["job_hash"]},
                "versions": dpo_plan["job"]["versions"],
                "seed": dpo_plan["job"]["seed"],
                "redacted": privacy,
            },
            notes=notes,
        )
    )
    return page, "\n".join([*summary_lines(metrics, verdict, counts), *notes[1:]])


def release(
    adapter: Path,
    base: dict[str, Any],
    gate: dict[str, Any],
    telemetry: TelemetryOptions,
    evaluation: EvaluationOptions,
    work: Path,
) -> Path:
    """The adapter with what serving needs: base, instruction, and the verdict of the gate.

    It is released whatever the gate says: the verdict travels with it, and the registry reads it.
    """
    from tracetune.files import atomic_folder, write_json

    folder = work / "adapter"
    with atomic_folder(folder) as temporary:
        shutil.copytree(adapter, temporary, dirs_exist_ok=True)
        if read_status(adapter).status == "trained":
            write_json(temporary / "gate.json", gate)
            write_json(
                temporary / "serving.json",
                {
                    "base": base,
                    "instruction": telemetry.instruction,
                    "max_new_tokens": evaluation.max_new_tokens,
                },
            )
    return folder


def judgement_stage(pipeline: str) -> Pipeline:
    """Held-out rows and adapters → predictions, metrics, gate, figures, report, release.

    Args:
        pipeline: Name of the pipeline.
    """
    figures = ["losses", "rewards", "accuracy", "agents", "calibration", "funnel"]
    figure_names = [f"figure_{figure}" for figure in figures]
    judgement = Pipeline(
        [
            Node(
                predict,
                inputs=[
                    "test",
                    "test_pairs",
                    "sft_train",
                    "base",
                    "sft_adapter",
                    "dpo_adapter",
                    "dpo_plan",
                    "params:telemetry",
                    "params:evaluation",
                    "params:dpo",
                ],
                outputs=["predictions", "rewards"],
                name="predict",
                tags=["judgement", "gpu"],
            ),
            Node(
                judge_adapter,
                inputs=["predictions", "rewards", "dpo_adapter", "params:evaluation"],
                outputs=["metrics", "gate"],
                name="judge",
                tags="judgement",
            ),
            Node(
                draw_figures,
                inputs=["metrics", "funnel", "sft_adapter", "dpo_adapter"],
                outputs=figure_names,
                name="draw_figures",
                tags="judgement",
            ),
            Node(
                write_report,
                inputs=[
                    "metrics",
                    "gate",
                    *figure_names,
                    "funnel",
                    "splits",
                    "snapshot",
                    "privacy",
                    "base",
                    "decision",
                    "sft_preflight",
                    "dpo_preflight",
                    "sft_plan",
                    "dpo_plan",
                    "params:tenant",
                    "params:name",
                ],
                outputs=["report", "summary"],
                name="write_report",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, "test", "test_pairs", "base", "funnel", "splits"),
            **shared(pipeline, "snapshot", "privacy", "decision"),
            **{
                f"{stage}_{name}": f"{pipeline}.{stage}.{name}"
                for stage in ("sft", "dpo")
                for name in ("adapter", "preflight", "plan")
            },
            "sft_train": f"{pipeline}.sft.train",
        },
        outputs=shared(
            pipeline,
            *("predictions", "rewards", "metrics", "gate", "report", "summary"),
            *figure_names,
        ),
        parameters={"telemetry", "evaluation", "dpo", "tenant", "name"},
    )
    released = Pipeline(
        [
            Node(
                release,
                inputs=[
                    "trained",
                    "base",
                    "gate",
                    "params:telemetry",
                    "params:evaluation",
                    "work",
                ],
                outputs="adapter",
                name="release",
                tags="release",
            )
        ],
        namespace=f"{pipeline}.release",
        inputs={**shared(pipeline, "base", "gate"), "trained": f"{pipeline}.dpo.adapter"},
        parameters={"telemetry", "evaluation"},
    )
    return judgement + released
