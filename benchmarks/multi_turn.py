"""Tokens per second of SFT on whole conversations: our ``multi_turn`` stage against plain TRL.

Both train the same conversations (2 to 12 turns, answers of very different length) on the same base
with the same learning rate, epochs, LoRA, seed and 16 conversations per optimiser step, loss on the
assistant's turns, each in a fresh process, in turns; medians of the ratios within one round.

ours      the stage as its parameters set it: four conversations at a time, grouped by length
same      plain TRL with the same batches of four, its own random order
plain     plain TRL with its own batch of eight (two make a step) and random order
literal   plain, and also its defaults for a CPU that cost time: bf16 and gradient checkpointing
packed    our job with TRL's packing (bfd) instead: other steps, shown for comparison

Tokens are those of the conversations without padding, the same for all. "Trainer" is the time
inside ``trainer.train()``, "process" everything from the start of Python to its end. The loss is
the mean over the trained tokens of held-out conversations, computed alike for each adapter; it is
trained with several seeds, so that the difference can be seen beside the noise.

Run: python benchmarks/multi_turn.py [--repeats 3] [--rows 320] [--epochs 1] [--threads 2]
     [--arms ours,same,plain] [--cache DIR]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

HELD_OUT = 32
ARMS = ("ours", "same", "plain", "literal", "packed")

OURS = """
import json, sys
from pathlib import Path
from tracetune.files import read_json
from tracetune.training.job import TrainingJob
from tracetune.training.run import run
plan, out = Path(sys.argv[1]), Path(sys.argv[2])
run(TrainingJob.model_validate_json(plan.read_text()), out / "adapter", out / "work")
print(json.dumps(read_json(out / "adapter" / "timing.json")["train_seconds"]))
"""

PLAIN = """
import json, os, sys, time
from pathlib import Path
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import datasets, torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
datasets.disable_progress_bars()
plan, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
torch.set_num_threads(plan["threads"])
tokenizer = AutoTokenizer.from_pretrained(plan["base"])
lines = Path(plan["rows"]).read_text().splitlines()
rows = datasets.Dataset.from_list(
    [{c: json.loads(line)[c] for c in ("prompt", "completion")} for line in lines])
model = AutoModelForCausalLM.from_pretrained(plan["base"])
every = max(1, plan["steps"] // 10)
trainer = SFTTrainer(
    model,
    SFTConfig(output_dir=str(out / "work"), report_to=[], disable_tqdm=True, seed=plan["seed"],
              dataloader_pin_memory=False, save_strategy="steps", save_steps=every,
              logging_steps=every, **plan["trainer"]),
    train_dataset=rows, processing_class=tokenizer,
    peft_config=LoraConfig(task_type="CAUSAL_LM", **plan["lora"]))
started = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - started
trainer.save_model(str(out / "adapter"))
print(json.dumps(seconds))
"""


def make_conversations(count: int, seed: int) -> list[Any]:
    """Conversations about everyday requests; most are short, a few have twelve turns."""
    from training_rows import START

    from tracetune.records import Message, make_example
    from tracetune.training.embedded_text import Writer, read_corpus

    writer, chance, kinds = Writer(seed), random.Random(seed), read_corpus().kinds
    turns = range(2, 13)

    def say(sentences: int) -> str:
        return " ".join(writer.request(chance.choice(kinds))[0] for _ in range(sentences))

    rows = []
    for number in range(count):
        messages = []
        for _ in range(chance.choices(turns, [1 / turn for turn in turns])[0]):
            messages.append(Message(role="user", content=say(1)))
            length = chance.choices([1, 2, 3, 5], [4, 3, 2, 1])[0]
            messages.append(Message(role="assistant", content=say(length)))
        rows.append(
            make_example(
                prompt=[
                    Message(role="system", content="You are a helpful assistant."),
                    messages[0],
                ],
                completion=messages[1:],
                source="benchmark",
                tenant="demo",
                ids={"n": f"{seed}-{number}"},
                group=f"n:{seed}-{number}",
                created_at=START,
            )
        )
    return rows


def stage_of(arm: str, epochs: float) -> Any:
    """The parameters of an arm, from those of the stage."""
    import yaml

    from tracetune.training.options import SftOptions

    folder = Path(__file__).parent.parent / "conf" / "base"
    text = (folder / "parameters_multi_turn.yml").read_text(encoding="utf-8")
    trainer = yaml.safe_load(text)["_multi_turn"]["trainer"] | {"num_train_epochs": epochs}
    if arm == "packed":
        trainer |= {"packing": True, "train_sampling_strategy": None}
        trainer |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    return SftOptions.model_validate({"trainer": trainer})


def plan(arm: str, root: Path, base: Any, epochs: float, threads: int, seed: int) -> Path:
    """Writes what one process needs and returns its place."""
    import torch

    from tracetune.training.job import build_job

    job = build_job(
        "sft",
        base=base,
        dataset=root / "rows",
        stage=stage_of(arm, epochs),
        seed=seed,
        threads=threads,
    )
    path = root / f"{arm}-{seed}.json"
    if arm in ("ours", "packed"):
        path.write_text(job.model_dump_json(), encoding="utf-8")
        return path
    trainer = dict(job.trainer)
    rows = job.dataset.rows["train.jsonl"]
    steps = -(-rows // 16) * epochs
    del trainer["train_sampling_strategy"]
    if arm != "same":
        trainer |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    if arm == "literal":
        # bf16 is on by default, and without a GPU it asks for this switch
        trainer["use_cpu"] = not torch.cuda.is_available()
    else:
        trainer |= {"bf16": False, "gradient_checkpointing": False}
    document = {
        "base": base.path,
        "rows": str(root / "rows" / "train.jsonl"),
        "threads": threads,
        "seed": seed,
        "steps": int(steps),
        "trainer": trainer,
        "lora": job.lora,
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def held_out_loss(base: Any, adapter: Path, rows: list[Any]) -> float:
    """Mean negative log-likelihood of the trained tokens of conversations, one at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    from tracetune.training.base import load_tokenizer
    from tracetune.training.preflight import render_rows
    from tracetune.training.rendering import MaskRule, Renderer

    renderer = Renderer(load_tokenizer(base), MaskRule(assistant_only=True))
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in render_rows(renderer, rows):
            [sequence] = row.sequences
            ids, mask = torch.tensor([sequence.ids]), torch.tensor(sequence.mask[1:]).bool()
            logits = model(ids).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            total += float(losses[mask].sum())
            count += int(mask.sum())
    return total / count


def measure(arm: str, path: Path, out: Path) -> tuple[float, float]:
    """Seconds inside the trainer and of the whole process."""
    code = OURS if arm in ("ours", "packed") else PLAIN
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    process = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.strip().splitlines()[-1]), process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--cache", type=Path, help="where the base model is kept between calls")
    given = parser.parse_args()
    arms = given.arms.split(",")
    from training_rows import make_base

    from tracetune.training.job import write_dataset
    from tracetune.training.preflight import inspect

    seconds: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    losses: dict[str, list[float]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        base = make_base(given.cache or root / "cache")
        rows, held_out = make_conversations(given.rows, 11), make_conversations(HELD_OUT, 12)
        write_dataset(root / "rows", rows, [])
        report = inspect(rows, [], base, "sft", stage_of("ours", given.epochs))
        tokens = report.total_tokens * given.epochs
        print(
            f"{given.rows} conversations, {tokens} tokens ({report.trained_tokens} of "
            f"{report.total_tokens} trained, all the assistant's), length in tokens "
            f"{report.sequence_tokens}, {given.epochs} epochs, {given.threads} threads"
        )
        for number in range(given.repeats):
            for arm in arms if number % 2 == 0 else arms[::-1]:
                path = plan(arm, root, base, given.epochs, given.threads, seed=5 + number)
                with tempfile.TemporaryDirectory() as out:
                    seconds[arm].append(measure(arm, path, Path(out)))
                    losses[arm].append(held_out_loss(base, Path(out) / "adapter", held_out))
    for arm in arms:
        trainer, process = (statistics.median(column) for column in zip(*seconds[arm], strict=True))
        spread = max(losses[arm]) - min(losses[arm])
        print(
            f"{arm:8} trainer {tokens / trainer:7.0f} tokens/s   process {tokens / process:7.0f} "
            f"tokens/s   held-out loss {statistics.mean(losses[arm]):.4f} "
            f"(spread over seeds {spread:.4f})"
        )
    for arm in arms:
        if arm != "ours" and "ours" in arms:
            ratios = [
                [theirs[place] / ours[place] for place in (0, 1)]
                for theirs, ours in zip(seconds[arm], seconds["ours"], strict=True)
            ]
            trainer, process = (statistics.median(c) for c in zip(*ratios, strict=True))
            apart = [a - b for a, b in zip(losses["ours"], losses[arm], strict=True)]
            print(
                f"ours against {arm:8} trainer {trainer:.2f} times, process {process:.2f} times, "
                f"loss {statistics.mean(apart):+.4f}"
            )


if __name__ == "__main__":
    main()
