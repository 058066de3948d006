"""Hidden states that are kept: the same as computed anew, bounded, and whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.heads.conftest import tiny_model
from tracetune.errors import ConfigurationError
from tracetune.files import sha256_folder
from tracetune.training.heads import states
from tracetune.training.heads.states import KeptStates, LiveStates
from tracetune.training.heads.turns import TurnTokens

SIZE = 32


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama")


def some(count: int, seed: int = 0) -> list[TurnTokens]:
    torch.manual_seed(seed)
    found = []
    for number in range(count):
        ids = torch.randint(3, 64, (4 + number % 9,)).tolist()
        found.append(TurnTokens(tuple(ids), number % 3, 0, 0))
    return found


def keep(
    root: Path, tokens: list[TurnTokens], load: Callable[[], Any], **given: Any
) -> tuple[KeptStates, list[int]]:
    done: list[int] = []
    arguments = {
        "base_sha256": "b" * 64,
        "hidden_size": SIZE,
        "computed_in": "float32 on cpu",
        "dtype": "float32",
        "max_gb": 1.0,
        **given,
    }
    return states.kept(root, tokens=tokens, load=load, progress=done.append, **arguments), done


def never() -> Any:
    raise AssertionError("the base was asked for although everything is kept")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "SHARD_BYTES", 20 * SIZE * 4)  # 20 tokens each


def same(one: Any, other: Any, rows: int, atol: float = 0.0) -> bool:
    numbers = list(range(rows))
    pairs = zip(one.turns(numbers), other.turns(numbers), strict=True)
    return all(a.shape == b.shape and a.float().allclose(b.float(), atol=atol) for a, b in pairs)


def test_what_is_kept_is_what_the_base_computes(
    tmp_path: Path, model: Any, small_shards: None
) -> None:
    tokens = some(30)
    kept, done = keep(tmp_path, tokens, lambda: model)
    assert sum(done) == 30
    assert same(kept, LiveStates(model, tokens), 30, atol=1e-5)
    assert [len(turn) for turn in kept.turns([29, 0])] == [
        len(tokens[row].ids) - tokens[row].start for row in (29, 0)
    ]
    again, done = keep(tmp_path, tokens, never)  # the base is not even loaded
    assert sum(done) == 30
    assert same(again, kept, 30)


def test_half_the_room_in_bfloat16(tmp_path: Path, model: Any) -> None:
    tokens = some(10)
    kept, _ = keep(tmp_path, tokens, lambda: model, dtype="bfloat16")
    assert kept.turns([3])[0].dtype == torch.bfloat16
    assert same(kept, LiveStates(model, tokens), 10, atol=0.05)


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["cut", "gone", "foreign"])
def test_a_damaged_shard_is_computed_again(
    tmp_path: Path, model: Any, small_shards: None, fault: str
) -> None:
    tokens = some(30)
    keep(tmp_path, tokens, lambda: model)
    whole = sha256_folder(tmp_path)
    shards = sorted(tmp_path.rglob("states-*.safetensors"))
    assert len(shards) > 3
    if fault == "cut":
        shards[1].write_bytes(shards[1].read_bytes()[:-7])
    elif fault == "gone":
        shards[1].unlink()
    else:  # another cache's
        keep(tmp_path / "other", some(30, seed=1), lambda: model)
        foreign = sorted((tmp_path / "other").rglob("states-*.safetensors"))
        shards[1].write_bytes(foreign[1].read_bytes())
    calls: list[int] = []
    keep(tmp_path, tokens, lambda: calls.append(1) or model)
    assert calls == [1]
    import shutil

    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    assert sha256_folder(tmp_path) == whole


def test_other_bases_texts_or_types_have_caches_of_their_own(tmp_path: Path, model: Any) -> None:
    tokens = some(5)
    keep(tmp_path, tokens, lambda: model)
    keep(tmp_path, tokens, lambda: model, base_sha256="c" * 64)
    keep(tmp_path, tokens, lambda: model, dtype="bfloat16")
    keep(tmp_path, tokens, lambda: model, computed_in="bfloat16 on cuda")
    keep(tmp_path, some(5, seed=1), lambda: model)
    moved = [TurnTokens(row.ids, 1, 0, 0) for row in tokens]
    keep(tmp_path, moved, lambda: model)
    assert len(list(tmp_path.iterdir())) == 6


def test_too_large_is_an_error_that_helps(tmp_path: Path, model: Any) -> None:
    tokens = some(200)
    size = states.plan(tokens, SIZE, "float32").size
    with pytest.raises(ConfigurationError, match="allows 1e-06") as error:
        keep(tmp_path, tokens, never, max_gb=1e-6)
    for advice in ("max_gb", "bfloat16", "max_length", "enabled: false"):
        assert advice in str(error.value)
    assert not list(tmp_path.iterdir())
    assert size == sum(len(row.ids) - row.start for row in tokens) * SIZE * 4
    assert states.plan(tokens, SIZE, "bfloat16").size == size // 2


def test_a_full_disk_is_foreseen(
    tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_FREE_BYTES", 10**18)  # as if the disk were as full
    with pytest.raises(ConfigurationError, match="the disk has"):
        keep(tmp_path, some(5), never)


def test_what_was_used_longest_ago_makes_room(tmp_path: Path, model: Any) -> None:
    import os

    first, second, third = (some(20, seed) for seed in range(3))
    size = states.plan(first, SIZE, "float32").size
    bound = 2.9 * size / 10**9  # with its headers, two fit
    keep(tmp_path, first, lambda: model, max_gb=bound)
    (old,) = tmp_path.iterdir()
    keep(tmp_path, second, lambda: model, max_gb=bound)
    os.utime(old / states.INDEX, (1, 1))
    keep(tmp_path, third, lambda: model, max_gb=bound)
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == 2
    keep(tmp_path, second, never, max_gb=bound)


def test_rows_of_similar_length_go_together_in_a_fixed_order() -> None:
    tokens = [TurnTokens((5,) * length, 0, 0, 0) for length in (900, 3, 900, 5000, 3, 900)]
    found = list(states.passes(tokens, range(6)))
    assert found == [[1, 4], [0, 2], [5], [3]]
