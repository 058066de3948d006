"""KTO jobs, and what every adapter folder promises to those who serve it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.helpers import DRAWERS, TIME, answer, prompt
from tracetune.errors import DataError, GateError
from tracetune.files import read_json, sha256_file, write_json
from tracetune.records import Message, Rating, make_rating
from tracetune.training import base as base_model
from tracetune.training import checkpoints, kto, trainers
from tracetune.training.base import BaseModelRef
from tracetune.training.job import TrainingJob, build_job, write_dataset
from tracetune.training.options import KtoOptions
from tracetune.training.preflight import inspect
from tracetune.training.run import run
from tracetune.training.vllm_check import check

pytestmark = pytest.mark.training
NO_IDEA = Message(role="assistant", content="I cannot say which one, please ask again later.")


def ratings(count: int, start: int = 0) -> list[Rating]:
    rows = []
    for number in range(start, start + count):
        drawer = list(DRAWERS)[number % 3]
        good = number % 4 != 0
        rows.append(
            make_rating(
                prompt=prompt(f"the {DRAWERS[drawer]} number {number}"),
                completion=answer(drawer) if good else [NO_IDEA],
                good=good,
                source="test",
                tenant="demo",
                ids={"n": str(number)},
                group=f"session:{number}",
                created_at=TIME,
            )
        )
    return rows


def kto_job(base: BaseModelRef, folder: Path, rows: int = 24, **trainer: Any) -> TrainingJob:
    write_dataset(folder, ratings(rows), ratings(6, 1000))
    given = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "undesirable_weight": 3.0}
    stage = KtoOptions.model_validate({"trainer": given | trainer})
    return build_job("kto", base=base, dataset=folder, stage=stage, seed=5, threads=1)


@pytest.fixture(scope="module")
def kto_folder(base: BaseModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kto")
    return run(kto_job(base, root / "rows"), root / "adapter", root / "work")


def test_kto_learns_from_single_answers(kto_folder: Path) -> None:
    manifest = read_json(kto_folder / "manifest.json")
    assert manifest["method"] == "kto"
    assert manifest["invariants"]["loss"] == pytest.approx(0.75, abs=1e-4)
    assert manifest["invariants"]["rewards"]["chosen"] == pytest.approx(0, abs=1e-4)
    last = read_json(kto_folder / "history.json")[-1]
    assert last["eval_rewards/chosen"] > last["eval_rewards/rejected"]


def test_two_kto_runs_give_the_same_adapter(
    kto_folder: Path, base: BaseModelRef, tmp_path: Path
) -> None:
    again = run(kto_job(base, tmp_path / "rows"), tmp_path / "adapter", tmp_path / "work")
    for name in ("adapter_model.safetensors", "manifest.json", "history.json"):
        assert sha256_file(again / name) == sha256_file(kto_folder / name)


def test_weights_make_up_for_the_rarer_kind() -> None:
    assert kto.balanced_weights(30, 10) == {"desirable_weight": 1.0, "undesirable_weight": 3.0}
    assert kto.balanced_weights(5, 10) == {"desirable_weight": 2.0, "undesirable_weight": 1.0}


def test_a_wrong_reference_is_found_at_step_0(base: BaseModelRef, tmp_path: Path) -> None:
    import torch

    job = kto_job(base, tmp_path / "rows")
    tokenizer = base_model.load_tokenizer(job.base)
    rows = trainers.load_rows(job, tokenizer)
    trainer = kto.make_trainer(job, checkpoints.open_place(job, tmp_path), rows, tokenizer)
    kto.invariants(trainer)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    with pytest.raises(GateError, match="reference"):
        kto.invariants(trainer)


def test_preflight_counts_what_the_trainer_trains(base: BaseModelRef, tmp_path: Path) -> None:
    job = kto_job(base, tmp_path / "rows")
    report = inspect(ratings(24), ratings(6, 1000), base, "kto", KtoOptions())
    assert (report.rows_used, report.validation_rows, report.passed) == (24, 6, True)
    tokenizer = base_model.load_tokenizer(job.base)
    rows = trainers.load_rows(job, tokenizer)
    trainer = kto.make_trainer(job, checkpoints.open_place(job, tmp_path), rows, tokenizer)
    trainers.check_same_rows(trainer, rows, job)
    assert sum(map(len, trainer.train_dataset["completion_ids"])) == report.trained_tokens


def test_adapters_load_on_their_base_and_merge_to_the_same(
    base: BaseModelRef, kto_folder: Path, sft_folder: Path, dpo_folder: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[5, 9, 300, 41, 77, 12]])
    for folder in (sft_folder, dpo_folder, kto_folder):
        assert read_json(folder / "manifest.json")["vllm"] == {
            "serves": True,
            "problems": [],
            "flags": [],
        }
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        with torch.no_grad():
            plain = model(ids).logits
            tuned = PeftModel.from_pretrained(model, str(folder))
            with_adapter = tuned(ids).logits
            merged = tuned.merge_and_unload()(ids).logits
        assert not torch.allclose(plain, with_adapter, atol=1e-3)
        assert (with_adapter - merged).abs().max() < 1e-4


def test_an_adapter_refuses_another_base(
    kto_folder: Path, base: BaseModelRef, tmp_path: Path
) -> None:
    from tracetune.evaluation.generate import load_generator

    with pytest.raises(DataError, match="other base weights"):
        load_generator(base.path, {"kto": kto_folder}, weights_sha256="0" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
    ],
)
def test_what_vllm_does_not_serve_is_said(
    kto_folder: Path, base: BaseModelRef, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(kto_folder, folder)
    config = read_json(folder / "adapter_config.json") | change
    write_json(folder / "adapter_config.json", config)
    found = check(folder, Path(base.path))
    assert not found["serves"]
    assert words in "; ".join(found["problems"])


def test_weights_that_do_not_fit_the_base_are_found(
    kto_folder: Path, base: BaseModelRef, tmp_path: Path
) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "adapter"
    shutil.copytree(kto_folder, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    first = next(name for name in sorted(weights) if "lora_A" in name)
    weights[first] = np.zeros((32, 7), dtype=np.float32)
    weights["base_model.model.lm_head.weight"] = np.zeros((2, 2), dtype=np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    found = check(folder, Path(base.path))
    text = "; ".join(found["problems"])
    for words in ("width 7", "more than one rank", "no LoRA matrix"):
        assert words in text
    assert found["flags"] == ["--max-lora-rank 32"]
