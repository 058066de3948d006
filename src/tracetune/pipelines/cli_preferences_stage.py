"""The preferences stage: what the SFT model answers wrongly becomes the worse side of a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.cli_schema.cli_options import CliOptions
from tracetune.cli_schema.schema import CliSchema
from tracetune.evaluation.options import EvaluationOptions
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example, Preference
from tracetune.runs import read_status
from tracetune.splits import SplitManifest, add_training_rows
from tracetune.training.options import DpoOptions

Document = dict[str, Any]


def answer_training_rows(
    train: list[Example],
    sft_adapter: Path,
    base: Document,
    cli: CliOptions,
    evaluation: EvaluationOptions,
    seed: int,
) -> list[Document]:
    """What the SFT model answers to some training rows; nothing if it was not trained.

    Returns:
        ``row`` (its id) and ``text`` of each answer, in the order of the rows.
    """
    from tracetune.evaluation.generate import load_generator
    from tracetune.files import sha256_json

    if read_status(sft_adapter).status != "trained":
        return []
    drawn = sorted(train, key=lambda row: sha256_json([seed, row.id]))[: cli.answer_rows]
    generator = load_generator(
        base["path"],
        {"sft": sft_adapter},
        threads=evaluation.threads,
        weights_sha256=base["weights_sha256"],
    )
    answers = generator.answers(
        "sft",
        [row.prompt for row in drawn],
        max_new_tokens=evaluation.max_new_tokens,
        batch_size=evaluation.batch_size,
    )
    return [
        {"row": row.id, "text": answer.text} for row, answer in zip(drawn, answers, strict=True)
    ]


def pair_answers(
    cli_schema: CliSchema, train: list[Example], answers: list[Document], cli: CliOptions, seed: int
) -> tuple[list[Preference], Document]:
    """Pairs of the right answer with what the model really wrote, or with a near miss."""
    from tracetune.cli_schema.pairs import make_pairs

    by_id = {row.id: row for row in train}
    pairs, report = make_pairs(
        cli_schema,
        [by_id[answer["row"]] for answer in answers],
        [answer["text"] for answer in answers],
        options=cli.pairs,
        seed=seed,
    )
    return pairs, report.model_dump(mode="json")


def divide_pairs(
    examples: list[Example], preferences: list[Preference], splits: Document
) -> Document:
    """The manifest with the pairs in it: they come from training rows and stay with them."""
    manifest = SplitManifest.model_validate(splits)
    return add_training_rows(manifest, examples, preferences).model_dump(mode="json")


def decide_pairs(decision: Document, pair_splits: Document, options: DpoOptions) -> Document:
    """Whether pairs are trained on: the decision of before, now that they can be counted."""
    pairs = SplitManifest.model_validate(pair_splits).count("pair", "train")
    before = decision["stages"]["dpo"]
    enough = pairs >= options.min_dpo_pairs
    why = "" if enough else f"{pairs} pairs, at least {options.min_dpo_pairs} are needed for DPO"
    stage = {
        "chosen": before["chosen"] and enough,
        "train": before["train"] and enough,
        "reason": before["reason"] or why,
    }
    return {
        **decision,
        "counts": {**decision["counts"], "pairs": pairs},
        "stages": {**decision["stages"], "dpo": stage},
    }


def preferences_stage(pipeline: str) -> Pipeline:
    """SFT adapter and training rows → ``preferences``, ``pair_splits``, ``pair_decision``.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                answer_training_rows,
                inputs=[
                    *("train", "sft_adapter", "base", "params:cli", "params:cli_evaluation"),
                    "params:seed",
                ],
                outputs="sft_answers",
                name="answer_training_rows",
                tags=["preferences", "gpu"],
            ),
            Node(
                pair_answers,
                inputs=["cli_schema", "train", "sft_answers", "params:cli", "params:seed"],
                outputs=["preferences", "pairs"],
                name="pair_answers",
                tags="preferences",
            ),
            Node(
                divide_pairs,
                inputs=["examples", "preferences", "splits"],
                outputs="pair_splits",
                name="divide_pairs",
                tags="splits",
            ),
            Node(
                decide_pairs,
                inputs=["decision", "pair_splits", "params:cli_dpo"],
                outputs="pair_decision",
                name="decide_pairs",
                tags="training",
            ),
        ],
        namespace=f"{pipeline}.preferences",
        inputs={
            **shared(pipeline, "examples", "splits", "base", "decision"),
            "cli_schema": "cli_schema",
            "train": f"{pipeline}.sft.train",
            "sft_adapter": f"{pipeline}.sft.adapter",
        },
        outputs=shared(
            pipeline, "sft_answers", "preferences", "pairs", "pair_splits", "pair_decision"
        ),
        parameters={"cli", "cli_evaluation", "cli_dpo", "seed"},
    )
