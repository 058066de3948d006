"""One adapter relative to one base, in float32; everything else is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.export import models
from tests.export.models import SHAPES
from tracetune.errors import ConfigurationError, DataError
from tracetune.export import merge
from tracetune.files import read_json, sha256_file, write_json
from tracetune.runs import write_skipped
from tracetune.training.base import load_model


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "copy"))


def change(folder: Path, file: str, **changes: object) -> None:
    write_json(folder / file, {**read_json(folder / file), **changes})


def test_merged_is_base_and_adapter_together(release, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    opened = merge.open_release(release)
    merged = merge.merge(opened, tmp_path / "merged")
    assert 0 < merged.max_delta < 1e-4
    ids = torch.tensor([[5, 20, 33, 90]])
    with torch.inference_mode():
        plain = load_model(opened.base)(input_ids=ids).logits
        adapted = load_model(opened.base, release)(input_ids=ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
    assert found.dtype == torch.float32
    assert (found - adapted).abs().max() < 1e-4
    assert (found - plain).abs().max() > 0.01
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not {name for name in names if "adapter" in name}


def test_a_base_that_has_changed_is_refused(release, tiny, tmp_path):
    base = Path(shutil.copytree(tiny["llama"], tmp_path / "base"))
    copy = Path(shutil.copytree(release, tmp_path / "copy"))
    serving = read_json(copy / "serving.json")
    serving["base"]["path"] = str(base)
    write_json(copy / "serving.json", serving)
    merge.open_release(copy)
    with (base / "model.safetensors").open("r+b") as weights:
        weights.seek(-4, 2)
        weights.write(b"\x01\x02\x03\x04")
    with pytest.raises(DataError, match=r"base model has changed .*weights_sha256"):
        merge.open_release(copy)
    shutil.rmtree(base)
    with pytest.raises(DataError, match="not on this machine any more"):
        merge.open_release(copy)


def test_another_base_is_refused_by_its_hash(copy, tiny):
    other = read_json(copy / "serving.json")
    other["base"]["weights_sha256"] = "f" * 64
    write_json(copy / "serving.json", other)
    with pytest.raises(DataError, match=r"trained on other base weights .* than those named"):
        merge.open_release(copy)


def test_changed_weights_are_refused(copy):
    with (copy / "adapter_model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x07")
    with pytest.raises(DataError, match="missing or were changed"):
        merge.open_release(copy)
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match="missing or were changed"):
        merge.open_release(copy)


@pytest.mark.parametrize("left", ["ref", "training_args.bin", "more.safetensors"])
def test_left_overs_of_a_training_are_refused(copy, left):
    if left == "ref":
        (copy / left).mkdir()
    else:
        (copy / left).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"what is left of a training \({left}\)"):
        merge.open_release(copy)


@pytest.mark.parametrize(
    "setting",
    [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"peft_type": "IA3"}],
)
def test_more_than_lora_is_refused(copy, setting):
    change(copy, "adapter_config.json", **setting)
    with pytest.raises(
        ConfigurationError, match=f"more than a LoRA adapter.*{next(iter(setting))}"
    ):
        merge.open_release(copy)


def test_whole_modules_among_the_weights_are_refused(copy):
    from safetensors.numpy import load_file, save_file

    weights = load_file(copy / "adapter_model.safetensors")
    weights["base_model.model.lm_head.weight"] = next(iter(weights.values()))
    save_file(weights, copy / "adapter_model.safetensors")
    digest = sha256_file(copy / "adapter_model.safetensors")
    change(copy, "manifest.json", adapter_sha256=digest)
    with pytest.raises(ConfigurationError, match=r"more than a LoRA adapter: .*lm_head\.weight"):
        merge.open_release(copy)


def test_an_encoder_is_refused(copy):
    change(copy, "manifest.json", method="embedding")
    with pytest.raises(ConfigurationError, match="this is an encoder"):
        merge.open_release(copy)


def test_heads_are_refused(copy):
    change(copy, "manifest.json", method="heads")
    with pytest.raises(ConfigurationError, match=r"(?s)heads on a frozen base.*kedro twin style"):
        merge.open_release(copy)


def test_what_was_not_trained_or_not_released_is_refused(copy, tmp_path):
    with pytest.raises(DataError, match=r"nothing was trained here \(insufficient: too few rows\)"):
        merge.open_release(write_skipped(tmp_path / "none", "too few rows", "insufficient"))
    (copy / "serving.json").unlink()
    with pytest.raises(DataError, match=r"no serving\.json, so it is no released adapter"):
        merge.open_release(copy)


def test_a_base_without_a_converter_is_refused_before_anything_is_loaded(tiny, tmp_path):
    folder = models.make(SHAPES["smollm"], tmp_path / "model")
    released = models.release(folder, tmp_path / "release")
    change(folder, "config.json", architectures=["GPT2LMHeadModel"], model_type="gpt2")
    with pytest.raises(ConfigurationError, match="GPT2LMHeadModel has no converter"):
        merge.open_release(released)
