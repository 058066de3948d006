"""Peak memory of DPO with the adapter as reference, against a second full copy of the model.

The same TRL script runs in two fresh processes: once as tracetune does it (reference = frozen
adapter or adapter off), once with ``ref_model`` given, as source document 003 describes it. The
model is a random Llama of the given width, so that the copy can be seen beside the libraries.

Run: python benchmarks/memory.py [--hidden 1024] [--layers 8]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

CODE = """
import json, os, resource, sys
from pathlib import Path
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import datasets, torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
datasets.disable_progress_bars()
root, second = Path(sys.argv[1]), sys.argv[2] == "second"
torch.set_num_threads(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tokenizer = AutoTokenizer.from_pretrained(root / "model")
model = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
reference = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
reference = reference if second else None
lines = (root / "pairs" / "train.jsonl").read_text().splitlines()
rows = [{c: json.loads(l)[c] for c in ("prompt", "chosen", "rejected")} for l in lines]
trainer = DPOTrainer(model, ref_model=reference, args=DPOConfig(output_dir=sys.argv[3],
    report_to=[], disable_tqdm=True, bf16=False, gradient_checkpointing=False, max_steps=3,
    save_strategy="no", per_device_train_batch_size=2, dataloader_pin_memory=False),
    train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]))
trainer.train()
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "before": before}))
"""
# the first variant never loads the second copy
CODE_ONE = CODE.replace(
    'reference = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)\n', ""
).replace("reference if second else None", "None")


def prepare(root: Path, hidden: int, layers: int) -> int:
    import torch
    from training_rows import make_base, make_rows
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tracetune.training.job import write_dataset

    base = make_base(root / "cache")
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=8,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    write_dataset(root / "pairs", make_rows(0, 8)[1], [])
    return sum(weight.numel() for weight in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    given = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = prepare(Path(folder), given.hidden, given.layers)
        print(f"{weights / 1e6:.0f} million weights, {weights * 4 / 2**20:.0f} MiB in float32")
        for name, code in (("adapter", CODE_ONE), ("second", CODE)):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, folder, name, f"{folder}/{name}"],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr)
            peaks[name] = json.loads(done.stdout.strip().splitlines()[-1])["peak"] / 1024
            print(f"reference by {name}: peak {peaks[name]:.0f} MiB")
    difference = peaks["second"] - peaks["adapter"]
    print(f"ratio {peaks['adapter'] / peaks['second']:.3f}, difference {difference:.0f} MiB")


if __name__ == "__main__":
    main()
