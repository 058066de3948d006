"""Rows and jobs for the tests of training: a made-up desk with three drawers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracetune.records import Example, Message, Preference, make_example, make_preference
from tracetune.training.base import BaseModelRef
from tracetune.training.job import TrainingJob, build_job, write_dataset
from tracetune.training.options import DpoOptions, EmbeddedRecipe, SftOptions

TINY = EmbeddedRecipe(
    vocab_size=512,
    intermediate_size=256,
    layers=1,
    copy_steps=1,
    conversations=60,
    batch_tokens=1024,
)
DRAWERS = {"money": "bill", "trips": "train", "weather": "rain"}
TIME = datetime(2026, 11, 1, tzinfo=UTC)


def prompt(text: str) -> list[Message]:
    return [
        Message(role="system", content="Answer in JSON."),
        Message(role="user", content=text),
    ]


def answer(name: str) -> list[Message]:
    return [Message(role="assistant", content=f'{{"drawer": "{name}"}}')]


def examples(count: int, start: int = 0) -> list[Example]:
    rows = []
    for number in range(start, start + count):
        drawer = list(DRAWERS)[number % 3]
        rows.append(
            make_example(
                prompt=prompt(f"the {DRAWERS[drawer]} number {number}"),
                completion=answer(drawer),
                source="test",
                tenant="demo",
                ids={"n": str(number)},
                group=f"session:{number}",
                created_at=TIME,
            )
        )
    return rows


def pairs(count: int, start: int = 0) -> list[Preference]:
    rows = []
    for number in range(start, start + count):
        drawer, other = list(DRAWERS)[number % 3], list(DRAWERS)[(number + 1) % 3]
        rows.append(
            make_preference(
                prompt=prompt(f"the {DRAWERS[drawer]} number {number}"),
                chosen=answer(drawer),
                rejected=answer(other),
                source="test",
                tenant="demo",
                ids={"n": str(number)},
                group=f"session:{number}",
                created_at=TIME,
            )
        )
    return rows


def sft_job(
    base: BaseModelRef,
    folder: Path,
    *,
    rows: int = 24,
    validation: int = 0,
    over_length: str = "raise",
    lora: dict[str, Any] | None = None,
    threads: int = 1,
    **trainer: Any,
) -> TrainingJob:
    write_dataset(folder, examples(rows), examples(validation, 1000))
    stage = SftOptions.model_validate(
        {
            "lora": lora or {},
            "trainer": {"num_train_epochs": 2, "per_device_train_batch_size": 4} | trainer,
            "over_length": over_length,
        }
    )
    return build_job("sft", base=base, dataset=folder, stage=stage, seed=5, threads=threads)


def dpo_job(
    base: BaseModelRef,
    folder: Path,
    start_from: Path | None,
    *,
    rows: int = 16,
    validation: int = 0,
    **trainer: Any,
) -> TrainingJob:
    write_dataset(folder, pairs(rows), pairs(validation, 1000))
    stage = DpoOptions.model_validate(
        {"trainer": {"num_train_epochs": 2, "per_device_train_batch_size": 4} | trainer}
    )
    return build_job(
        "dpo", base=base, dataset=folder, stage=stage, seed=5, start_from=start_from, threads=1
    )
