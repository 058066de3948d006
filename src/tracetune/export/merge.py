"""The released adapter becomes part of its base: one model without PEFT, in float32.

Merging in bfloat16 rounds small updates away and turns some answers around (measured: logits off by
0.0078 against 5e-7 in float32; reference ``export.md``, section 3), so it is never done here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError, DataError, GateError
from tracetune.export.gguf_writer import architecture, read_config
from tracetune.files import read_json, sha256_file
from tracetune.runs import read_status
from tracetune.training.base import TOKENIZER_FILES, BaseModelRef, load_model, load_tokenizer
from tracetune.training.base import verify as verify_base
from tracetune.training.model_folder import PROBES, WEIGHTS

LIMIT = 1e-3
"""Largest difference of a logit between merged and unmerged model. Float32 gives about 5e-7 on
small models and grows with size; bfloat16 gives 8e-3."""

_LORA = re.compile(r"base_model\.model\..+\.lora_[AB]\.weight")
_LEFT_OVERS = ("ref", "training_args.bin", "optimizer.pt", "scheduler.pt")


@dataclass(frozen=True)
class Release:
    """A released adapter, checked.

    Attributes:
        folder: Its folder.
        base: The base model it was made for, present and unchanged.
        manifest: Manifest of its training.
        serving: What serving needs: instruction, longest answer.
        gate: The verdict of the judgement.
    """

    folder: Path
    base: BaseModelRef
    manifest: dict[str, Any]
    serving: dict[str, Any]
    gate: dict[str, Any]


@dataclass(frozen=True)
class Merged:
    """What merging gave.

    Attributes:
        max_delta: Largest difference of a logit between merged and unmerged model.
        positions: Token positions that were compared.
    """

    max_delta: float
    positions: int


def open_release(folder: Path) -> Release:
    """Reads a released adapter and checks that it can be merged into its base.

    Args:
        folder: A released model folder: adapter, manifest, ``serving.json``.

    Raises:
        DataError: It is incomplete, was changed, or its base is not the one of the training.
        ConfigurationError: It is no LoRA adapter of a language model that can be exported.
    """
    status = read_status(folder)
    if status.status != "trained":
        raise DataError(
            f"nothing was trained here ({status.status}: {status.reason})",
            where=str(folder),
            remedy="run the pipeline that trains it again",
        )
    documents = {}
    for name in ("manifest", "serving", "gate"):
        path = folder / f"{name}.json"
        if not path.is_file():
            raise DataError(
                f"the folder has no {path.name}, so it is no released adapter",
                where=str(folder),
                remedy="export what a pipeline released, not the adapter of a stage",
            )
        documents[name] = read_json(path)
    manifest, serving = documents["manifest"], documents["serving"]
    if manifest["method"] == "embedding":
        raise ConfigurationError(
            "this is an encoder: it makes vectors and answers nothing, so there is no GGUF of it",
            where=str(folder),
            remedy="use its folder with sentence-transformers; export.from names another pipeline",
        )
    if manifest["method"] == "heads":
        raise ConfigurationError(
            "these are heads on a frozen base: they answer nothing, so there is no GGUF of them",
            where=str(folder),
            remedy="use them with `kedro twin style`; export.from names another pipeline",
        )
    _check_files(folder, manifest)
    if away := hosted_base(folder):
        raise DataError(
            away,
            where=str(folder),
            remedy="run the pipeline that trained it again with base_model.local (a folder or a "
            "Hugging Face id): the paid job is taken up, nothing is trained again",
        )
    base = BaseModelRef.model_validate(serving["base"])
    if base.weights_sha256 != manifest["base"]["weights_sha256"]:
        raise DataError(
            f"the adapter was trained on other base weights "
            f"({manifest['base']['weights_sha256'][:12]}) than those named for serving "
            f"({base.weights_sha256[:12]})",
            where=str(folder),
            remedy="train it again on this base model",
        )
    if not Path(base.path).is_dir():
        raise DataError(
            "the base model of the adapter is not on this machine any more",
            where=base.path,
            remedy="restore it, or run the pipeline again",
        )
    architecture(read_config(Path(base.path)), Path(base.path))
    verify_base(base)
    return Release(folder, base, manifest, serving, documents["gate"])


def hosted_base(folder: Path) -> str:
    """Why a released adapter cannot be merged on this machine: its base is hosted; else empty."""
    serving = folder / "serving.json"
    if not serving.is_file():
        return ""
    base = BaseModelRef.model_validate(read_json(serving)["base"])
    return "" if base.here else f"the weights of its base {base.id} are not on this machine"


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuses whatever is more, less or other than one LoRA adapter."""
    weights = folder / WEIGHTS
    if not weights.is_file() or sha256_file(weights) != manifest["adapter_sha256"]:
        raise DataError(
            "the weights of the adapter are missing or were changed since the training",
            where=str(weights),
            remedy="restore the folder, or run the pipeline again",
        )
    found = [name for name in _LEFT_OVERS if (folder / name).exists()]
    found += sorted(path.name for path in folder.glob("*.safetensors") if path.name != WEIGHTS)
    if found:
        raise DataError(
            f"the folder holds what is left of a training ({', '.join(found)}), so it is not "
            "certain which weights were judged",
            where=str(folder),
            remedy="export the folder that the pipeline released",
        )
    config = read_json(folder / "adapter_config.json")
    wanted = {"peft_type": "LORA", "bias": "none", "modules_to_save": None, "use_dora": False}
    wrong = {
        name: config.get(name)
        for name, value in wanted.items()
        if (config.get(name) or value) != value
    }
    others = [name for name in _names(weights) if _LORA.fullmatch(name) is None]
    if wrong or others:
        raise ConfigurationError(
            f"this is more than a LoRA adapter: {wrong or others}",
            where=str(folder),
            remedy="train with plain LoRA (no biases, no DoRA, no whole modules)",
        )


def _names(weights: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as handle:
        return list(handle.keys())


def merge(release: Release, target: Path) -> Merged:
    """Writes the merged model into ``target``: float32 weights, configuration, tokenizer.

    Args:
        release: The checked release.
        target: An empty or missing folder.

    Raises:
        GateError: The merged model computes something else than base and adapter together.
    """
    tokenizer = load_tokenizer(release.base)
    prompts = [
        prompt_ids(tokenizer, messages)
        for messages in accepted(tokenizer, release.serving["instruction"])
    ]
    model: Any = load_model(release.base, release.folder)
    before = [_logits(model, ids) for ids in prompts]
    merged: Any = model.merge_and_unload()
    after = [_logits(merged, ids) for ids in prompts]
    deltas = [float((a - b).abs().max()) for a, b in zip(before, after, strict=True)]
    worst = max(range(len(deltas)), key=deltas.__getitem__)
    if not deltas[worst] <= LIMIT:  # also when it is no number
        raise GateError(
            f"merged, the model computes something else: logits differ by {deltas[worst]:.2g} "
            f"on prompt {worst + 1} of {len(prompts)}, at most {LIMIT:.0e} is rounding",
            where=str(release.folder),
            remedy="report this with the manifest of the adapter; PEFT merged it wrongly",
        )
    merged.save_pretrained(target)
    for name in TOKENIZER_FILES:
        source = Path(release.base.path) / name
        if source.is_file():
            shutil.copyfile(source, target / name)
    return Merged(deltas[worst], sum(map(len, prompts)))


def accepted(tokenizer: Any, instruction: str | None) -> list[list[dict[str, str]]]:
    """Fixed conversations on which models are compared, those that the chat template takes.

    Args:
        tokenizer: Tokenizer with the template.
        instruction: System turn of the release; it comes first.
    """
    from jinja2 import TemplateError

    asked = [{"role": "user", "content": "Where is my invoice?"}]
    found = []
    for messages in ([{"role": "system", "content": instruction or ""}, *asked], *PROBES.values()):
        if messages[0]["content"] == "":
            continue
        try:
            prompt_ids(tokenizer, messages)
        except TemplateError:  # some templates take no system turn
            continue
        found.append(messages)
    return found


def prompt_ids(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """Token ids of a conversation, ready for an answer."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _logits(model: Any, ids: Sequence[int]) -> Any:
    """Logits of shape (tokens, vocabulary)."""
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([list(ids)])).logits[0].float()
