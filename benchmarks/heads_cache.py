"""Epochs of the heads with kept hidden states against computing them anew in every epoch.

The same job twice on the same base, rows, seed and batches: once ``heads.cache.enabled: true`` (the
frozen base runs once, its states are read from safetensors), once ``false`` (the base runs on each
batch of each epoch). Each in a fresh process, in turns; both are timed by the step, so an epoch is
what its steps took. "First" holds what comes before them too: running the base over all rows and,
in both arms, one pass over all states for the mean of each turn.

It prints seconds per epoch, the ratio from the second epoch on (median over the epochs, then over
the rounds), and the largest relative difference between the losses in the two histories: states of
one row differ in the last bits when other rows stand in its batch, so the losses are equal to
rounding and not to the byte. CPU seconds stand beside wall-clock seconds, for machines that do
other things too.

The base is the embedded one (two million weights, hardly more than the heads have), or with
``--layers`` and ``--hidden`` a Llama of random weights of that shape: time does not depend on them.

Run: python benchmarks/heads_cache.py [--conversations 60] [--turns 6] [--epochs 4] [--rounds 3]
     [--threads 2] [--layers 8 --hidden 512] [--cache DIR]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = ("the", "a", "of", "to", "report", "plan", "train", "list", "short", "open", "close", "ask")
BATCH = 32


def make_rows(folder: Path, conversations: int, turns: int) -> None:
    """Conversations of made-up text as the pipeline writes rows."""
    from tracetune.files import canonical_json, write_json, write_text
    from tracetune.records import heads

    draw = random.Random(7)
    rows: list[Any] = []
    extras: list[Any] = []
    for number in range(conversations):
        messages = [
            heads.HeadMessage(
                role="user" if place % 2 == 0 else "assistant",
                content=" ".join(draw.choices(WORDS, k=draw.randint(15, 60))),
            )
            for place in range(turns)
        ]
        for place, message in enumerate(messages):
            depth = place / max(1, turns - 1)
            point = heads.TrajectoryPoint(
                coordinates=[depth, 0.33, 0.5, depth, 0.2],
                phase_id=min(5, int(6 * depth)),
                homogeneity=0.5,
                turn_index=place,
            )
            name = f"c{number}"
            rows.append(
                heads.TrajectoryRow(
                    messages=messages[: place + 1], trajectory=point, conversation_id=name
                )
            )
            extras.append(
                heads.HeadExtra(
                    row_id=rows[-1].row_id,
                    conversation_id=name,
                    author=f"person {number % 5}",
                    style_group=f"person {number % 5}",
                    role=message.role,
                    source="benchmark",
                    turn_index=place,
                    variant="causal",
                    patterns=[draw.random() < 0.2 for _ in heads.PATTERNS],
                    next_rows=[
                        heads.head_row_id(name, place + step)
                        for step in range(1, min(heads.NEXT_TURNS, turns - 1 - place) + 1)
                    ],
                )
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, records in (("train", rows), ("sidecar", extras)):
        lines = [canonical_json(record.model_dump(mode="json")) + "\n" for record in records]
        write_text(folder / f"{file}.jsonl", "".join(lines))
    reference = heads.TrajectoryReference(
        variant="causal",
        sibling_order="role",
        turns=float(turns),
        seconds=0.0,
        conversations=conversations,
        pattern_rules="benchmark",
    )
    write_json(folder / "reference.json", reference.model_dump(mode="json"))


def random_base(models: Path, layers: int, hidden: int) -> Path:
    """A Llama of random weights with the embedded tokenizer."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tracetune.training import base as base_model
    from tracetune.training.options import BaseModelOptions

    embedded = Path(base_model.resolve(BaseModelOptions(), models).path)
    folder = models / f"random-{layers}-{hidden}"
    if not folder.is_dir():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=4096,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 64,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        for name in base_model.TOKENIZER_FILES:
            if (embedded / name).is_file():
                shutil.copyfile(embedded / name, folder / name)
    return folder


def one(arm: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Trains once and gives the seconds of each epoch and the history."""
    from tracetune.training import base as base_model
    from tracetune.training.heads import loop
    from tracetune.training.heads.job import HeadsSettings, build_heads_job, steps_per_epoch
    from tracetune.training.heads.options import HeadsOptions
    from tracetune.training.options import BaseModelOptions
    from tracetune.training.run import run

    trainer = {
        "num_train_epochs": given.epochs,
        "per_device_train_batch_size": BATCH,
        "logging_steps": 1,
        "use_cpu": True,
    }
    options = HeadsOptions.model_validate({"trainer": trainer, "cache": {"enabled": arm == "kept"}})
    model = (
        str(random_base(given.cache, given.layers, given.hidden)) if given.layers else "embedded"
    )
    base = base_model.resolve(BaseModelOptions(id=model), given.cache)
    job = build_heads_job(
        base=base, adapter=None, dataset=folder, options=options, seed=3, threads=given.threads
    )
    ends: list[tuple[float, float]] = []
    step = loop.Loop._step

    def timed(self: Any, number: int) -> Any:
        found = step(self, number)
        ends.append((time.perf_counter(), time.process_time()))
        return found

    loop.Loop._step = timed  # type: ignore[method-assign]
    begun = (time.perf_counter(), time.process_time())
    with tempfile.TemporaryDirectory() as place:
        out = run(job, Path(place) / "out", Path(place) / "work")
        history = json.loads((out / "history.json").read_text())
    per_epoch = steps_per_epoch(HeadsSettings.of(job), job.dataset.rows["train.jsonl"])
    marks = [begun, *ends[per_epoch - 1 :: per_epoch]]
    pairs = list(itertools.pairwise(marks))
    return {
        "wall": [after[0] - before[0] for before, after in pairs],
        "cpu": [after[1] - before[1] for before, after in pairs],
        "losses": [entry["loss"] for entry in history if "loss" in entry],
    }


def main() -> None:
    """Runs both arms in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=60)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=0, help="of a random base")
    parser.add_argument("--hidden", type=int, default=512, help="width of a random base")
    parser.add_argument("--cache", type=Path, help="folder with the embedded base model")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.rows, given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows, models = Path(folder) / "rows", given.cache or Path(folder) / "models"
        make_rows(rows, given.conversations, given.turns)
        found: dict[str, list[dict[str, Any]]] = {"kept": [], "anew": []}
        for number in range(given.rounds):
            for arm in sorted(found, reverse=bool(number % 2)):
                command = [sys.executable, __file__, "--one", arm, "--rows", str(rows)]
                for name in ("epochs", "threads", "layers", "hidden"):
                    command += [f"--{name}", str(getattr(given, name))]
                done = subprocess.run(
                    [*command, "--cache", str(models)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found[arm].append(json.loads(done.stdout.splitlines()[-1]))
        report(found, given)


def report(found: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> None:
    """Prints the table."""
    turns = given.conversations * given.turns
    print(f"{turns} turns, {given.epochs} epochs, batches of {BATCH}, {given.threads} threads")
    print(f"{'':10}{'first epoch':>14}{'later epoch':>14}{'CPU s':>10}   (seconds, medians)")
    for arm, runs in found.items():
        first = statistics.median(run["wall"][0] for run in runs)
        later = statistics.median(s for run in runs for s in run["wall"][1:])
        cpu = statistics.median(s for run in runs for s in run["cpu"][1:])
        print(f"{arm:10}{first:>14.2f}{later:>14.3f}{cpu:>10.3f}")
    for clock in ("wall", "cpu"):
        ratios = [
            statistics.median(anew[clock][1:]) / statistics.median(kept[clock][1:])
            for kept, anew in zip(found["kept"], found["anew"], strict=True)
        ]
        shown = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"{clock}: from the second epoch on {statistics.median(ratios):.1f} times ({shown})")
    differences = [
        abs(a - b) / abs(b)
        for kept, anew in zip(found["kept"], found["anew"], strict=True)
        for a, b in zip(kept["losses"], anew["losses"], strict=True)
    ]
    print(f"largest relative difference of a loss: {max(differences):.1e}")


if __name__ == "__main__":
    main()
