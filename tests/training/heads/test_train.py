"""Jobs of heads: from rows to the model folder, killed and continued, and what stops them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.heads.helpers import heads_job, options, write_folder
from tracetune.errors import ConfigurationError, DataError, GateError, ResumeError
from tracetune.files import read_json, sha256_folder, write_json, write_text
from tracetune.records.heads import HeadVariant
from tracetune.training.__main__ import main
from tracetune.training.base import UNKNOWN, BaseModelRef
from tracetune.training.checkpoints import MARKER
from tracetune.training.heads import read_config, store
from tracetune.training.heads.job import (
    HeadsSettings,
    build_heads_job,
    enforce,
    estimate,
    inspect,
)
from tracetune.training.heads.loop import memory_advice
from tracetune.training.heads.options import RECOMMENDED, HeadsOptions
from tracetune.training.job import TrainingJob, job_hash
from tracetune.training.run import run

pytestmark = [pytest.mark.training]
SKIP = frozenset({"timing.json"})


def history(folder: Path) -> list[dict[str, Any]]:
    return read_json(folder / "history.json")


def test_what_a_job_leaves(trained: Path, base: BaseModelRef) -> None:
    config = read_config(trained)
    assert (config.hidden_size, config.variant, config.pattern_rules) == (256, "causal", "rules-1")
    assert config.base["weights_sha256"] == base.weights_sha256
    assert len(config.pos_weight) == len(config.patterns) == 12
    manifest = read_json(trained / "manifest.json")
    assert manifest["method"] == "heads"
    assert manifest["rows"] == {"train": 28, "validation": 5}
    assert manifest["steps"]["done"] == manifest["steps"]["planned"] == 12
    assert manifest["invariants"]["adapter_change"] < 0.15
    assert 0 < manifest["invariants"]["residual"] < 0.15
    assert manifest["heads_sha256"] == config.heads_sha256
    assert manifest["trainer"]["reference"]["turns"] == 4.0
    assert read_json(trained / "status.json")["status"] == "trained"
    names = {path.name for path in trained.iterdir()}
    assert {"heads.safetensors", "config.json", "tokenizer.json", "timing.json"} <= names
    assert not [name for name in names if name.endswith((".pt", ".bin", ".pkl"))]
    assert str(Path(base.path)) not in (trained / "manifest.json").read_text()


def test_history_has_the_form_of_the_other_methods(trained: Path) -> None:
    entries = history(trained)
    losses = [entry for entry in entries if "loss" in entry]
    evaluations = [entry for entry in entries if "eval_loss" in entry]
    assert [entry["step"] for entry in losses] == list(range(1, 13))
    assert len(evaluations) == 12
    assert {"epoch", "step", "grad_norm", "learning_rate", "loss"} <= set(losses[0])
    parts = {"pattern_loss", "style_loss", "planning_loss", "stop_loss", "gate_loss"}
    assert parts <= set(losses[0])
    assert losses[-1]["loss"] < losses[0]["loss"]
    weights = HeadsOptions().losses.model_dump()
    total = sum(weights[name.removesuffix("_loss")] * losses[0][name] for name in parts)
    assert losses[0]["loss"] == pytest.approx(total)


def test_every_part_is_trained(trained: Path) -> None:
    from safetensors.torch import load_file

    from tracetune.training.heads.model import TwinHeads

    torch.manual_seed(5)
    start = TwinHeads(256, read_config(trained).architecture).state_dict()
    end = load_file(trained / "heads.safetensors")
    assert set(end) == set(start)
    # Embeddings of phases that no row has stay; everything else moves.
    assert [name for name in end if end[name].equal(start[name])] == []


def _start(job: Path, out: Path, work: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tracetune.training", "--job", str(job)]
    return subprocess.Popen(
        [*command, "--out", str(out), "--work", str(work)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill_when(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline
        if moment():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
    return False


@pytest.mark.faults
def test_killed_and_continued_the_result_is_the_same(base: BaseModelRef, tmp_path: Path) -> None:
    job = heads_job(
        base,
        tmp_path / "rows",
        train=24,
        validation=6,
        trainer={"num_train_epochs": 3, "eval_steps": 4, "logging_steps": 3},
    )
    expected = sha256_folder(run(job, tmp_path / "whole"), skip=SKIP)
    write_text(tmp_path / "job.json", job.model_dump_json())
    work = tmp_path / "work"
    place = work / job_hash(job)[:12]

    def saving(step: int) -> bool:
        return any(
            int(path.name.rsplit("-", 1)[-1]) >= step and not (path / MARKER).exists()
            for path in place.glob("checkpoint-*")
        )

    moments: list[Callable[[], bool]] = [
        lambda: any(work.glob("hidden/*")),  # while hidden states are written, or just after
        lambda: saving(8),  # while a checkpoint is written, between two log lines
    ]
    killed = [
        _kill_when(_start(tmp_path / "job.json", tmp_path / "out", work), moment)
        for moment in moments
    ]
    assert killed == [True, True]
    assert not (tmp_path / "out").exists()
    run(job, tmp_path / "out", work)
    assert read_json(tmp_path / "out" / "timing.json")["resumed_from_step"] >= 4
    assert sha256_folder(tmp_path / "out", skip=SKIP) == expected


@pytest.mark.faults
def test_killed_between_the_last_step_and_the_result(
    base: BaseModelRef, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = heads_job(base, tmp_path / "rows", validation=2)  # the job of ``trained``
    write = store.write_result
    monkeypatch.setattr(store, "write_result", lambda *_: (_ for _ in ()).throw(SystemExit()))
    with pytest.raises(SystemExit):
        run(job, tmp_path / "out", tmp_path / "work")
    monkeypatch.setattr(store, "write_result", write)
    out = run(job, tmp_path / "out", tmp_path / "work")
    assert read_json(out / "timing.json")["resumed_from_step"] == 12
    assert sha256_folder(out, skip=SKIP) == sha256_folder(trained, skip=SKIP)


def test_early_stopping_keeps_the_best(base: BaseModelRef, tmp_path: Path) -> None:
    job = heads_job(
        base,
        tmp_path / "rows",
        train=28,
        validation=4,
        trainer={"num_train_epochs": 20, "learning_rate": 0.05, "eval_steps": 2},
        early_stopping_patience=2,
    )
    out = run(job, tmp_path / "out", tmp_path / "work")
    steps = read_json(out / "manifest.json")["steps"]
    evaluations = [e for e in history(out) if "eval_loss" in e]
    best = min(evaluations, key=lambda entry: entry["eval_criterion"])
    assert steps["stopped_early"]
    assert steps["used"] == best["step"]
    assert steps["done"] == best["step"] + 2 * 2  # patience 2, every two steps
    first = sha256_folder(out, skip=SKIP)
    shutil.rmtree(out)
    shutil.rmtree(tmp_path / "work" / job_hash(job)[:12] / "result")
    (tmp_path / "work" / job_hash(job)[:12] / "job.json").unlink()
    assert sha256_folder(run(job, out, tmp_path / "work"), skip=SKIP) == first  # states reused


def test_computing_states_anew_gives_the_same_losses(base: BaseModelRef, tmp_path: Path) -> None:
    kept = run(heads_job(base, tmp_path / "one", max_steps=6), tmp_path / "a", tmp_path / "w")
    job = heads_job(base, tmp_path / "two", max_steps=6, cache={"enabled": False})
    anew = run(job, tmp_path / "b", tmp_path / "x")
    for one, other in zip(history(kept), history(anew), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)  # norms add up more rounding
    assert (tmp_path / "w" / "hidden").is_dir()
    assert not (tmp_path / "x" / "hidden").exists()


def test_jobs_on_the_same_texts_share_their_states(base: BaseModelRef, tmp_path: Path) -> None:
    variants: tuple[HeadVariant, ...] = ("causal", "full")
    for name in variants:
        job = heads_job(base, tmp_path / name, variant=name, max_steps=1)
        run(job, tmp_path / f"{name}.out", tmp_path / "work")
    assert len(list((tmp_path / "work" / "hidden").iterdir())) == 1


def test_accumulated_batches_make_as_many_steps(base: BaseModelRef, tmp_path: Path) -> None:
    few = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    job = heads_job(base, tmp_path / "rows", trainer={"num_train_epochs": 1, **few})
    steps = read_json(run(job, tmp_path / "out") / "manifest.json")["steps"]
    assert steps["done"] == 4  # 28 rows: 7 batches of 4, two a step


def test_mixed_precision(base: BaseModelRef, tmp_path: Path) -> None:
    """On a CPU only to see that it works; there it is not faster."""
    job = heads_job(base, tmp_path / "rows", max_steps=3, trainer={"bf16": True})
    half = history(run(job, tmp_path / "out"))
    plain = heads_job(base, tmp_path / "other", max_steps=3)
    full = history(run(plain, tmp_path / "plain"))
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.05)
    assert half[0]["loss"] != full[0]["loss"]


def test_phase_1_is_merged_and_travels_with_the_heads(
    base: BaseModelRef, sft_folder: Path, trained: Path, tmp_path: Path
) -> None:
    job = heads_job(base, tmp_path / "rows", adapter=sft_folder, max_steps=1)
    out = run(job, tmp_path / "out")
    config = read_config(out)
    assert job.start_from is not None
    assert config.adapter_sha256 == job.start_from.weights_sha256
    assert config.base_sha256 != read_config(trained).base_sha256
    kept = (out / "adapter" / "adapter_model.safetensors").read_bytes()
    assert kept == (sft_folder / "adapter_model.safetensors").read_bytes()
    assert read_json(out / "manifest.json")["start_from"] == config.adapter_sha256


def test_an_adapter_of_another_base_is_refused(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    foreign = shutil.copytree(sft_folder, tmp_path / "adapter")
    manifest = read_json(foreign / "manifest.json")
    manifest["base"] |= {"weights_sha256": "0" * 64, "id": "other"}
    write_json(foreign / "manifest.json", manifest)
    with pytest.raises(DataError, match="made for another base"):
        heads_job(base, tmp_path / "rows", adapter=foreign)
    # Trained by a service, which shows no weights: the name decides.
    manifest["base"] |= {"weights_sha256": UNKNOWN, "id": "owner/hosted"}
    write_json(foreign / "manifest.json", manifest)
    with pytest.raises(DataError, match="made for another base"):
        heads_job(base, tmp_path / "rows", adapter=foreign)
    copy = base.model_copy(update={"hosted": "owner/hosted"})
    assert heads_job(copy, tmp_path / "rows", adapter=foreign).start_from is not None
    (foreign / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match="no phase-1 adapter"):
        heads_job(base, tmp_path / "rows", adapter=foreign)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.parametrize("fault", ["width", "names", "modules"])
def test_an_adapter_that_does_not_fit_is_refused(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path, fault: str
) -> None:
    """An adapter from elsewhere has no manifest; PEFT would take it in part and only warn."""
    from safetensors.torch import load_file, save_file

    from tracetune.training.heads import frozen

    foreign = shutil.copytree(sft_folder, tmp_path / "adapter")
    (foreign / "manifest.json").unlink()
    weights = load_file(foreign / "adapter_model.safetensors")
    if fault == "width":
        weights = {
            name: torch.cat([value, value], 1) if "lora_A" in name else value
            for name, value in weights.items()
        }
    elif fault == "names":
        weights = {name.replace("layers.0", "layers.7"): v for name, v in weights.items()}
    else:
        config = read_json(foreign / "adapter_config.json")
        write_json(foreign / "adapter_config.json", {**config, "target_modules": ["c_attn"]})
    save_file(weights, foreign / "adapter_model.safetensors")
    assert heads_job(base, tmp_path / "rows", adapter=foreign).start_from is not None
    with pytest.raises(ConfigurationError, match="does not fit the base"):
        frozen.load(base, foreign)


def test_more_tokens_than_the_base_reads_are_refused(base: BaseModelRef, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the base reads at most 1024 tokens, not 2000"):
        heads_job(base, tmp_path / "rows", max_length=2000)


def test_a_hosted_base_is_needed_here(base: BaseModelRef, tmp_path: Path) -> None:
    hosted = base.model_copy(update={"kind": "hosted", "weights_sha256": UNKNOWN})
    with pytest.raises(ConfigurationError, match="not on this machine"):
        heads_job(hosted, tmp_path / "rows")


def test_changed_rows_or_another_job_are_refused(base: BaseModelRef, tmp_path: Path) -> None:
    job = heads_job(base, tmp_path / "rows", max_steps=1)
    with pytest.raises(ResumeError, match="nothing to continue"):
        run(job, tmp_path / "out", tmp_path / "work", resume=True)
    sidecar = tmp_path / "rows" / "sidecar.jsonl"
    write_text(sidecar, sidecar.read_text().replace('"author":"ada"', '"author":"eve"'))
    with pytest.raises(DataError, match=r"sidecar\.jsonl: the rows have changed"):
        run(job, tmp_path / "out", tmp_path / "work")


def test_the_command_says_what_is_wrong(
    base: BaseModelRef, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = heads_job(base, tmp_path / "rows", cache={"max_gb": 1e-9})
    write_text(tmp_path / "job.json", job.model_dump_json())
    assert main(["--job", str(tmp_path / "job.json"), "--out", str(tmp_path / "out")]) == 1
    assert "heads.cache: the hidden states of these rows need" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_memory_that_is_not_enough_comes_with_advice(base: BaseModelRef, tmp_path: Path) -> None:
    settings = HeadsSettings.of(heads_job(base, tmp_path / "rows"))
    with (
        pytest.raises(
            ConfigurationError, match="the memory of this machine is not enough"
        ) as error,
        memory_advice(settings),
    ):
        torch.empty(2**60)
    for advice in ("per_device_train_batch_size to 4", "gradient_accumulation_steps to 2"):
        assert advice in str(error.value)
    with (
        pytest.raises(ConfigurationError, match="the memory of the GPU is not enough"),
        memory_advice(settings),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="something else"), memory_advice(settings):
        raise RuntimeError("something else")


def test_a_rate_that_is_too_large_is_named(base: BaseModelRef, tmp_path: Path) -> None:
    job = heads_job(base, tmp_path / "rows", trainer={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(ConfigurationError, match=r"learning_rate"):
        run(job, tmp_path / "out")


def test_the_preflight_counts_before_anything_is_trained(
    base: BaseModelRef, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "rows", train=8, validation=2)
    report = inspect(folder, base, options(max_length=40))
    assert (report.rows, report.validation_rows, report.conversations) == (28, 5, 8)
    assert report.groups == 4
    assert report.support["directive"] == sum(2 + n % 4 for n in range(8) if n % 4 == 0)
    assert report.planned == 28 - 8
    assert report.tokens["row"]["max"] <= 40
    assert report.shortened > 0
    enforce(report)
    job = build_heads_job(base=base, adapter=None, dataset=folder, options=options(), seed=1)
    assert estimate(job, report)["steps"] == 12
    short = inspect(folder, base, options(cache={"max_gb": 1e-6}))
    with pytest.raises(GateError, match=r"heads\.cache\.max_gb allows 1e-06"):
        enforce(short)


def test_a_group_of_one_row_each_teaches_no_style(base: BaseModelRef, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "rows", train=3)
    sidecar = folder / "sidecar.jsonl"
    lines = [json.loads(line) for line in sidecar.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["style_group"] = str(number)
    write_text(sidecar, "\n".join(map(json.dumps, lines)))
    with pytest.raises(GateError, match="0 training rows share their style group"):
        enforce(inspect(folder, base, options()))
    enforce(inspect(folder, base, options(losses={"style": 0})))
    job = build_heads_job(
        base=base,
        adapter=None,
        dataset=folder,
        options=options(losses={"style": 0}),
        seed=1,
        max_steps=1,
        threads=1,
    )
    assert "style_loss" not in history(run(job, tmp_path / "out"))[0]


def test_what_is_left_open_is_recommended_for_the_base(base: BaseModelRef, tmp_path: Path) -> None:
    job = heads_job(base, tmp_path / "rows", trainer={"per_device_train_batch_size": 4})
    assert job.trainer["learning_rate"] == RECOMMENDED["embedded"]["learning_rate"]
    assert job.trainer["per_device_train_batch_size"] == 4
    other = heads_job(base.model_copy(update={"profile": "llama-3.1-8b"}), tmp_path / "rows")
    assert other.trainer["learning_rate"] == 1e-4  # document 001


def test_the_hash_is_over_what_decides_and_not_over_places(
    base: BaseModelRef, tmp_path: Path
) -> None:
    one = job_hash(heads_job(base, tmp_path / "a"))
    assert job_hash(heads_job(base, tmp_path / "b")) == one
    assert job_hash(heads_job(base, tmp_path / "c", variant="full")) != one
    assert job_hash(heads_job(base, tmp_path / "d", losses={"gate": 0.1})) != one
    read = TrainingJob.model_validate_json(heads_job(base, tmp_path / "e").model_dump_json())
    assert job_hash(read) == one


def test_an_adapter_that_starts_far_from_the_identity_stops_the_run(
    base: BaseModelRef, tmp_path: Path
) -> None:
    job = heads_job(base, tmp_path / "rows", architecture={"gate_bias": 6.0})
    with pytest.raises(GateError, match=r"must start near the identity"):
        run(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
