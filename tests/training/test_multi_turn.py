"""Training on whole conversations: answers only, batches of equal length, exact continuation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.helpers import TIME
from tests.training.test_preflight import _broken
from tests.training.test_resume import SKIP, _kill_when, _saved, _saving, _start
from tracetune.errors import GateError
from tracetune.files import sha256_folder, write_text
from tracetune.records import Example, Message, make_example
from tracetune.training import base as base_model
from tracetune.training import checkpoints, preflight, sft, trainers
from tracetune.training.base import BaseModelRef
from tracetune.training.job import TrainingJob, build_job, job_hash, write_dataset
from tracetune.training.options import SftOptions
from tracetune.training.run import run

pytestmark = pytest.mark.training

WORDS = ["rain", "train", "bill", "money", "weather", "trips", "please", "today", "again"]


def conversations(count: int, start: int = 0) -> list[Example]:
    """Conversations of 2 to 12 turns with answers of very different length."""
    rows = []
    for number in range(start, start + count):
        chance = random.Random(number)

        def say(most: int, chance: random.Random = chance) -> str:
            return " ".join(chance.choices(WORDS, k=chance.randint(1, most)))

        turns = [Message(role="user", content=say(8))]
        for _ in range(chance.randint(2, 12)):
            turns += [
                Message(role="assistant", content=f"{say(20)} 🙂"),
                Message(role="user", content=say(8)),
            ]
        rows.append(
            make_example(
                prompt=[Message(role="system", content="Be kind."), turns[0]],
                completion=turns[1:-1],
                source="test",
                tenant="demo",
                ids={"n": str(number)},
                group=f"session:{number}",
                created_at=TIME,
            )
        )
    return rows


def stage(**trainer: Any) -> SftOptions:
    """The stage as the pipeline sets it, two rows at a time."""
    chosen = {
        "assistant_only_loss": True,
        "train_sampling_strategy": "group_by_length",
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
    }
    return SftOptions.model_validate({"trainer": chosen | trainer})


def job_of(
    base: BaseModelRef, folder: Path, rows: int, validation: int = 0, **trainer: Any
) -> TrainingJob:
    write_dataset(folder, conversations(rows), conversations(validation, 1000))
    return build_job("sft", base=base, dataset=folder, stage=stage(**trainer), seed=5, threads=1)


def trainer_of(job: TrainingJob, folder: Path) -> tuple[Any, trainers.Rows]:
    tokenizer = base_model.load_tokenizer(job.base)
    rows = trainers.load_rows(job, tokenizer)
    place = checkpoints.open_place(job, folder)
    return sft.make_trainer(job, place, rows, tokenizer), rows


def test_only_what_the_assistant_says_is_trained(base: BaseModelRef, tmp_path: Path) -> None:
    rows = conversations(6)
    report = preflight.inspect(rows, [], base, "sft", stage())
    assert report.passed, [gate.text for gate in report.gates if not gate.passed]
    assert report.trained_by_role == {"assistant": 1.0}
    tokenizer = base_model.load_tokenizer(base)
    trainer, prepared = trainer_of(job_of(base, tmp_path / "rows", 6), tmp_path / "work")
    trainers.check_same_rows(trainer, prepared, job_of(base, tmp_path / "rows", 6))
    for row, labels in zip(rows, trainer.train_dataset["labels"], strict=True):
        trained = tokenizer.decode([label for label in labels if label != -100])
        said = [turn.content for turn in row.completion if turn.role == "assistant"]
        assert trained == "".join(f"{text}<|im_end|>" for text in said)
    assert report.trained_tokens == sum(
        label != -100 for labels in trainer.train_dataset["labels"] for label in labels
    )


def test_without_the_switch_the_user_would_be_trained_and_the_run_stops(base: BaseModelRef) -> None:
    report = preflight.inspect(conversations(3), [], base, "sft", stage(assistant_only_loss=False))
    assert set(report.trained_by_role) > {"user"}
    with pytest.raises(GateError, match=r"set\s+trainer\.assistant_only_loss"):
        preflight.enforce(report)


def test_a_template_without_generation_markers_is_refused(
    base: BaseModelRef, tmp_path: Path
) -> None:
    broken = _broken(base, tmp_path / "model", "{%- generation %}", "")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(template.read_text().replace("{%- endgeneration %}", ""))
    broken = base_model.describe(tmp_path / "model", "broken", None, "default", "local")
    with pytest.raises(GateError, match="generation") as caught:
        preflight.inspect(conversations(2), [], broken, "sft", stage())
    assert "assistant_only_loss" in str(caught.value)


def test_batches_are_grouped_by_length_and_other_strategies_are_trls_own(
    base: BaseModelRef, tmp_path: Path
) -> None:
    from torch.utils.data import RandomSampler

    from tracetune.training.grouping import ByLength, LengthGroups

    grouped, _ = trainer_of(job_of(base, tmp_path / "rows", 9, 3), tmp_path / "work")
    sampler = grouped._get_train_sampler()
    assert isinstance(sampler, LengthGroups)
    assert sampler.batch == 2
    assert isinstance(grouped._get_eval_sampler(grouped.eval_dataset), ByLength)
    plain = job_of(base, tmp_path / "plain", 9, 3, train_sampling_strategy="random")
    trainer, _ = trainer_of(plain, tmp_path / "work")
    assert isinstance(trainer._get_train_sampler(), RandomSampler)
    # The same rows, the same number of steps.
    assert trainers.set_intervals(trainer, plain)[0] == trainers.set_intervals(grouped, plain)[0]


@given(
    lengths=st.lists(st.integers(1, 2000), min_size=1, max_size=80),
    batch=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_epoch_sees_every_row_once(lengths: list[int], batch: int, seed: int) -> None:
    from tracetune.training.grouping import ByLength, LengthGroups

    sampler = LengthGroups(lengths, batch, seed)
    first = list(sampler)
    assert sorted(first) == list(range(len(lengths)))
    assert list(sampler) == first
    sampler.set_epoch(3)
    later = list(sampler)
    assert sorted(later) == list(range(len(lengths)))
    fresh = LengthGroups(lengths, batch, seed)
    fresh.set_epoch(3)
    assert list(fresh) == later  # nothing but seed and epoch decides
    assert [lengths[i] for i in ByLength(lengths)] == sorted(lengths, reverse=True)


def test_groups_hold_little_padding_and_change_between_epochs() -> None:
    from tracetune.training.grouping import LengthGroups

    chance = random.Random(1)
    lengths = [chance.randint(50, 900) for _ in range(400)]

    def padded(order: list[int]) -> int:
        return sum(
            max(lengths[i] for i in order[at : at + 4]) * len(order[at : at + 4])
            for at in range(0, len(order), 4)
        )

    sampler = LengthGroups(lengths, 4, 5)
    order = list(sampler)
    assert padded(order) < 1.15 * sum(lengths)
    assert padded(list(range(400))) > 1.4 * sum(lengths)
    sampler.set_epoch(1)
    again = list(sampler)
    batches = [{frozenset(o[at : at + 4]) for at in range(0, 400, 4)} for o in (order, again)]
    assert len(batches[0] & batches[1]) < 5
    # A step of four batches is as long as any other: short and long ones are mixed.
    steps = [sum(lengths[i] for i in order[at : at + 16]) / 16 for at in range(0, 400, 16)]
    assert sum(abs(step - sum(lengths) / 400) for step in steps) / len(steps) < 150


@pytest.mark.faults
def test_killed_at_any_moment_the_result_is_the_same(base: BaseModelRef, tmp_path: Path) -> None:
    job = job_of(base, tmp_path / "rows", 42, 4)
    expected = sha256_folder(run(job, tmp_path / "whole"), skip=SKIP)
    write_text(tmp_path / "job.json", job.model_dump_json())
    work = tmp_path / "work"
    place = work / job_hash(job)[:12]
    moments = [
        lambda: _saving(place, 4),
        lambda: _saved(place, 12),  # in the second epoch
        lambda: _saved(place, 16),
    ]
    killed = [
        _kill_when(_start(tmp_path / "job.json", tmp_path / "out", work), moment)
        for moment in moments
    ]
    assert all(killed)
    process = _start(tmp_path / "job.json", tmp_path / "out", work)
    assert process.wait(timeout=240) == 0
    assert sha256_folder(tmp_path / "out", skip=SKIP) == expected
