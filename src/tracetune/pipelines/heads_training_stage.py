"""Phase 2 of ``heads``: turns → preflight → job on the frozen base → heads, for each variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from kedro.pipeline import Node, Pipeline
from pydantic import Field

from tracetune.errors import ConfigurationError, DataError
from tracetune.pipelines.heads_data_stage import PARTS, VARIANTS
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.prepare_stage import checked_flag, count_rows
from tracetune.pipelines.train_node import TRAIN_PARAMETERS, for_stage, train_node
from tracetune.records.heads import HeadExtra, TrajectoryReference, TrajectoryRow
from tracetune.runs import read_status
from tracetune.splits import SplitManifest
from tracetune.training.decision import StageDecision, Thresholds, demand
from tracetune.training.heads.options import HeadsOptions
from tracetune.training.options import SftOptions

Document = dict[str, Any]
NOTHING: Document = {"job": None, "job_hash": None, "estimate": None}


class HeadsParameters(HeadsOptions):
    """Parameters of phase 2 and where phase 1 comes from.

    Attributes:
        base: Folder of an adapter that phase 1 gave elsewhere (a model folder of this project, or
            what ``kedro jobs`` fetched); None: the stage ``heads.sft`` of this run.
        backend: Where phase 2 runs. Together AI trains no heads, so only this machine does.
    """

    base: str | None = Field(default=None, min_length=1)
    backend: Literal["local"] = "local"


def decide_heads(
    splits: Document, heads: HeadsParameters, sft: SftOptions, dry_run: bool
) -> Document:
    """Phase 1 if no result of it was given, and the heads of both variants.

    Raises:
        DataError: There are too few answers for phase 1.
        ConfigurationError: ``heads.base`` names no adapter; better told now than after a training.
    """
    given = given_adapter(heads.base) if heads.base else None
    dry, counts = checked_flag(dry_run), count_rows(SplitManifest.model_validate(splits))
    fewest = 1 if given else sft.min_sft_examples
    if counts.examples < fewest:
        raise DataError(
            f"{counts.examples} answers for phase 1, at least {fewest} are needed",
            where="heads_sft.min_sft_examples",
            remedy="put more conversations into data/01_raw/<tenant>/conversations, lower the "
            "parameter, or name the result of another phase 1 (heads.base)",
        )
    decision = demand("sft", counts, Thresholds(pairs=0, examples=fewest), dry_run=dry)
    both = StageDecision(
        chosen=True, train=not dry, reason="dry run: nothing is trained" if dry else ""
    )
    first, words = decision.stages["sft"], f"phase 1 (SFT) on {counts.examples} answers"
    if given:
        words = f"phase 1 is {heads.base}"
        first = StageDecision(chosen=False, train=False, reason=words)
    heads_of: dict[str, StageDecision] = dict.fromkeys(VARIANTS, both)
    stages = {**decision.stages, "sft": first, **heads_of}
    reason = f"{words}, then heads of both variants on the frozen result"
    changed = {"reason": reason, "stages": stages}
    return decision.model_copy(update=changed).model_dump(mode="json")


def inspect_turns(
    turns: list[TrajectoryRow],
    sidecar: list[HeadExtra],
    reference: Document,
    splits: Document,
    base: Document,
    heads: HeadsParameters,
    work: Path,
) -> Document:
    """The preflight report of the turns: support of each pattern, lengths, room of the cache."""
    from tracetune.training.base import BaseModelRef
    from tracetune.training.heads.job import inspect

    folder = write_turns(work / "data", turns, sidecar, reference, splits)
    report = inspect(folder, BaseModelRef.model_validate(base), options_of(heads))
    return report.model_dump(mode="json")


def plan_heads(
    turns: list[TrajectoryRow],
    sidecar: list[HeadExtra],
    reference: Document,
    splits: Document,
    base: Document,
    phase_1: Path,
    report: Document,
    decision: Document,
    heads: HeadsParameters,
    seed: int,
    work: Path,
    *,
    variant: str,
) -> Document:
    """The job on the frozen result of phase 1, or why there is none."""
    from tracetune.training.base import BaseModelRef
    from tracetune.training.heads import job as heads_job
    from tracetune.training.job import job_hash

    before, dry = read_status(phase_1), decision["dry_run"]
    if before.status == "waiting" and not heads.base:
        return {"train": False, "status": "waiting", "reason": before.reason, **NOTHING}
    inspected = heads_job.HeadsPreflight.model_validate(report)
    if inspected.rows < heads.min_turns:
        reason = f"{inspected.rows} training turns, heads.min_turns is {heads.min_turns}"
        return {"train": False, "status": "insufficient", "reason": reason, **NOTHING}
    heads_job.enforce(inspected)
    adapter = phase_1_adapter(phase_1, heads.base)
    if adapter is None and not dry:
        return {"train": False, "status": before.status, "reason": before.reason, **NOTHING}
    job = heads_job.build_heads_job(
        base=BaseModelRef.model_validate(base),
        adapter=adapter,
        dataset=write_turns(work / "data", turns, sidecar, reference, splits),
        options=options_of(heads),
        seed=seed,
    )
    decided = decision["stages"][variant]
    return {
        "train": decided["train"],
        "status": "skipped" if dry else "planned",
        "reason": decided["reason"],
        # A dry run has no result of phase 1 to build on, so its job is another one.
        "job": None if dry else job.model_dump(mode="json"),
        "job_hash": None if dry else job_hash(job),
        "estimate": heads_job.estimate(job, inspected) if dry else None,
    }


def options_of(heads: HeadsParameters) -> HeadsOptions:
    """What decides the result of phase 2."""
    return HeadsOptions.model_validate(heads.model_dump(exclude={"base", "backend"}))


def phase_1_adapter(trained: Path, given: str | None) -> Path | None:
    """The adapter that phase 1 gave: the one that was named, else that of this run, if any.

    Args:
        trained: Model folder of the stage ``sft``.
        given: ``heads.base``.
    """
    if given is not None:
        return given_adapter(given)
    return trained if read_status(trained).status == "trained" else None


def given_adapter(given: str) -> Path:
    """The adapter in a named folder, or in the ``adapter`` or ``model`` in it.

    Raises:
        ConfigurationError: There is none.
    """
    folder = Path(given).expanduser()
    for place in (folder, folder / "adapter", folder / "model"):
        if (place / "adapter_config.json").is_file():
            return place.resolve()
    raise ConfigurationError(
        f"there is no adapter in {given!r}",
        where="heads.base",
        remedy="name a folder with adapter_config.json and adapter_model.safetensors: a model "
        "folder in data/06_models, or what `kedro jobs fetch` brought",
    )


def write_turns(
    folder: Path,
    turns: list[TrajectoryRow],
    sidecar: list[HeadExtra],
    reference: Document,
    splits: Document,
) -> Path:
    """Writes the training and validation turns as the training reads them, whole or not at all."""
    from tracetune.conversations.heads_sides import side_of_conversations
    from tracetune.conversations.trajectory_rows import write_rows
    from tracetune.files import atomic_folder, canonical_json, write_json

    sides = side_of_conversations(SplitManifest.model_validate(splits))
    kept = ("train", "validation")
    with atomic_folder(folder) as temporary:
        for side in kept:
            rows = [row for row in turns if sides[row.conversation_id] == side]
            if rows or side == "train":
                write_rows(temporary / f"{side}.jsonl", rows)
        lines = [
            canonical_json(extra.model_dump(mode="json")) + "\n"
            for extra in sidecar
            if sides[extra.conversation_id] in kept
        ]
        (temporary / "sidecar.jsonl").write_text("".join(lines), encoding="utf-8")
        checked = TrajectoryReference.model_validate(reference)
        write_json(temporary / "reference.json", checked.model_dump(mode="json"))
    return folder


def heads_stage(pipeline: str, variant: str) -> Pipeline:
    """Turns of a variant → preflight → job → heads, under the namespace ``<pipeline>.<variant>``.

    Args:
        pipeline: Name of the pipeline.
        variant: ``causal`` or ``full``.
    """
    backend = "params:backend"
    rows = [*PARTS, "splits", "base"]
    return Pipeline(
        [
            Node(
                inspect_turns,
                inputs=[*rows, "params:heads", "work"],
                outputs="preflight",
                name="inspect",
                tags="training",
            ),
            Node(
                for_stage(plan_heads, variant=variant),
                inputs=[
                    *(*rows, "phase_1", "preflight", "decision"),
                    *("params:heads", "params:seed", "work"),
                ],
                outputs="plan",
                name="plan",
                tags="training",
            ),
            # Hidden states depend on texts alone: both variants read the same ones.
            train_node(f"{pipeline}.{variant}", job_folders="job_folders"),
        ],
        namespace=f"{pipeline}.{variant}",
        inputs={
            **shared(pipeline, "splits", "base", "decision", "logs"),
            **{part: f"{pipeline}.{variant}.{part}" for part in PARTS},
            "phase_1": f"{pipeline}.sft.adapter",
            "job_folders": f"{pipeline}.phase_2.work",
            "jobs": "jobs",
        },
        parameters={
            backend: "params:heads.backend",
            **{
                f"params:{name}": f"params:{name}"
                for name in ("heads", "seed", *TRAIN_PARAMETERS)
                if f"params:{name}" != backend
            },
        },
    )
