"""Number formats: the recipes, what happens to rows that do not fit, and the blocks themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export import models
from tests.export.models import SHAPES
from tracetune.errors import ConfigurationError
from tracetune.export import gguf_writer, quantize
from tracetune.export.runtime import GgufModel


def shapes(layers: int, *, width: int = 256, inner: int = 512, tied: bool = False):
    found = {"token_embd.weight": (300, width), "output_norm.weight": (width,)}
    if not tied:
        found["output.weight"] = (300, width)
    for layer in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"):
            found[f"blk.{layer}.{part}.weight"] = (width, width)
        found[f"blk.{layer}.ffn_down.weight"] = (width, inner)
    return found


def used(chosen, ending: str) -> list[str]:
    return [choice.used for name, choice in chosen.items() if name.endswith(ending)]


@pytest.mark.parametrize(("kind", "normal"), [("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")])
def test_the_medium_recipes_spend_more_where_it_counts(kind, normal):
    chosen = quantize.choose(shapes(16), kind, 16)
    more = [0, 1, 4, 7, 10, 13, 14, 15]  # first and last eighth, every third between
    expected = ["Q6_K" if layer in more else normal for layer in range(16)]
    assert used(chosen, "attn_v.weight") == used(chosen, "ffn_down.weight") == expected
    assert used(chosen, "attn_q.weight") == [normal] * 16
    assert used(chosen, "output.weight")[0] == "Q6_K"
    assert used(chosen, "token_embd.weight") == [normal]
    assert used(chosen, "norm.weight") == ["F32"]
    assert used(quantize.choose(shapes(2, tied=True), kind, 2), "embd.weight") == ["Q6_K"]


@pytest.mark.parametrize(("kind", "format"), [("q6_k", "Q6_K"), ("q8_0", "Q8_0"), ("f16", "F16")])
def test_the_plain_recipes_have_one_format(kind, format):
    chosen = quantize.choose(shapes(3), kind, 3)
    assert {choice.used for choice in chosen.values()} == {format, "F32"}


@given(
    width=st.integers(1, 40).map(lambda n: 16 * n),
    kind=st.sampled_from(["q4_k_m", "q5_k_m", "q6_k", "q8_0"]),
)
def test_rows_that_do_not_fit_fall_back(width, kind):
    small = shapes(3, width=width, inner=width)
    if width % 32:
        with pytest.raises(
            ConfigurationError, match=rf"stored as {kind}: its rows have \[{width}\]"
        ):
            quantize.choose(small, kind, 3)
        return
    allowed = {"Q8_0"} if kind == "q8_0" else {"Q4_K", "Q5_K", "Q6_K"}
    if width % 256 and kind != "q8_0":
        allowed = {"Q5_0", "Q5_1", "Q8_0"}
    for name, choice in quantize.choose(small, kind, 3).items():
        assert choice.used in (allowed if len(small[name]) > 1 else {"F32"})


def test_a_row_outside_blocks_stays_float16_among_others_that_fit():
    mixed = {**shapes(2), "blk.0.ffn_up.weight": (256, 40)}
    choice = quantize.choose(mixed, "q4_k_m", 2)["blk.0.ffn_up.weight"]
    assert (choice.wanted, choice.used) == ("Q4_K", "F16")


@pytest.mark.parametrize(
    ("given_shapes", "layers", "message"),
    [
        (shapes(80), 80, "80 blocks"),
        ({**shapes(2), "blk.0.ffn_up_exps.weight": (4, 256, 256)}, 2, "mixture of experts"),
    ],
)
def test_models_with_other_recipes_are_refused(given_shapes, layers, message):
    with pytest.raises(ConfigurationError, match=message):
        quantize.choose(given_shapes, "q4_k_m", layers)
    assert quantize.choose(given_shapes, "q6_k", layers)


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigurationError, match="no number format 'q3'"):
        quantize.choose(shapes(1), "q3", 1)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 9),
    blocks=st.integers(1, 3),
    scale=st.floats(1e-3, 1e2),
    kind=st.sampled_from(["Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q5_0", "Q5_1"]),
)
def test_blocks_read_back_are_near_the_weights(seed, rows, blocks, scale, kind):
    weights = numpy.random.default_rng(seed).normal(0, scale, (rows, 256 * blocks))
    weights = weights.astype(numpy.float32)
    encoded = quantize.encode(weights, kind, 2)
    assert encoded.nbytes == quantize.size(weights.shape, kind)
    back = quants.dequantize(encoded.reshape(rows, -1), GGMLQuantizationType[kind])
    steps = {"Q4_K": 15, "Q5_K": 31, "Q6_K": 63, "Q8_0": 255, "Q5_0": 31, "Q5_1": 31}[kind]
    spread = weights.max() - weights.min()
    assert numpy.abs(back - weights).max() < 1.5 * spread / steps


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_q8_0_is_the_same_as_that_of_the_gguf_package(seed):
    weights = numpy.random.default_rng(seed).normal(0, 1, (3, 64)).astype(numpy.float32)
    theirs = quants.quantize(weights, GGMLQuantizationType.Q8_0)
    assert quantize.encode(weights, "Q8_0", 1).tobytes() == theirs.tobytes()


def test_many_rows_at_once_are_the_same_as_few(monkeypatch):
    weights = numpy.random.default_rng(1).normal(0, 1, (100, 256)).astype(numpy.float32)
    whole = quantize.encode(weights, "Q4_K", 1)
    monkeypatch.setattr(quantize, "_ROWS_AT_ONCE", 256 * 7)
    assert quantize.encode(weights, "Q4_K", 4).tobytes() == whole.tobytes()


def test_a_model_with_other_rows_is_written_with_fallbacks_and_answers(tmp_path):
    shape = replace(SHAPES["smollm"], width=288, inner=256)  # heads of 72
    folder = models.make(shape, tmp_path / "model")
    file = gguf_writer.write(folder, tmp_path / "x.gguf", "q4_k_m", name="x")
    assert file.fell_back["blk.0.attn_q.weight"] == ("Q4_K", "Q5_0")
    assert file.fell_back["token_embd.weight"] == ("Q6_K", "Q8_0")
    assert "blk.0.ffn_down.weight" not in file.fell_back
    with GgufModel(file.path, context=256) as model:
        assert model.answer([{"role": "user", "content": "Hi"}], max_tokens=3).tokens


def test_a_model_that_no_block_fits_is_refused(tmp_path):
    shape = replace(SHAPES["smollm"], width=40, inner=48)
    folder = models.make(shape, tmp_path / "model")
    with pytest.raises(ConfigurationError, match=r"no matrix .* its rows have \[40, 48\]"):
        gguf_writer.write(folder, tmp_path / "x.gguf", "q4_k_m", name="x")
    assert gguf_writer.write(folder, tmp_path / "x.gguf", "f16", name="x").types["F16"]
