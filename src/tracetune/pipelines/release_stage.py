"""The release stage: the judged adapter with what serving needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.namespaces import shared

Document = dict[str, Any]


def release(
    candidates: Document,
    base: Document,
    splits: Document,
    gate: Document,
    max_new_tokens: int,
    work: Path,
) -> Path:
    """The judged adapter with what serving needs: base, instruction, and the verdict of the gate.

    It is released whatever the gate says: the verdict travels with it, and the registry reads it.
    """
    from tracetune.files import atomic_folder, write_json
    from tracetune.runs import write_skipped
    from tracetune.splits import SplitManifest
    from tracetune.splits_derived import fitted_groups

    folder = work / "adapter"
    if candidates["judged"] is None:
        shutil.rmtree(folder, ignore_errors=True)
        return write_skipped(folder, candidates["reason"], candidates["status"])
    with atomic_folder(folder) as temporary:
        adapter = candidates["adapters"][candidates["judged"]]
        shutil.copytree(adapter, temporary, dirs_exist_ok=True)
        write_json(temporary / "gate.json", gate)
        write_json(
            temporary / "serving.json",
            {
                "base": base,
                "instruction": candidates["instruction"],
                "output": candidates["output"],
                "max_new_tokens": max_new_tokens,
                "trained_until": splits["test_start"],
                "fitted_groups": fitted_groups(SplitManifest.model_validate(splits)),
            },
        )
    return folder


def release_stage(pipeline: str, evaluation: str = "evaluation") -> Pipeline:
    """Candidates and verdict → ``<pipeline>.release.adapter``.

    Args:
        pipeline: Name of the pipeline.
        evaluation: Name of the parameters of the judgement, which hold ``max_new_tokens``.
    """
    longest = "params:evaluation.max_new_tokens"
    return Pipeline(
        [
            Node(
                release,
                inputs=["candidates", "base", "splits", "gate", longest, "work"],
                outputs="adapter",
                name="release",
                tags="release",
            )
        ],
        namespace=f"{pipeline}.release",
        inputs=shared(pipeline, "candidates", "base", "splits", "gate"),
        parameters={longest: f"params:{evaluation}.max_new_tokens"},
    )
