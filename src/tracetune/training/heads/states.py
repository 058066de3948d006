"""Hidden states of the frozen base: computed once and kept on disk, or anew in every epoch.

The base is frozen, so the states of a row never change: epochs read them and cost only the heads.
What is kept lies in ``hidden/<first 16 characters of a hash>``: the hash is over what decides the
states (base with merged adapter, token ids, type), not over coordinates, labels or settings of the
training, so that all jobs on the same texts share it. Only the tokens of the turns are kept; the
past before them is context. Shards are safetensors files that appear whole or not at all; after a
kill those that are there are used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tracetune.errors import ConfigurationError
from tracetune.files import atomic_path, sha256_json, write_json
from tracetune.training.heads.frozen import last_hidden
from tracetune.training.heads.turns import TurnTokens

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "index.json"
TOKENS_PER_PASS = 2048
"""Tokens that go through the base at a time, padding included, unless one row has more."""
SHARD_BYTES = 256 * 10**6
_BYTES = {"float32": 4, "bfloat16": 2}
_FREE_BYTES = 10**9
"""Room on the disk that is left alone."""


class States(Protocol):
    """Where the hidden states of rows come from."""

    def turns(self, rows: Sequence[int]) -> list[Tensor]:
        """Hidden states of the turn of each row, tokens x d."""
        ...


def passes(tokens: Sequence[TurnTokens], rows: Sequence[int]) -> Iterator[list[int]]:
    """Rows that go through the base together: of similar length, in a fixed order."""
    batch: list[int] = []
    for row in sorted(rows, key=lambda number: (len(tokens[number].ids), number)):
        if batch and (len(batch) + 1) * len(tokens[row].ids) > TOKENS_PER_PASS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def compute(model: Any, tokens: Sequence[TurnTokens], rows: Sequence[int]) -> list[Tensor]:
    """Hidden states of the turns of one pass, tokens x d each, on the CPU.

    Args:
        model: The frozen base.
        tokens: Tokens of all rows.
        rows: Which of them.
    """
    import torch

    longest = max(len(tokens[row].ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for position, row in enumerate(rows):
        length = len(tokens[row].ids)
        ids[position, :length] = torch.tensor(tokens[row].ids)
        mask[position, :length] = 1
    hidden = last_hidden(model, ids, mask).cpu()
    return [
        hidden[position, tokens[row].start : len(tokens[row].ids)].clone()
        for position, row in enumerate(rows)
    ]


class LiveStates:
    """States computed anew each time they are asked for.

    Args:
        model: The frozen base.
        tokens: Tokens of all rows.
    """

    def __init__(self, model: Any, tokens: Sequence[TurnTokens]) -> None:
        """Keeps both."""
        self._model = model
        self._tokens = tokens

    def turns(self, rows: Sequence[int]) -> list[Tensor]:
        """Hidden states of the turn of each row, tokens x d."""
        wanted = sorted(set(rows))
        found = {
            row: states
            for batch in passes(self._tokens, wanted)
            for row, states in zip(batch, compute(self._model, self._tokens, batch), strict=True)
        }
        return [found[row] for row in rows]


class KeptStates:
    """States read from the shards of a complete cache.

    Args:
        folder: The cache.
        places: Shard, first and last token of each row.
    """

    def __init__(self, folder: Path, places: Sequence[tuple[int, int, int]]) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._places = places
        self._open: dict[int, Any] = {}

    def turns(self, rows: Sequence[int]) -> list[Tensor]:
        """Hidden states of the turn of each row, tokens x d."""
        return [self._read(*self._places[row]) for row in rows]

    def _read(self, shard: int, first: int, end: int) -> Tensor:
        if shard not in self._open:
            from safetensors import safe_open

            file: Any = safe_open(_shard(self._folder, shard), framework="pt")
            self._open[shard] = file.get_slice("hidden")
        found: Tensor = self._open[shard][first:end]
        return found


@dataclass(frozen=True)
class Plan:
    """Where the states of each row will lie.

    Attributes:
        shards: Rows of each shard, in the order in which they lie there.
        places: Shard, first and last token of each row.
        size: Bytes in all.
    """

    shards: list[list[int]]
    places: list[tuple[int, int, int]]
    size: int


def plan(tokens: Sequence[TurnTokens], hidden_size: int, dtype: str) -> Plan:
    """Divides rows into shards; nothing is computed."""
    per_token = hidden_size * _BYTES[dtype]
    room = max(1, SHARD_BYTES // per_token)
    shards: list[list[int]] = []
    places: list[tuple[int, int, int]] = [(0, 0, 0)] * len(tokens)
    used = total = 0
    for batch in passes(tokens, range(len(tokens))):
        for row in batch:
            length = len(tokens[row].ids) - tokens[row].start
            if not shards or used + length > room:
                shards.append([])
                used = 0
            places[row] = (len(shards) - 1, used, used + length)
            shards[-1].append(row)
            used += length
            total += length
    return Plan(shards, places, total * per_token)


def kept(
    root: Path,
    *,
    base_sha256: str,
    tokens: Sequence[TurnTokens],
    hidden_size: int,
    computed_in: str,
    dtype: str,
    max_gb: float,
    load: Callable[[], Any],
    progress: Callable[[int], Any],
) -> KeptStates:
    """The cache of these rows, filled first where it is not complete.

    Args:
        root: Folder of all caches.
        base_sha256: What base computes them.
        tokens: Tokens of all rows.
        hidden_size: Width of the base.
        computed_in: Type and kind of device in which the base computes.
        dtype: How they are kept.
        max_gb: Largest size of all caches under ``root``.
        load: Gives the base; called only if something is missing.
        progress: Takes the number of rows done.

    Raises:
        ConfigurationError: They need more room than allowed or than the disk has.
    """
    digest = sha256_json(
        {
            "base": base_sha256,
            "computed_in": computed_in,
            "dtype": dtype,
            "rows": [[list(row.ids), row.start] for row in tokens],
            "passes": TOKENS_PER_PASS,
            "shards": SHARD_BYTES,
        }
    )
    folder, planned = root / digest[:16], plan(tokens, hidden_size, dtype)
    index = folder / INDEX
    if not index.is_file():
        _make_room(root, folder, planned.size, max_gb)
    missing = [n for n in range(len(planned.shards)) if not _is_whole(folder, n, digest)]
    done = sum(len(rows) for n, rows in enumerate(planned.shards) if n not in missing)
    progress(done)
    if missing:
        model = load()
        for number in missing:
            _write_shard(folder, number, planned, model, tokens, dtype, digest, progress)
    if not index.is_file():
        write_json(index, {"sha256": digest, "rows": len(tokens), "bytes": planned.size})
    os.utime(index)  # what was used last is removed last
    return KeptStates(folder, planned.places)


def _write_shard(
    folder: Path,
    number: int,
    planned: Plan,
    model: Any,
    tokens: Sequence[TurnTokens],
    dtype: str,
    digest: str,
    progress: Callable[[int], Any],
) -> None:
    import torch
    from safetensors.torch import save_file

    rows = planned.shards[number]
    found: dict[int, Tensor] = {}
    for batch in passes(tokens, rows):
        found.update(zip(batch, compute(model, tokens, batch), strict=True))
        progress(len(batch))
    hidden = torch.cat([found[row] for row in rows]).to(getattr(torch, dtype)).contiguous()
    with atomic_path(_shard(folder, number)) as temporary:
        save_file({"hidden": hidden}, temporary, metadata={"sha256": digest})


def _is_whole(folder: Path, number: int, digest: str) -> bool:
    """Whether a shard is there, is of this cache and was not cut."""
    from safetensors import SafetensorError, safe_open

    path = _shard(folder, number)
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return bool((file.metadata() or {}).get("sha256") == digest)
    except SafetensorError:
        return False


def _shard(folder: Path, number: int) -> Path:
    return folder / f"states-{number:05d}.safetensors"


def _make_room(root: Path, folder: Path, size: int, max_gb: float) -> None:
    """Removes the caches that were used longest ago until ``size`` more fits under the bound."""
    limit = int(max_gb * 10**9)
    if size > limit:
        raise ConfigurationError(
            f"the hidden states of these rows need {size / 10**9:.3g} GB, heads.cache.max_gb "
            f"allows {max_gb:g}",
            where="heads.cache",
            remedy="raise max_gb; or halve their size with dtype: bfloat16, lower "
            "heads.max_length, or compute them anew in every epoch with enabled: false",
        )
    root.mkdir(parents=True, exist_ok=True)
    others = [path for path in root.iterdir() if path.is_dir() and path != folder]
    others.sort(key=_last_use)
    used = {path: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in others}
    for path in others:
        if sum(used.values()) + size <= limit:
            break
        (path / INDEX).unlink(missing_ok=True)
        shutil.rmtree(path)
        del used[path]
    free = shutil.disk_usage(root).free
    if size + _FREE_BYTES > free:
        raise ConfigurationError(
            f"the hidden states of these rows need {size / 10**9:.3g} GB, the disk has "
            f"{free / 10**9:.3g} GB left",
            where=str(root),
            remedy="make room; or halve their size with heads.cache.dtype: bfloat16, or compute "
            "them anew in every epoch with heads.cache.enabled: false",
        )


def _last_use(folder: Path) -> float:
    index = folder / INDEX
    return index.stat().st_mtime if index.is_file() else 0.0
