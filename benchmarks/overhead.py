"""Overhead of a job against a plain TRL script that does the same SFT and DPO.

Both train the same rows on the same base with the same arguments (evaluation, saving and logging
intervals included), each in a fresh process, in turns; medians are compared. "Trainer" is the time
inside ``trainer.train()``, "process" everything from the start of Python to its end. Ours also
checks hashes, renders and compares every row, measures the invariants of step 0, marks checkpoints
and writes manifests.

Run: python benchmarks/overhead.py [--repeats 3] [--rows 400] [--pairs 120] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

OURS = """
import json, sys
from pathlib import Path
from tracetune.files import read_json
from tracetune.training.job import TrainingJob, build_job, DpoOptions
from tracetune.training.run import run
root, out = Path(sys.argv[1]), Path(sys.argv[2])
sft = TrainingJob.model_validate_json((root / "sft.json").read_text())
run(sft, out / "sft", out / "work")
stage = DpoOptions.model_validate(read_json(root / "dpo_stage.json"))
dpo = build_job("dpo", base=sft.base, dataset=root / "pairs", stage=stage, seed=sft.seed,
                start_from=out / "sft", threads=sft.limits.threads)
run(dpo, out / "dpo", out / "work")
print(json.dumps({name: read_json(out / name / "timing.json")["train_seconds"]
                  for name in ("sft", "dpo")}))
"""

PLAIN = """
import json, os, sys, time
from pathlib import Path
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import datasets, torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
datasets.disable_progress_bars()
root, out = Path(sys.argv[1]), Path(sys.argv[2])
plan = json.loads((root / "plain.json").read_text())
torch.set_num_threads(plan["threads"])
tokenizer = AutoTokenizer.from_pretrained(plan["base"])
def rows(folder, name, columns):
    lines = (root / folder / name).read_text().splitlines()
    return datasets.Dataset.from_list([{c: json.loads(l)[c] for c in columns} for l in lines])
def config(kind, folder, arguments, steps):
    every = max(1, steps // 10)
    return kind(output_dir=str(out / folder), report_to=[], disable_tqdm=True, bf16=False,
                gradient_checkpointing=False, dataloader_pin_memory=False, seed=5,
                eval_strategy="steps", save_strategy="steps", eval_steps=every, save_steps=every,
                logging_steps=every, **arguments)
seconds = {}
model = AutoModelForCausalLM.from_pretrained(plan["base"])
columns = ("prompt", "completion")
trainer = SFTTrainer(model, config(SFTConfig, "sft", plan["sft"], plan["sft_steps"]),
    train_dataset=rows("rows", "train.jsonl", columns),
    eval_dataset=rows("rows", "validation.jsonl", columns),
    processing_class=tokenizer, peft_config=LoraConfig(task_type="CAUSAL_LM", **plan["lora"]))
started = time.perf_counter()
trainer.train()
seconds["sft"] = time.perf_counter() - started
trainer.save_model(str(out / "sft_adapter"))
model = AutoModelForCausalLM.from_pretrained(plan["base"])
model = PeftModel.from_pretrained(model, str(out / "sft_adapter"), is_trainable=True)
columns = ("prompt", "chosen", "rejected")
trainer = DPOTrainer(model, args=config(DPOConfig, "dpo", plan["dpo"], plan["dpo_steps"]),
    train_dataset=rows("pairs", "train.jsonl", columns),
    eval_dataset=rows("pairs", "validation.jsonl", columns), processing_class=tokenizer)
started = time.perf_counter()
trainer.train()
seconds["dpo"] = time.perf_counter() - started
trainer.save_model(str(out / "dpo_adapter"))
print(json.dumps(seconds))
"""


def prepare(root: Path, rows: int, pairs: int, threads: int) -> None:
    from training_rows import make_base, make_rows

    from tracetune.files import write_json, write_text
    from tracetune.training.job import SftOptions, build_job, write_dataset

    base = make_base(root / "cache")
    examples, preferences = make_rows(rows, pairs)
    cut, pair_cut = rows * 9 // 10, pairs * 9 // 10
    write_dataset(root / "rows", examples[:cut], examples[cut:])
    write_dataset(root / "pairs", preferences[:pair_cut], preferences[pair_cut:])
    # early stopping would end the two at different steps: a patience nobody reaches
    stage = {"early_stopping_patience": 1000, "trainer": {"num_train_epochs": 2}}
    job = build_job(
        "sft",
        base=base,
        dataset=root / "rows",
        stage=SftOptions.model_validate(stage),
        seed=5,
        threads=threads,
    )
    write_text(root / "sft.json", job.model_dump_json())
    write_json(root / "dpo_stage.json", stage)
    from tracetune.training.arguments import trainer_arguments

    dpo = trainer_arguments("dpo", stage["trainer"], base.profile)

    def steps(count: int, arguments: dict) -> int:
        batch = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
        return 2 * -(-count // batch)

    plain = {"base": base.path, "threads": threads, "lora": job.lora, "sft": job.trainer}
    plain |= {"dpo": dpo, "sft_steps": steps(cut, job.trainer), "dpo_steps": steps(pair_cut, dpo)}
    write_json(root / "plain.json", plain)


def measure(code: str, root: Path) -> tuple[float, float]:
    """Seconds inside the trainers and of the whole process."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(root), out],
            capture_output=True,
            text=True,
            check=False,
        )
        process = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    return sum(json.loads(done.stdout.strip().splitlines()[-1]).values()), process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), given.rows, given.pairs, given.threads)
        for number in range(given.repeats):
            order = [("ours", OURS), ("plain", PLAIN)]
            for name, code in order if number % 2 == 0 else reversed(order):
                results[name].append(measure(code, Path(folder)))
                print(name, *(f"{value:.2f} s" for value in results[name][-1]), flush=True)
    for index, part in enumerate(("trainer", "process")):
        ours, plain = (
            statistics.median(value[index] for value in results[name]) for name in ("ours", "plain")
        )
        print(f"{part}: ours {ours:.2f} s, plain {plain:.2f} s, ratio {ours / plain:.3f}")


if __name__ == "__main__":
    main()
