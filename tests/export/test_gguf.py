"""GGUF files of all architectures: the same tokens, probabilities and words; what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from gguf import GGUFReader, TokenType
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export import models
from tests.export.models import SHAPES
from tracetune.errors import ConfigurationError, GateError
from tracetune.export import gguf_writer, parity
from tracetune.export.runtime import GgufModel
from tracetune.files import read_json, sha256_file, write_json

NAMES = list(SHAPES)
QUANTIZED = ("q8_0", "q6_k", "q5_k_m", "q4_k_m")


@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_passes_the_gates(name, kind, known, written):
    file, reference = written[name][kind], known[name]
    assert file.words.pre == SHAPES[name].split
    assert file.words.add_bos == SHAPES[name].add_bos
    with GgufModel(file.path, context=reference.longest) as model:
        assert parity.check_tokens(model, reference, file.words.normalizer) > 20
        assert parity.check_probabilities(model, reference, kind) < parity.LIMITS[kind]
        assert parity.greedy_equal(model, reference, kind) == len(reference.prompts) == 5
        nll = parity.negative_log_likelihood(model, reference)
    assert nll == pytest.approx(reference.nll, abs=1e-5 if kind == "f32" else 1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_every_quantization_answers_and_stays_near(name, known, written):
    reference, sizes = known[name], []
    for kind in QUANTIZED:
        file = written[name][kind]
        assert not file.fell_back
        sizes.append(file.path.stat().st_size)
        with GgufModel(file.path, context=reference.longest) as model:
            assert parity.check_tokens(model, reference, file.words.normalizer) > 20
            assert parity.negative_log_likelihood(model, reference) == pytest.approx(
                reference.nll, abs=0.4
            )
            answer = model.answer([{"role": "user", "content": "Hi"}], max_tokens=4)
            assert answer.tokens >= 1
    assert sizes == sorted(sizes, reverse=True)


def test_the_same_model_gives_the_same_bytes(tiny, written, tmp_path):
    again = gguf_writer.write(
        tiny["qwen3"], tmp_path / "again.gguf", "q4_k_m", name="qwen3", threads=3
    )
    assert sha256_file(again.path) == sha256_file(written["qwen3"]["q4_k_m"].path)


def test_what_stands_in_the_file(tiny, written):
    reader = GGUFReader(written["qwen2"]["q4_k_m"].path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "qwen2"
    assert fields["tokenizer.chat_template"] == SHAPES["qwen2"].template
    assert fields["tokenizer.ggml.add_bos_token"] is False
    types = fields["tokenizer.ggml.token_type"]
    assert types[-19:] == [int(TokenType.UNUSED)] * 19
    assert types[:3] == [int(TokenType.CONTROL)] * 3
    assert fields["tokenizer.ggml.tokens"][-1] == f"[PAD{len(types) - 1}]"
    assert len(types) == read_json(tiny["qwen2"] / "config.json")["vocab_size"]
    names = {tensor.name for tensor in reader.tensors}
    assert "output.weight" in names
    assert "blk.0.attn_q.bias" in names
    tied = {tensor.name for tensor in GGUFReader(written["qwen3"]["f16"].path).tensors}
    assert "output.weight" not in tied


def test_another_model_is_found_by_its_probabilities(known, tmp_path):
    other = models.make(SHAPES["llama"], tmp_path / "other", seed=4)
    file = gguf_writer.write(other, tmp_path / "other.gguf", "f32", name="other")
    with (
        GgufModel(file.path, context=known["llama"].longest) as model,
        pytest.raises(GateError, match=r"at f32 .* differs by [1-9].* at most 5e-04; prompt: "),
    ):
        parity.check_probabilities(model, known["llama"], "f32")


def test_another_answer_is_found_by_its_words(known, tmp_path):
    other = models.make(SHAPES["llama"], tmp_path / "other", seed=4)
    file = gguf_writer.write(other, tmp_path / "other.gguf", "f32", name="other")
    with (
        GgufModel(file.path, context=known["llama"].longest) as model,
        pytest.raises(GateError, match=r"the greedy answer is .* and should be .* nats apart"),
    ):
        parity.greedy_equal(model, known["llama"], "f32")


def test_another_way_of_splitting_text_is_found_by_its_tokens(known, tmp_path):
    # The same vocabulary, digits one by one instead of by threes.
    folder = models.make(replace(SHAPES["smollm"], split="gpt-2"), tmp_path / "gpt2")
    file = gguf_writer.write(folder, tmp_path / "gpt2.gguf", "f16", name="x")
    with (
        GgufModel(file.path, context=known["smollm"].longest) as model,
        pytest.raises(GateError, match=r"reads the string .* differently: token \d+"),
    ):
        parity.check_tokens(model, known["smollm"], None)


def edited(tiny: Path, target: Path, file: str, **changes: object) -> Path:
    shutil.copytree(tiny, target)
    write_json(target / file, {**read_json(target / file), **changes})
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
            r"GPT2LMHeadModel has no converter.*\n.*LlamaForCausalLM, Qwen2ForCausalLM, Qwen3",
        ),
        (
            {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"},
            "Qwen3MoeForCausalLM has no converter",
        ),
        ({"hidden_act": "gelu"}, "does not know .*'hidden_act': 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "rotary embedding 'linear'",
        ),
    ],
)
def test_models_without_a_converter_are_named(tiny, tmp_path, changes, message):
    folder = edited(tiny["smollm"], tmp_path / "model", "config.json", **changes)
    with pytest.raises(ConfigurationError, match=message):
        gguf_writer.write(folder, tmp_path / "x.gguf", "f16", name="x")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_tokenizer": {"type": "Metaspace"}}, "splits text by Metaspace"),
        ({"pre_tokenizer": None}, "splits text by None"),
        ({"normalizer": {"type": "Lowercase"}}, r"changes text first \(Lowercase\)"),
        (
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [
                        {
                            "type": "Split",
                            "pattern": {"Regex": r"\w+"},
                            "behavior": "Isolated",
                            "invert": False,
                        },
                        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
                    ],
                }
            },
            "its way of splitting text .* is unknown",
        ),
    ],
)
def test_tokenizers_that_llama_cpp_does_not_have_are_named(tiny, tmp_path, changes, message):
    folder = edited(tiny["smollm"], tmp_path / "model", "tokenizer.json", **changes)
    with pytest.raises(ConfigurationError, match=message):
        gguf_writer.write(folder, tmp_path / "x.gguf", "f16", name="x")


@settings(max_examples=30)
@given(
    theta=st.floats(1e3, 1e6),
    factor=st.floats(1.0, 32.0),
    low=st.floats(0.5, 2.0),
    gap=st.floats(0.5, 4.0),
    old=st.integers(64, 8192),
    width=st.sampled_from([32, 64, 128]),
)
def test_llama3_rope_is_that_of_transformers(theta, factor, low, gap, old, width):
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": low + gap,
        "original_max_position_embeddings": old,
    }
    config = LlamaConfig(
        head_dim=width,
        hidden_size=4 * width,
        num_attention_heads=4,
        rope_parameters=rope,
        max_position_embeddings=old * 64,
    )
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = theta ** -(numpy.arange(0, width, 2) / width)
    ours = plain / gguf_writer.rope_factors(rope, width)
    # float32 decides on which side of a bound a wave lies; a wave on the bound may go either way
    assert numpy.allclose(ours, theirs.numpy(), rtol=2e-5)
