"""Using trained heads: the same answers for the same turns, and only where they fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.heads.conftest import tiny_model
from tests.training.heads.helpers import conversations, heads_job
from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json, sha256_file, write_json
from tracetune.records.heads import TrajectoryRow
from tracetune.training.base import BaseModelRef
from tracetune.training.heads import (
    Encoded,
    Twin,
    api,
    create_cognitive_twin,
    load_twin,
    read_config,
)
from tracetune.training.heads.api import joined
from tracetune.training.heads.model import CognitiveTwin
from tracetune.training.heads.store import save_heads
from tracetune.training.run import run

FIELDS = (
    "style",
    "pattern_logits",
    "pattern_probabilities",
    "plan",
    "stop",
    "pooled",
    "base_pooled",
    "gate_mean",
)


@pytest.fixture(scope="module")
def twin(trained: Path, base: BaseModelRef) -> Twin:
    return load_twin(trained, base)


@pytest.fixture(scope="module")
def rows() -> list[TrajectoryRow]:
    return conversations(range(30, 40))[0]


@pytest.fixture(scope="module")
def encoded(twin: Twin, rows: list[TrajectoryRow]) -> Encoded:
    return twin.encode(rows, variant="causal")


def equal(one: Encoded, other: Encoded, fields: tuple[str, ...] = FIELDS) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


def test_what_comes_out(encoded: Encoded, rows: list[TrajectoryRow], twin: Twin) -> None:
    n = len(rows)
    assert encoded.row_ids == tuple(row.row_id for row in rows)
    shapes = {name: getattr(encoded, name).shape for name in FIELDS}
    assert shapes == {
        "style": (n, 256),
        "pattern_logits": (n, 12),
        "pattern_probabilities": (n, 12),
        "plan": (n, 8, 256),
        "stop": (n, 8),
        "pooled": (n, 256),
        "base_pooled": (n, 256),
        "gate_mean": (n,),
    }
    assert all(getattr(encoded, name).dtype == np.float32 for name in FIELDS)
    assert np.allclose(np.linalg.norm(encoded.style, axis=1), 1, atol=1e-5)
    assert ((encoded.stop > 0) & (encoded.stop < 1)).all()
    weights = np.array(twin.config.pos_weight)
    odds = encoded.pattern_probabilities / (1 - encoded.pattern_probabilities)
    assert np.allclose(odds, np.exp(encoded.pattern_logits) / weights, rtol=1e-3)


def test_it_is_the_same_every_time_and_in_every_batch(
    twin: Twin, trained: Path, base: BaseModelRef, rows: list[TrajectoryRow], encoded: Encoded
) -> None:
    assert equal(twin.encode(rows, variant="causal"), encoded)
    assert equal(load_twin(trained, Path(base.path)).encode(rows, variant="causal"), encoded)
    for position in (0, len(rows) - 1):
        alone = twin.encode([rows[position]], variant="causal")
        for name in FIELDS:
            together = getattr(encoded, name)[position]
            assert np.allclose(getattr(alone, name)[0], together, atol=1e-4), name


def test_many_turns_are_encoded_piece_by_piece(
    twin: Twin, rows: list[TrajectoryRow], encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CHUNK", 8)
    done: list[int] = []
    found = twin.encode(rows, variant="causal", progress=done.append)
    assert sum(done) == len(rows)
    assert len(done) > 3
    assert np.allclose(found.plan, encoded.plan, atol=1e-4)
    assert np.allclose(found.style, encoded.style, atol=1e-4)
    again = twin.encode(rows, variant="causal", states=twin.states(rows))
    assert equal(again, found)
    lots = [twin.encode(rows[n : n + 8], variant="causal") for n in range(0, len(rows), 8)]
    whole = joined(lots)
    assert whole.row_ids == found.row_ids
    assert equal(whole, found)


def test_no_turns_give_nothing(twin: Twin) -> None:
    nothing = twin.encode([], variant="causal")
    assert nothing.style.shape == (0, 256)
    assert nothing.plan.shape == (0, 8, 256)


def test_states_serve_several_questions(
    twin: Twin, rows: list[TrajectoryRow], encoded: Encoded
) -> None:
    states = twin.states(rows)
    assert equal(twin.encode(rows, variant="causal", states=states), encoded)
    off = twin.encode(rows, variant="causal", adapter=False, states=states)
    assert not off.gate_mean.any()
    assert np.array_equal(off.base_pooled, encoded.base_pooled)
    assert not np.allclose(off.style, encoded.style)
    point = rows[0].trajectory.model_copy(update={"phase_id": 5})
    moved = [rows[0].model_copy(update={"trajectory": point}), *rows[1:]]
    other = twin.encode(moved, variant="causal", states=states)
    assert not np.allclose(other.style[0], encoded.style[0])
    assert np.array_equal(other.style[1:], encoded.style[1:])
    with pytest.raises(DataError, match="other texts"):
        twin.encode(rows[::-1], variant="causal", states=states)


def test_targets_of_training_are_what_encoding_gives(
    trained: Path, twin: Twin, base: BaseModelRef
) -> None:
    """The mean hidden state of a turn is one and the same in training, judgement and use."""
    from tracetune.training.heads.data import load_dataset
    from tracetune.training.heads.states import LiveStates

    found = load_dataset(trained.parent / "rows").train.rows
    encoded = twin.encode(found, variant="causal")
    tokens = [twin._reader.read(row) for row in found]
    turns = LiveStates(twin.model.base, tokens).turns(range(len(tokens)))
    means = torch.stack([turn.mean(0) for turn in turns]).numpy()
    assert np.allclose(encoded.base_pooled, means, atol=1e-5)


def test_another_variant_is_an_error(twin: Twin, rows: list[TrajectoryRow]) -> None:
    with pytest.raises(ConfigurationError, match="'full', the heads were trained on 'causal'"):
        twin.encode(rows, variant="full")


def test_phase_1_is_part_of_the_base(
    trained: Path,
    twin: Twin,
    base: BaseModelRef,
    sft_folder: Path,
    rows: list[TrajectoryRow],
    tmp_path: Path,
) -> None:
    job = heads_job(base, tmp_path / "rows", adapter=sft_folder, max_steps=1)
    out = run(job, tmp_path / "out")
    merged = load_twin(out, base)
    found = merged.encode(rows[:2], variant="causal")
    plain = twin.encode(rows[:2], variant="causal")
    assert not np.allclose(found.base_pooled, plain.base_pooled, atol=1e-3)
    with pytest.raises(ConfigurationError, match="with a phase-1 adapter"):
        create_cognitive_twin(base).load_custom_components(out)
    with pytest.raises(ConfigurationError, match="without a phase-1 adapter"):
        create_cognitive_twin(base, adapter=sft_folder).load_custom_components(trained)
    with pytest.raises(ConfigurationError, match="of another base"):
        merged.encode(rows[:2], variant="causal", states=twin.states(rows[:2]))
    # A released folder names its base, for heads and for the adapter of phase 1 alike.
    for folder in (out, shutil.copytree(sft_folder, tmp_path / "phase1")):
        write_json(folder / "serving.json", {"base": base.model_dump(mode="json")})
    released = load_twin(out)
    assert equal(released.encode(rows[:2], variant="causal"), found)
    model = create_cognitive_twin(tmp_path / "phase1").load_custom_components(out)
    assert model.base_sha256 == read_config(out).base_sha256


def test_heads_for_another_hidden_size_are_refused(trained: Path) -> None:
    other = CognitiveTwin(tiny_model("qwen3"), base_sha256=read_config(trained).base_sha256)
    with pytest.raises(ConfigurationError, match="hidden size of 256, the base has 32"):
        other.load_custom_components(trained)


def test_heads_for_another_base_are_refused(trained: Path) -> None:
    model = tiny_model("llama", hidden_size=256)
    with pytest.raises(ConfigurationError, match="trained on another base"):
        CognitiveTwin(model, base_sha256="0" * 64).load_custom_components(trained)
    with pytest.raises(ConfigurationError, match="not known what this base is"):
        CognitiveTwin(model).load_custom_components(trained)


def test_heads_without_their_base(trained: Path, base: BaseModelRef) -> None:
    twin = create_cognitive_twin(base, load_base_model=False).load_custom_components(trained)
    output = twin.heads(torch.randn(1, 3, 256), torch.ones(1, 3).bool())
    assert output.style_signature.shape == (1, 256)
    with pytest.raises(ConfigurationError, match="load_base_model=True"):
        twin.extract_style(torch.tensor([[5, 6]]))


def test_heads_without_their_base_read_the_states_of_another_twin(
    twin: Twin, trained: Path, base: BaseModelRef, rows: list[TrajectoryRow], encoded: Encoded
) -> None:
    alone = load_twin(trained, base, load_base_model=False)
    assert alone.model.base is None
    assert equal(alone.encode(rows, variant="causal", states=twin.states(rows)), encoded)
    with pytest.raises(ConfigurationError, match="loaded without their base"):
        alone.encode(rows, variant="causal")


def test_saved_and_loaded_heads_are_the_same(
    twin: Twin, trained: Path, base: BaseModelRef, rows: list[TrajectoryRow], tmp_path: Path
) -> None:
    folder = save_heads(twin.model, tmp_path / "again")
    assert sha256_file(folder / "heads.safetensors") == sha256_file(trained / "heads.safetensors")
    assert read_json(folder / "config.json") == read_json(trained / "config.json")
    assert equal(
        load_twin(folder, base).encode(rows, variant="causal"),
        twin.encode(rows, variant="causal"),
    )
    with pytest.raises(ConfigurationError, match="were not trained"):
        save_heads(create_cognitive_twin(base, load_base_model=False), tmp_path / "new")


@pytest.mark.faults
def test_damaged_folders_are_named(trained: Path, base: BaseModelRef, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "model")
    with pytest.raises(DataError, match="does not say where its base model lies"):
        load_twin(folder)
    weights = folder / "heads.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-5])
    with pytest.raises(DataError, match="were changed since"):
        load_twin(folder, base)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="were changed since"):
        load_twin(folder, base)
    weights.write_bytes(content)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "format": 2})
    with pytest.raises(DataError, match="not the configuration of heads"):
        load_twin(folder, base)
    sizes = {**config["architecture"], "style_width": 31}
    write_json(folder / "config.json", {**config, "architecture": sizes})
    with pytest.raises(DataError, match=r"do not fit config\.json"):
        load_twin(folder, base)
    weights.unlink()
    with pytest.raises(DataError, match="these are no heads"):
        load_twin(folder, base)


@pytest.mark.faults
def test_a_base_that_was_changed_after_the_training_is_refused(
    trained: Path, base: BaseModelRef, tmp_path: Path
) -> None:
    """The hashes that serving.json records say nothing of the files as they are now."""
    copy = shutil.copytree(base.path, tmp_path / "base")
    moved = base.model_copy(update={"path": str(copy)})
    heads = shutil.copytree(trained, tmp_path / "heads")
    write_json(heads / "serving.json", {"base": moved.model_dump(mode="json")})
    assert load_twin(heads).config.base_sha256 == read_config(trained).base_sha256
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for given in (None, moved):
        with pytest.raises(DataError, match=r"has changed since .* \(weights_sha256\)"):
            load_twin(heads, given)
    with pytest.raises(ConfigurationError, match="trained on another base"):
        load_twin(heads, copy)


def test_folders_that_are_no_base_are_named(sft_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no folder"):
        create_cognitive_twin(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="does not name its base model"):
        create_cognitive_twin(sft_folder)


def test_importing_the_package_is_cheap() -> None:
    import subprocess
    import sys

    code = (
        "import sys, tracetune.training.heads, tracetune.training.heads.job;"
        "print([m for m in ('torch', 'transformers', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
