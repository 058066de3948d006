"""Rows of the heads for the tests: conversations of three made-up people about made-up work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracetune.files import canonical_json, write_json, write_text
from tracetune.records.heads import (
    NEXT_TURNS,
    PATTERNS,
    HeadExtra,
    HeadMessage,
    HeadVariant,
    TrajectoryPoint,
    TrajectoryReference,
    TrajectoryRow,
    head_row_id,
)
from tracetune.training.base import BaseModelRef
from tracetune.training.heads.job import build_heads_job
from tracetune.training.heads.options import HeadsOptions
from tracetune.training.job import TrainingJob

PEOPLE = ("ada", "ben", "cleo")
WORK = ("list the bills", "book a train", "write a short loop", "compare two boats")
Turns = tuple[list[TrajectoryRow], list[HeadExtra]]


def reference(variant: HeadVariant = "causal") -> TrajectoryReference:
    return TrajectoryReference(
        variant=variant,
        sibling_order="role",
        turns=4.0,
        seconds=60.0,
        conversations=6,
        pattern_rules="rules-1",
    )


def point(place: int, role: str, homogeneity: float = 0.5) -> TrajectoryPoint:
    depth = place / max(place, 3)
    order = {"system": 0.0, "user": 0.33, "assistant": 0.67}[role]
    return TrajectoryPoint(
        coordinates=[depth, order, homogeneity, depth, 0.1],
        phase_id=min(5, int(depth * 5)),
        homogeneity=homogeneity,
        turn_index=place,
    )


def conversation(number: int, length: int = 4, variant: HeadVariant = "causal") -> Turns:
    """One conversation; every second turn is the assistant's, and the work tells the patterns."""
    name, person, work = f"c{number}", PEOPLE[number % 3], number % len(WORK)
    messages = [
        HeadMessage(
            role="user" if place % 2 == 0 else "assistant",
            content=f"{person if place % 2 == 0 else 'helper'}: {WORK[work]} {number} part {place}",
        )
        for place in range(length)
    ]
    rows, extras = [], []
    for place, message in enumerate(messages):
        rows.append(
            TrajectoryRow(
                messages=messages[: place + 1],
                trajectory=point(place, message.role),
                conversation_id=name,
            )
        )
        following = range(place + 1, min(length, place + 1 + NEXT_TURNS))
        extras.append(
            HeadExtra(
                row_id=head_row_id(name, place),
                conversation_id=name,
                author=person if place % 2 == 0 else "helper",
                style_group=person if place % 2 == 0 else "helper",
                role=message.role,
                source="test",
                turn_index=place,
                variant=variant,
                patterns=[column == work for column in range(len(PATTERNS))],
                next_rows=[head_row_id(name, other) for other in following],
            )
        )
    return rows, extras


def conversations(numbers: Sequence[int], variant: HeadVariant = "causal") -> Turns:
    rows: list[TrajectoryRow] = []
    extras: list[HeadExtra] = []
    for number in numbers:
        more, known = conversation(number, 2 + number % 4, variant)
        rows += more
        extras += known
    return rows, extras


def jsonl(records: Sequence[Any]) -> str:
    return "".join(canonical_json(record.model_dump(mode="json")) + "\n" for record in records)


def write_folder(
    folder: Path, train: int = 8, validation: int = 0, variant: HeadVariant = "causal"
) -> Path:
    """Rows of so many conversations, as the pipeline writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, extras = conversations(range(train), variant)
    held_out, known = conversations(range(1000, 1000 + validation), variant)
    write_text(folder / "train.jsonl", jsonl(rows))
    if held_out:
        write_text(folder / "validation.jsonl", jsonl(held_out))
    write_text(folder / "sidecar.jsonl", jsonl([*extras, *known]))
    write_json(folder / "reference.json", reference(variant).model_dump(mode="json"))
    return folder


def options(**given: Any) -> HeadsOptions:
    trainer = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "use_cpu": True,
        **given.pop("trainer", {}),
    }
    small = {"style_width": 32, "pattern_width": 16, "adapter_width": 16}
    return HeadsOptions.model_validate(
        {"max_length": 64, "architecture": small, "trainer": trainer, **given}
    )


def heads_job(
    base: BaseModelRef,
    folder: Path,
    *,
    adapter: Path | None = None,
    train: int = 8,
    validation: int = 0,
    variant: HeadVariant = "causal",
    max_steps: int | None = None,
    **given: Any,
) -> TrainingJob:
    return build_heads_job(
        base=base,
        adapter=adapter,
        dataset=write_folder(folder, train, validation, variant),
        options=options(**given),
        seed=5,
        max_steps=max_steps,
        threads=1,
    )
