"""The preferences stage: what the SFT model answers wrongly becomes the worse side of a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.cli_schema.cli_options import CliOptions
from tracetune.cli_schema.schema import CliSchema
from tracetune.evaluation.options import EvaluationOptions
from tracetune.pipelines.answering import asked, why_unasked
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example, Preference
from tracetune.runs import read_status
from tracetune.splits import SplitManifest
from tracetune.splits_derived import add_derived_rows
from tracetune.training.options import DpoOptions

Document = dict[str, Any]


def answer_own_rows(
    train: list[Example],
    validation: list[Example],
    sft_adapter: Path,
    base: Document,
    cli: CliOptions,
    evaluation: EvaluationOptions,
    seed: int,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> list[Document]:
    """What the SFT model answers to some training rows, and to the same share of validation rows.

    Pairs of the validation rows are not trained on: DPO stops by them. Nothing is answered if SFT
    was not trained, or nobody can ask it.

    Returns:
        ``row`` (its id), ``text`` and ``finish`` of each answer.
    """
    from tracetune.files import sha256_json

    if read_status(sft_adapter).status != "trained" or why_unasked(base, together):
        return []

    def some(rows: list[Example], count: int) -> list[Example]:
        return sorted(rows, key=lambda row: sha256_json([seed, row.id]))[:count]

    drawn = some(train, cli.answer_rows)
    drawn += some(validation, round(len(validation) * len(drawn) / max(1, len(train))))
    adapters = {"sft": sft_adapter}
    with asked(base, adapters, together, jobs, threads=evaluation.threads) as generator:
        answers = generator.answers(
            "sft",
            [row.prompt for row in drawn],
            max_new_tokens=evaluation.max_new_tokens,
            batch_size=evaluation.batch_size,
        )
    return [
        {"row": row.id, "text": answer.text, "finish": answer.finish}
        for row, answer in zip(drawn, answers, strict=True)
    ]


def pair_answers(
    cli_schema: CliSchema,
    train: list[Example],
    validation: list[Example],
    answers: list[Document],
    cli: CliOptions,
    seed: int,
) -> tuple[list[Preference], Document]:
    """Pairs of the right answer with what the model really wrote, or with a near miss.

    An answer that was cut makes no pair: its end would teach that an answer may stop anywhere.

    Returns:
        Pairs of training and of validation rows, and the report: that of
        :class:`tracetune.cli_schema.pairs.PairReport` for training rows with ``cut``, and the same
        for validation rows under ``validation``.
    """
    from tracetune.cli_schema.pairs import make_pairs

    found: list[Preference] = []
    reports = []
    for rows in (train, validation):
        by_id = {row.id: row for row in rows}
        mine = [answer for answer in answers if answer["row"] in by_id]
        whole = [answer for answer in mine if answer["finish"] == "stop"]
        pairs, report = make_pairs(
            cli_schema,
            [by_id[answer["row"]] for answer in whole],
            [answer["text"] for answer in whole],
            options=cli.pairs,
            seed=seed,
        )
        found += pairs
        cut = len(mine) - len(whole)
        reports.append({**report.model_dump(mode="json"), "asked": len(mine), "cut": cut})
    return found, {**reports[0], "validation": reports[1]}


def divide_pairs(preferences: list[Preference], splits: Document) -> Document:
    """The manifest with the pairs in it: each stands where the row that it was made from stands."""
    origin = {pair.id: pair.provenance.ids["row"] for pair in preferences}
    manifest = SplitManifest.model_validate(splits)
    return add_derived_rows(manifest, preferences, origin).model_dump(mode="json")


def decide_pairs(
    decision: Document,
    pair_splits: Document,
    sft_adapter: Path,
    options: DpoOptions,
    base: Document,
    together: TogetherOptions,
) -> Document:
    """Whether pairs are trained on: the decision of before, now that they can be counted.

    They cannot while SFT runs elsewhere and has not ended: DPO waits with it.
    """
    sft = read_status(sft_adapter)
    if decision["stages"]["dpo"]["chosen"] and sft.status == "waiting":
        waits = {"chosen": False, "train": False, "reason": sft.reason}
        stages = {**decision["stages"], "dpo": waits}
        return {**decision, "method": "waiting", "reason": sft.reason, "stages": stages}
    pairs = SplitManifest.model_validate(pair_splits).count("pair", "train")
    before = decision["stages"]["dpo"]
    enough = pairs >= options.min_dpo_pairs
    unasked = why_unasked(base, together)
    why = unasked or f"{pairs} pairs, at least {options.min_dpo_pairs} are needed for DPO"
    why = "" if enough else why
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
    """SFT adapter and its rows → ``preferences``, ``pair_splits``, ``pair_decision``.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                answer_own_rows,
                inputs=[
                    *("train", "validation", "sft_adapter", "base"),
                    *("params:cli", "params:cli_evaluation", "params:seed"),
                    *("params:together", "jobs"),
                ],
                outputs="sft_answers",
                name="answer_own_rows",
                tags=["preferences", "gpu"],
            ),
            Node(
                pair_answers,
                inputs=[
                    *("cli_schema", "train", "validation", "sft_answers"),
                    *("params:cli", "params:seed"),
                ],
                outputs=["preferences", "pairs"],
                name="pair_answers",
                tags="preferences",
            ),
            Node(
                divide_pairs,
                inputs=["preferences", "splits"],
                outputs="pair_splits",
                name="divide_pairs",
                tags="splits",
            ),
            Node(
                decide_pairs,
                inputs=[
                    *("decision", "pair_splits", "sft_adapter", "params:cli_dpo"),
                    *("base", "params:together"),
                ],
                outputs="pair_decision",
                name="decide_pairs",
                tags="training",
            ),
        ],
        namespace=f"{pipeline}.preferences",
        inputs={
            **shared(pipeline, "splits", "base", "decision"),
            "cli_schema": "cli_schema",
            "train": f"{pipeline}.sft.train",
            "validation": f"{pipeline}.sft.validation",
            "sft_adapter": f"{pipeline}.sft.adapter",
            "jobs": "jobs",
        },
        outputs=shared(
            pipeline, "sft_answers", "preferences", "pairs", "pair_splits", "pair_decision"
        ),
        parameters={"cli", "cli_evaluation", "cli_dpo", "seed", "together"},
    )
