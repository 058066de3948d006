"""The model card and the manifest of an export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.export.merge import LIMIT
from tracetune.files import sha256_file
from tracetune.runs import installed_versions
from tracetune.training.base import BaseModelRef

if TYPE_CHECKING:
    from tracetune.export.job import Result

Document = dict[str, Any]

LIBRARIES = ("torch", "transformers", "peft", "gguf", "xllamacpp")


def licence(base: BaseModelRef) -> str:
    """Licence of the base model: as its own card says, else ``unknown``."""
    if base.kind == "embedded":
        return "apache-2.0"  # made by this project from its own word lists
    path = Path(base.path) / "README.md"
    if path.is_file():
        head = re.match(r"(?s)---\n(.*?)\n---", path.read_text(encoding="utf-8", errors="replace"))
        found = re.search(r"(?m)^license:\s*([\w.+-]+)\s*$", head[1]) if head else None
        if found:
            return found[1]
    return "unknown"


def files(folder: Path) -> dict[str, Document]:
    """Checksum and size of every file below a folder, but for the manifest itself."""
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_file(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "manifest.json"
    }


def manifest(result: Result, folder: Path) -> Document:
    """Everything that was asked, found and made, for programs; ``files`` is added at the end."""
    written, training = result.written, result.release.manifest
    return {
        "format": 1,
        "name": result.name,
        "quant": written.kind,
        "model": written.path.name,
        "context": result.context,
        "base": {**result.release.base.identity(), "licence": licence(result.release.base)},
        "adapter": {
            name: training[name]
            for name in ("method", "job_hash", "adapter_sha256", "dataset", "start_from")
            if name in training
        },
        "serving": {
            name: result.release.serving.get(name)
            for name in ("instruction", "output", "max_new_tokens")
        },
        "gate": result.release.gate,
        "merge": {
            "max_delta": result.merged.max_delta,
            "positions": result.merged.positions,
            "limit": LIMIT,
        },
        "gguf": {
            "architecture": written.architecture.lower(),
            "types": written.types,
            "fell_back": {name: list(pair) for name, pair in sorted(written.fell_back.items())},
            "pre_tokenizer": written.words.pre,
            "adds_bos": written.words.add_bos,
            "normalizer": written.words.normalizer,
        },
        "parity": result.parity,
        "modelfile": {
            "written": result.modelfile.text is not None,
            "family": result.modelfile.family,
            "reason": result.modelfile.reason,
            "notes": list(result.modelfile.notes),
        },
        "vllm": result.vllm,
        "versions": installed_versions(LIBRARIES),
    }


def readme(result: Result, found: Document) -> str:
    """The model card in Markdown, with the header that the model hub reads."""
    parts = [
        _head(found),
        _what(result, found),
        _data(found),
        _judgement(found["gate"]),
        _parity(found),
        _run(result, found),
        _hashes(found, result.written.path),
    ]
    return "\n".join(parts)


def _head(found: Document) -> str:
    base = found["base"]
    lines = ["---", f"license: {base['licence']}"]
    if base["kind"] == "hub":
        lines.append(f"base_model: {base['id']}")
    return "\n".join([*lines, "library_name: gguf", "tags: [tracetune, gguf]", "---", ""])


def _what(result: Result, found: Document) -> str:
    base, gguf = found["base"], found["gguf"]
    revision = f", revision `{base['revision']}`" if base["revision"] else ""
    lines = [
        f"# {found['name']}",
        "",
        f"`{found['model']}`: the base model `{base['id']}`{revision} with one LoRA adapter merged "
        f"into it, {base['parameters']:,} weights, as GGUF ({found['quant']}).",
        "",
        f"- architecture: {gguf['architecture']}; context: {found['context']} tokens",
        f"- licence of the base model: {base['licence']}",
        f"- number formats: {', '.join(f'{n} x {kind}' for kind, n in gguf['types'].items())}",
    ]
    if gguf["fell_back"]:
        pairs = sorted({f"{wanted} as {used}" for wanted, used in gguf["fell_back"].values()})
        lines.append(
            f"- {len(gguf['fell_back'])} tensors have rows that do not fit the format and are "
            f"stored in another: {', '.join(pairs)}"
        )
    if gguf["normalizer"]:
        lines.append(
            f"- the tokenizer of the base model first makes text {gguf['normalizer']}; llama.cpp "
            f"does not, so hand it text in that form"
        )
    instruction = found["serving"]["instruction"]
    if instruction:
        lines += ["", "It was trained with this system turn; give it the same:", ""]
        lines += [f"> {line}" for line in instruction.splitlines()]
    return "\n".join([*lines, ""])


def _data(found: Document) -> str:
    adapter = found["adapter"]
    dataset = adapter["dataset"]
    lines = [
        "## Data",
        "",
        f"Trained by {adapter['method']}, job `{adapter['job_hash'][:12]}`.",
        "",
        "| file | rows | SHA-256 |",
        "|---|---|---|",
    ]
    for name, digest in sorted(dataset["files"].items()):
        lines.append(f"| {name} | {dataset['rows'].get(name, '')} | `{digest}` |")
    if adapter.get("start_from"):
        lines += ["", f"On top of the adapter with the weights `{adapter['start_from']}`."]
    return "\n".join([*lines, ""])


def _judgement(gate: Document) -> str:
    lines = [
        "## Judgement",
        "",
        "Of the adapter on held-out rows, before quantization.",
        "",
        gate["verdict"],
        "",
    ]
    lines += [
        f"- {'passed' if check['passed'] else 'failed'}: {check['words']}"
        for check in gate["checks"]
    ]
    return "\n".join([*lines, ""])


def _parity(found: Document) -> str:
    parity = found["parity"]
    nll = parity["nll"]
    lines = [
        "## The same model?",
        "",
        "Against the merged Hugging Face model in float32 (merged and unmerged logits differ by at "
        f"most {found['merge']['max_delta']:.1e}):",
        "",
        "| file | texts with the same tokens | largest difference of a log-probability | "
        "same greedy answers | nats per token |",
        "|---|---|---|---|---|",
        f"| Hugging Face |  |  |  | {nll['hugging_face']:.5f} |",
    ]
    for kind in (kind for kind in ("f32", "f16", found["quant"]) if kind in parity):
        row = parity[kind]
        limit = f" (limit {row['limit']:.0e})" if "limit" in row else ""
        value = f"{nll[kind]:.5f}" if kind in nll else ""
        equal = f"{row['greedy_equal']} of {row['prompts']}"
        lines.append(
            f"| {kind} | {row['texts']} | {row['max_delta']:.1e}{limit} | {equal} | {value} |"
        )
    lines += [
        "",
        f"Nats per token over {nll['tokens']} tokens of prompts and their greedy answers.",
    ]
    return "\n".join([*lines, ""])


def _run(result: Result, found: Document) -> str:
    name, model = found["name"], found["model"]
    lines = ["## How to run", ""]
    if found["modelfile"]["written"]:
        lines += ["Ollama:", "", "```", f"ollama create {name} -f Modelfile"]
        lines += [f"ollama run {name}", "```", ""]
        lines += [f"({note})\n" for note in found["modelfile"]["notes"]]
    else:
        lines += [f"Ollama: there is no Modelfile, because {found['modelfile']['reason']}.", ""]
    lines += [
        "llama.cpp (the chat template is in the file):",
        "",
        "```",
        f"llama-server -m {model} --jinja --temp 0 -c {found['context']}",
        "```",
        "",
    ]
    if found["vllm"]["serves"]:
        flags = "".join(f" {flag}" for flag in found["vllm"]["flags"])
        base = found["base"]["id"] if found["base"]["kind"] == "hub" else "BASE_FOLDER"
        lines += [
            "vLLM, from the base model and `adapter`:",
            "",
            "```",
            f"vllm serve {base} --enable-lora --lora-modules {name}=./adapter{flags}",
            "```",
        ]
    else:
        lines.append(f"vLLM does not serve `adapter`: {'; '.join(found['vllm']['problems'])}.")
    return "\n".join([*lines, ""])


def _hashes(found: Document, model: Path) -> str:
    base, adapter = found["base"], found["adapter"]
    return "\n".join(
        [
            "## Hashes (SHA-256)",
            "",
            f"- `{model.name}`: `{sha256_file(model)}`",
            f"- adapter: `{adapter['adapter_sha256']}`",
            f"- base weights: `{base['weights_sha256']}`",
            f"- base tokenizer: `{base['tokenizer_sha256']}`",
            f"- chat template: `{base['template_sha256']}`",
            "",
            "All files of this folder: `manifest.json`.",
            "",
        ]
    )


def summary(found: Document) -> str:
    """A few lines for the person who ran it."""
    parity, quant = found["parity"], found["quant"]
    nll, size = parity["nll"], found["files"][found["model"]]["bytes"]
    row = parity[quant]
    lines = [
        f"Model      {found['model']}, {size / 1e6:.1f} MB",
        f"Parity     f32 differs by {parity['f32']['max_delta']:.1e}, f16 by "
        f"{parity['f16']['max_delta']:.1e}, {quant} by {row['max_delta']:.1e} (log-probability); "
        f"{row['greedy_equal']} of {row['prompts']} greedy answers the same",
        f"Nats/token {nll['hugging_face']:.4f} before, {nll[quant]:.4f} as {quant}",
    ]
    if found["gguf"]["fell_back"]:
        lines.append(f"Fallback   {len(found['gguf']['fell_back'])} tensors, see the model card")
    if not found["modelfile"]["written"]:
        lines.append(f"Ollama     no Modelfile: {found['modelfile']['reason']}")
    if not found["gate"]["promote"]:
        lines.append(f"Verdict    {found['gate']['verdict']}")
    return "\n".join(lines)
