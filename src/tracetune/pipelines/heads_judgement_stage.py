"""The judgement of ``heads``: held-out turns, cheap baselines, verdict, figures, release."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.evaluation.heads_options import HeadsEvaluationOptions
from tracetune.files import read_json
from tracetune.pipelines.candidates import trained_adapters
from tracetune.pipelines.heads_data_stage import RELEASED, VARIANTS
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example, Split
from tracetune.records.heads import PATTERNS, HeadExtra, TrajectoryRow
from tracetune.runs import read_status, write_skipped
from tracetune.splits import SplitManifest, verify

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from tracetune.training.heads.api import Encoded
else:
    DataFrame = Figure = Any

Document = dict[str, Any]
FIGURES = ("heads", "confusion", "style_map", "gates", "calibration", "losses")


def judge_heads(
    causal_turns: list[TrajectoryRow],
    full_turns: list[TrajectoryRow],
    sidecar: list[HeadExtra],
    examples: list[Example],
    splits: Document,
    base: Document,
    causal_heads: Path,
    full_heads: Path,
    heads_evaluation: HeadsEvaluationOptions,
) -> tuple[DataFrame, Document, Document]:
    """What the heads say of held-out turns, their metrics, and the verdict.

    The manifest is checked against all answers before anything is judged. The base is loaded once
    and reads every text once; adapter off, shuffled coordinates and the other variant use the same
    states, lot by lot. It runs where the training ran, if that device is here too. The
    thresholds of the patterns are chosen on the validation turns, or the training turns if there
    are none.

    Returns:
        Probabilities of the patterns by row and model, metrics, gate; all three say so if there
        is nothing to judge.
    """
    import pandas as pd

    from tracetune.evaluation.heads_held import FULL, HEADS, OFF, SHUFFLED, turns_of
    from tracetune.evaluation.heads_judge import judge, nothing_judged, shuffled
    from tracetune.training.base import BaseModelRef
    from tracetune.training.heads.api import CHUNK, joined, load_twin

    manifest = SplitManifest.model_validate(splits)
    verify(manifest, examples)
    held = of_side(causal_turns, manifest, "test")
    trained = trained_adapters({"causal": causal_heads, "full": full_heads})
    if len(trained.adapters) < len(VARIANTS) or not held:
        metrics, gate = nothing_judged((trained.reason or "no turn was held out").rstrip("."))
        empty = pd.DataFrame(columns=["row_id", "model", *PATTERNS])
        return empty, metrics, gate.model_dump(mode="json")
    ref = BaseModelRef.model_validate(base)
    device = device_of(causal_heads)
    causal = load_twin(causal_heads, ref, device=device)
    full = load_twin(full_heads, ref, device=device, load_base_model=False)
    other = {row.row_id: row for row in full_turns}

    def asked_of(rows: list[TrajectoryRow], moved: list[TrajectoryRow]) -> dict[str, Encoded]:
        states = causal.states(rows)
        return {
            HEADS: causal.encode(rows, variant="causal", states=states),
            OFF: causal.encode(rows, variant="causal", adapter=False, states=states),
            SHUFFLED: causal.encode(moved, variant="causal", states=states),
            FULL: full.encode([other[row.row_id] for row in rows], variant="full", states=states),
        }

    def asked(rows: list[TrajectoryRow]) -> dict[str, Encoded]:
        moved = shuffled(rows, heads_evaluation.seed)
        lots = [
            asked_of(rows[n : n + CHUNK], moved[n : n + CHUNK]) for n in range(0, len(rows), CHUNK)
        ]
        return {model: joined([lot[model] for lot in lots]) for model in lots[0]}

    known = {extra.row_id: extra for extra in sidecar}
    fitted = of_side(causal_turns, manifest, "train")
    tuning = of_side(causal_turns, manifest, "validation") or fitted
    outputs, on_tuning = asked(held), asked(tuning)
    metrics, verdict = judge(
        turns_of(fitted, known, causal.encode(fitted, variant="causal").base_pooled),
        turns_of(tuning, known, on_tuning[HEADS].base_pooled),
        turns_of(held, known, outputs[HEADS].base_pooled),
        outputs,
        on_tuning,
        heads_evaluation,
    )
    return predictions(held, known, outputs), metrics, verdict.model_dump(mode="json")


def device_of(heads: Path) -> str:
    """Where heads were trained, if that device is here, else the CPU."""
    import torch

    trained_on = str(read_json(heads / "timing.json")["device"])
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return trained_on if here.get(trained_on) else "cpu"


def of_side(
    turns: list[TrajectoryRow], manifest: SplitManifest, side: Split
) -> list[TrajectoryRow]:
    """The turns of the conversations on one side."""
    from tracetune.conversations.heads_sides import side_of_conversations

    sides = side_of_conversations(manifest)
    return [row for row in turns if sides[row.conversation_id] == side]


def predictions(
    held: list[TrajectoryRow], known: Mapping[str, HeadExtra], outputs: Mapping[str, Any]
) -> DataFrame:
    """Probabilities of the patterns and the mean gate, by row and model, and the labels."""
    import pandas as pd

    found: list[Document] = []
    for number, row in enumerate(held):
        extra = known[row.row_id]
        place = {
            "row_id": row.row_id,
            "group": row.conversation_id,
            "role": extra.role,
            "phase_id": row.trajectory.phase_id,
            "text": row.messages[-1].content,
        }
        labels: Document = {
            name: float(label) for name, label in zip(PATTERNS, extra.patterns, strict=True)
        }
        found.append({**place, "model": "rules", "gate": None, **labels})
        for model, said in outputs.items():
            chances = (float(chance) for chance in said.pattern_probabilities[number])
            gate = float(said.gate_mean[number])
            found.append(
                {
                    **place,
                    "model": model,
                    "gate": gate,
                    **dict(zip(PATTERNS, chances, strict=True)),
                }
            )
    return pd.DataFrame(found)


def draw_heads(
    metrics: Document, causal_heads: Path, full_heads: Path
) -> tuple[Figure, Figure, Figure, Figure, Figure, Figure]:
    """Heads against baselines, confusion per pattern, style map, gates, calibration, losses."""
    from tracetune.evaluation import heads_figures
    from tracetune.pipelines.judgement_stage import history_of

    trained = {
        name: history_of(folder)
        for name, folder in (("causal", causal_heads), ("full", full_heads))
        if read_status(folder).status == "trained"
    }
    return (
        heads_figures.heads(metrics),
        heads_figures.confusion(metrics),
        heads_figures.style_map(metrics),
        heads_figures.gates(metrics),
        heads_figures.calibration(metrics),
        heads_figures.losses(trained),
    )


def release_heads(
    causal_heads: Path,
    base: Document,
    splits: Document,
    metrics: Document,
    gate: Document,
    work: Path,
) -> Path:
    """The causal heads with what serving needs: base, merged phase 1, threshold, verdict.

    They are released whatever the gate says: the verdict travels with them. Where nothing was
    judged no threshold was chosen, and none (null) stands there.
    """
    from tracetune.files import atomic_folder, write_json
    from tracetune.splits_derived import fitted_groups

    status, folder = read_status(causal_heads), work / "adapter"
    if status.status != "trained":
        shutil.rmtree(folder, ignore_errors=True)
        return write_skipped(folder, status.reason, status.status)
    thresholds = metrics["patterns"]["thresholds"] if metrics["status"] == "judged" else {}
    with atomic_folder(folder) as temporary:
        shutil.copytree(causal_heads, temporary, dirs_exist_ok=True)
        write_json(temporary / "gate.json", gate)
        write_json(
            temporary / "serving.json",
            {
                "base": base,
                "model_type": "heads",
                "pattern_threshold": thresholds.get(RELEASED),
                "output": {"compare": "heads"},
                "trained_until": None,
                "fitted_groups": fitted_groups(SplitManifest.model_validate(splits)),
            },
        )
    return folder


def heads_judgement_stage(pipeline: str) -> Pipeline:
    """Held-out turns and heads → predictions, metrics, gate, figures, release.

    Args:
        pipeline: Name of the pipeline.
    """
    figures = [f"figure_{figure}" for figure in FIGURES]
    heads = {f"{variant}_heads": f"{pipeline}.{variant}.adapter" for variant in VARIANTS}
    turns = {f"{variant}_turns": f"{pipeline}.{variant}.turns" for variant in VARIANTS}
    judged = Pipeline(
        [
            Node(
                judge_heads,
                inputs=[
                    *(*turns, "sidecar", "examples", "splits", "base", *heads),
                    "params:heads_evaluation",
                ],
                outputs=["predictions", "metrics", "gate"],
                name="judge",
                tags=["judgement", "gpu"],
            ),
            Node(
                draw_heads,
                inputs=["metrics", *heads],
                outputs=figures,
                name="draw_figures",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, "examples", "splits", "base"),
            **heads,
            **turns,
            "sidecar": f"{pipeline}.{RELEASED}.sidecar",
        },
        outputs=shared(pipeline, "predictions", "metrics", "gate", *figures),
        parameters={"heads_evaluation"},
    )
    released = Pipeline(
        [
            Node(
                release_heads,
                inputs=["causal_heads", "base", "splits", "metrics", "gate", "work"],
                outputs="adapter",
                name="release",
                tags="release",
            )
        ],
        namespace=f"{pipeline}.release",
        inputs={
            **shared(pipeline, "base", "splits", "metrics", "gate"),
            "causal_heads": f"{pipeline}.{RELEASED}.adapter",
        },
    )
    return judged + released
