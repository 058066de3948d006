"""Whole jobs: what the model folder holds, and what must not happen."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.helpers import answer, dpo_job, prompt, sft_job
from tracetune.errors import ConfigurationError, DataError, GateError, ResumeError
from tracetune.files import read_json, sha256_file, sha256_folder, write_json, write_text
from tracetune.training import base as base_model
from tracetune.training import checkpoints, dpo, sft, trainers
from tracetune.training.base import BaseModelRef
from tracetune.training.job import TrainingJob, build_job, job_hash
from tracetune.training.options import DpoOptions
from tracetune.training.run import run

pytestmark = pytest.mark.training
FILES = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "history.json",
    "manifest.json",
    "status.json",
    "timing.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
SKIP = frozenset({"timing.json"})


def _trainer(job: TrainingJob, folder: Path) -> Any:
    tokenizer = base_model.load_tokenizer(job.base)
    rows = trainers.load_rows(job, tokenizer)
    place = checkpoints.open_place(job, folder)
    stage = sft if job.method == "sft" else dpo
    return stage.make_trainer(job, place, rows, tokenizer)


def test_a_model_folder_holds_one_adapter_and_its_papers(
    base: BaseModelRef, sft_folder: Path, dpo_folder: Path
) -> None:
    for folder in (sft_folder, dpo_folder):
        assert {path.name for path in folder.rglob("*")} == FILES
        config = read_json(folder / "adapter_config.json")
        assert (config["base_model_name_or_path"], config["revision"]) == (
            "embedded",
            base.revision,
        )
        manifest = read_json(folder / "manifest.json")
        assert manifest["adapter_sha256"] == sha256_file(folder / "adapter_model.safetensors")
        assert manifest["base"]["weights_sha256"] == base.weights_sha256
        assert all(manifest["template_probes"].values())
        status = {"status": "trained", "job_hash": manifest["job_hash"]}
        assert read_json(folder / "status.json") == status
        text = "".join(p.read_text("utf-8") for p in folder.glob("*.json"))
        assert base.path not in text  # no path of this machine
        steps = [entry["step"] for entry in read_json(folder / "history.json")]
        assert steps == sorted(steps)
        assert len(steps) == manifest["steps"]["done"] // manifest["steps"]["interval"]
    dpo_log = read_json(dpo_folder / "history.json")
    curves = {"loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "num_tokens"}
    assert curves <= set(dpo_log[-1])
    manifest = read_json(dpo_folder / "manifest.json")
    assert manifest["start_from"] == sha256_file(sft_folder / "adapter_model.safetensors")
    assert math.isclose(manifest["invariants"]["loss"], math.log(2), abs_tol=1e-4)
    assert manifest["invariants"]["rewards"]["margins"] == 0


def _logits(model: Any, tokenizer: Any) -> Any:
    import torch

    messages = [turn.model_dump() for turn in [*prompt("the bill number 1"), *answer("money")]]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits


def test_the_adapter_on_the_base_is_the_trained_policy(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    """With plain PEFT, merged or not, the result equals the model that the trainer held."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, TrainerCallback

    held: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_train_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
            held["logits"] = _logits(model.eval(), tokenizer)

    tokenizer = base_model.load_tokenizer(base)
    job = dpo_job(base, tmp_path / "rows", sft_folder, learning_rate=5e-3)
    make = dpo.make_trainer

    def with_look(*args: Any) -> Any:
        trainer = make(*args)
        trainer.add_callback(Look())
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpo, "make_trainer", with_look)
        out = run(job, tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base.path)
    untouched = _logits(plain, tokenizer)
    adapted = PeftModel.from_pretrained(plain, str(out)).eval()
    torch.testing.assert_close(_logits(adapted, tokenizer), held["logits"], atol=1e-5, rtol=1e-5)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(_logits(merged, tokenizer), held["logits"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(untouched, held["logits"], atol=1e-2)


def test_in_process_and_by_command_give_the_same_bytes(
    base: BaseModelRef, sft_folder: Path, dpo_folder: Path, tmp_path: Path
) -> None:
    jobs = {
        "sft": (sft_job(base, tmp_path / "sft_rows"), sft_folder),
        "dpo": (dpo_job(base, tmp_path / "dpo_rows", sft_folder), dpo_folder),
    }
    for name, (job, expected) in jobs.items():
        write_text(tmp_path / f"{name}.json", job.model_dump_json())
        done = _command(tmp_path / f"{name}.json", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert "\n" not in done.stdout
        assert sha256_folder(tmp_path / name, skip=SKIP) == sha256_folder(expected, skip=SKIP)


def _command(job: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracetune.training", "--job", str(job), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "99"}
    return subprocess.run(
        [*command, *more], capture_output=True, text=True, env=environment, check=False
    )


def test_the_command_says_what_is_wrong(base: BaseModelRef, tmp_path: Path) -> None:
    write_text(tmp_path / "bad.json", '{"method": "sft"}')
    done = _command(tmp_path / "bad.json", tmp_path / "out")
    assert done.returncode == 1
    assert "not a training job" in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_second_copy_of_the_base(base: BaseModelRef, sft_folder: Path, tmp_path: Path) -> None:
    for start in (sft_folder, None):
        trainer = _trainer(dpo_job(base, tmp_path / "rows", start), tmp_path / "work")
        assert trainer.ref_model is None
        weights = {p.data_ptr(): p.numel() for p in trainer.model.parameters()}
        adapters = sum(p.numel() for n, p in trainer.model.named_parameters() if "lora_" in n)
        assert sum(weights.values()) == base.parameters + adapters
        assert adapters < base.parameters / 10


def test_step_zero_finds_a_wrong_reference(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    import torch

    trainer = _trainer(dpo_job(base, tmp_path / "rows", sft_folder), tmp_path / "work")
    before = torch.random.get_rng_state()
    found = dpo.invariants(trainer)
    assert torch.equal(before, torch.random.get_rng_state())  # looking changes nothing
    assert found["rewards"] == {"chosen": 0.0, "rejected": 0.0, "margins": 0.0}
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if ".ref." in name:
                weight.add_(0.1)
    with pytest.raises(GateError, match="the reference is not the model"):
        dpo.invariants(trainer)


SMOOTH = {"exo_pair": {"label_smoothing": 1e-3}, "robust": {"label_smoothing": 0.1}}
LOSSES = [
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_trl_starts_at_its_known_value(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path, loss: str
) -> None:
    job = dpo_job(
        base, tmp_path / "rows", sft_folder, rows=4, loss_type=[loss], **SMOOTH.get(loss, {})
    )
    found = dpo.invariants(_trainer(job, tmp_path / "work"))
    assert (found["expected_loss"] is None) == (loss == "sft")


def test_the_list_of_losses_is_that_of_trl() -> None:
    import inspect

    from trl.trainer.dpo_trainer import DPOTrainer

    source = inspect.getsource(DPOTrainer._compute_loss)
    assert all(f'loss_type == "{loss}"' in source for loss in LOSSES)
    assert source.count('loss_type == "') == len(LOSSES)


@pytest.mark.parametrize(
    "trainer",
    [
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"loss_type": ["ipo"], "precompute_ref_log_probs": True},
    ],
)
def test_other_losses_train(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path, trainer: dict
) -> None:
    job = dpo_job(base, tmp_path / "rows", sft_folder, rows=4, max_steps=1, **trainer)
    out = run(job, tmp_path / "adapter")
    assert read_json(out / "manifest.json")["steps"]["done"] == 1


def test_lora_that_does_not_fit_is_an_error(base: BaseModelRef, tmp_path: Path) -> None:
    lora = {"target_modules": ["q_proj", "c_attn"]}
    with pytest.raises(ConfigurationError) as caught:
        run(sft_job(base, tmp_path / "rows", lora=lora), tmp_path / "adapter")
    assert "no module 'c_attn'" in str(caught.value)
    assert "down_proj, gate_proj, k_proj" in str(caught.value)
    assert not (tmp_path / "adapter").exists()
    lora = {"target_modules": ["q_proj", "lm_head"]}
    with pytest.raises(ConfigurationError, match="would never be trained"):
        run(sft_job(base, tmp_path / "rows", lora=lora), tmp_path / "adapter")


def test_dpo_keeps_the_shape_of_the_sft_adapter(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    def build(**lora: Any) -> TrainingJob:
        dpo_job(base, tmp_path / "rows", None)
        stage = DpoOptions(lora=lora)
        return build_job(
            "dpo", base=base, dataset=tmp_path / "rows", stage=stage, seed=1, start_from=sft_folder
        )

    assert build(r=8, alpha=16).lora["r"] == 8
    with pytest.raises(ConfigurationError, match=r"r = 4, but the adapter of the SFT stage has 8"):
        build(r=4)


def test_an_adapter_of_another_base_is_refused(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    other = base.model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(DataError, match="made for another base"):
        dpo_job(other, tmp_path / "rows", sft_folder)


def test_early_stopping_fires_and_keeps_the_best(base: BaseModelRef, tmp_path: Path) -> None:
    job = sft_job(base, tmp_path / "rows", rows=96, validation=12, learning_rate=3.0)
    out = run(job, tmp_path / "adapter")
    manifest = read_json(out / "manifest.json")
    assert manifest["early_stopping"]
    steps = manifest["steps"]
    assert steps["interval"] == max(1, steps["planned"] // 10)
    log = [entry for entry in read_json(out / "history.json") if "eval_loss" in entry]
    best = min(log, key=lambda entry: entry["eval_loss"])
    assert steps["used"] == best["step"]
    assert steps["stopped_early"]
    assert steps["done"] == best["step"] + 3 * steps["interval"]


def test_no_early_stopping_up_to_100_rows(base: BaseModelRef, tmp_path: Path) -> None:
    job = sft_job(base, tmp_path / "rows", rows=88, validation=12, max_steps=2)
    manifest = read_json(run(job, tmp_path / "adapter") / "manifest.json")
    assert not manifest["early_stopping"]
    assert manifest["rows"] == {"train": 88, "validation": 12}


def test_the_hash_of_a_job_is_about_content_not_places(base: BaseModelRef, tmp_path: Path) -> None:
    first, second = (sft_job(base, tmp_path / name) for name in ("a", "b"))
    assert first.dataset.path != second.dataset.path
    assert job_hash(first) == job_hash(second)
    moved = first.model_copy(update={"base": base.model_copy(update={"path": "/elsewhere"})})
    assert job_hash(moved) == job_hash(first)
    for change in ({"seed": 6}, {"over_length": "drop"}, {"trainer": {}}):
        assert job_hash(first.model_copy(update=change)) != job_hash(first)


def test_changed_rows_and_versions_are_refused(base: BaseModelRef, tmp_path: Path) -> None:
    job = sft_job(base, tmp_path / "rows")
    old = job.model_copy(update={"versions": job.versions | {"trl": "0.9.0"}})
    with pytest.raises(ConfigurationError, match=r"trl .* instead of 0\.9\.0"):
        run(old, tmp_path / "adapter")
    with (tmp_path / "rows" / "train.jsonl").open("a") as rows:
        rows.write("\n")
    with pytest.raises(DataError, match="have changed since the job was made"):
        run(job, tmp_path / "adapter")


def test_resume_is_refused_when_there_is_nothing_of_this_job(
    base: BaseModelRef, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    job = sft_job(base, tmp_path / "rows", rows=8, max_steps=2)
    run(job, tmp_path / "adapter", work)
    other = sft_job(base, tmp_path / "other", rows=9, max_steps=2, learning_rate=1e-3)
    with pytest.raises(ResumeError, match="differs in dataset, trainer"):
        run(other, tmp_path / "new", work, resume=True)
    assert not (tmp_path / "new").exists()
    run(other, tmp_path / "new", work)  # without asking for it: a fresh start beside the other
    run(job, tmp_path / "adapter", work, resume=True)  # the first one is still there
    note = checkpoints.open_place(job, work).folder / "job.json"
    write_json(note, {"job_hash": "another"})
    with pytest.raises(ResumeError, match="the work of another job"):
        run(job, tmp_path / "adapter", work)
