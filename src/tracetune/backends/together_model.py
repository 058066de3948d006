"""A downloaded adapter → a model folder as local training leaves it, checked against the base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tracetune.backends.remote import RemoteJob
from tracetune.errors import DataError
from tracetune.files import atomic_folder, read_json, sha256_file, write_json
from tracetune.training import base as base_model
from tracetune.training import model_folder, vllm_check
from tracetune.training.base import TOKENIZER_FILES, BaseModelRef
from tracetune.training.job import job_hash

_METRICS = {
    "train/loss": "loss",
    "eval/loss": "eval_loss",
    "train/learning_rate": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/epoch": "epoch",
}
_STEP = "train/global_step"
_PREFIX = "base_model.model."


def write(remote: RemoteJob, adapter: Path, metrics: list[dict[str, Any]], out: Path) -> Path:
    """Writes the model folder of a completed job.

    Args:
        remote: The job.
        adapter: The unpacked adapter.
        metrics: The service's figures by step.
        out: The model folder; replaced as a whole.

    Raises:
        DataError: It is no LoRA adapter, or does not belong to the local base.
    """
    config = check(remote, adapter)
    job, digest = remote.job, job_hash(remote.job)
    entries = history(metrics)
    with atomic_folder(out) as folder:
        shutil.copyfile(adapter / model_folder.WEIGHTS, folder / model_folder.WEIGHTS)
        write_json(folder / "adapter_config.json", model_folder.adapter_config(config, job))
        if job.base.path:
            for name in TOKENIZER_FILES:
                source = Path(job.base.path) / name
                if source.is_file():
                    shutil.copyfile(source, folder / name)
        write_json(folder / "history.json", entries)
        probes = {}
        if job.base.path:
            probes = model_folder.template_probes(base_model.load_tokenizer(job.base))
        write_json(
            folder / "manifest.json",
            {
                "format": 1,
                "method": job.method,
                "job_hash": digest,
                "base": job.base.identity(),
                "dataset": {"files": job.dataset.files, "rows": job.dataset.rows},
                "lora": job.lora,
                "trainer": job.trainer,
                "seed": job.seed,
                "limits": job.limits.model_dump(),
                "versions": job.versions,
                "start_from": job.start_from.weights_sha256 if job.start_from else None,
                "over_length": job.over_length,
                "rows": remote.rows,
                "dropped": remote.dropped,
                "template_probes": probes,
                "adapter_sha256": sha256_file(folder / model_folder.WEIGHTS),
                "vllm": _served(folder, job.base),
                "remote": {
                    "backend": remote.backend,
                    "id": remote.id,
                    "model": remote.model,
                    "weights_of_the_hosted_model": "unknown",
                    "arguments": remote.arguments,
                    "files": remote.files,
                    "suffix": remote.suffix,
                    "redacted": remote.redacted,
                    "tokens": remote.tokens,
                    "estimate_usd": remote.estimate_usd,
                    "usd": remote.usd,
                    "archive_sha256": remote.archive_sha256,
                },
            },
        )
        write_json(folder / "status.json", {"status": "trained", "job_hash": digest})
    return out


def check(remote: RemoteJob, adapter: Path) -> dict[str, Any]:
    """The configuration of an adapter that can be put on the local base.

    Raises:
        DataError: It cannot.
    """
    weights = adapter / model_folder.WEIGHTS
    if not weights.is_file():
        raise _wrong(adapter, f"it has no {model_folder.WEIGHTS}; pickled weights are not loaded")
    try:
        config: dict[str, Any] = read_json(adapter / "adapter_config.json")
        kind, rank = config["peft_type"], config["r"]
    except (ValueError, KeyError, TypeError):
        raise _wrong(adapter, "its adapter_config.json cannot be read") from None
    if kind != "LORA":
        raise _wrong(adapter, f"its kind is {kind!r}, not LORA")
    if rank != remote.arguments["lora_r"]:
        raise _wrong(adapter, f"its rank is {rank}, asked for was {remote.arguments['lora_r']}")
    ref, modules = remote.job.base, set()
    base = _base_shapes(Path(ref.path)) if ref.here else None
    for name, shape in _shapes(weights).items():
        module = name.removeprefix(_PREFIX).partition(".lora_")[0]
        side, target = 1 if ".lora_A." in name else 0, None
        if base is not None:
            target = base.get(f"{module}.weight")
        if ".lora_" not in name or (base is not None and target is None):
            raise _wrong(adapter, f"the local base has no layer for {name!r}")
        if shape[1 - side] != rank or (target is not None and shape[side] != target[side]):
            of_base = f", the layer of the local base {target}" if target else ""
            raise _wrong(adapter, f"{name!r} is {shape} at rank {rank}{of_base}")
        modules.add(module.split(".")[-1])
    # As asked for and as found: the service may write a pattern, and no dropout in what it serves.
    return {
        **config,
        "target_modules": sorted(modules),
        "lora_dropout": remote.arguments["lora_dropout"],
    }


def history(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The service's figures under the names that the trainer's log has."""
    entries = []
    for row in metrics:
        entry = {_METRICS.get(name, name): value for name, value in row.items() if name != _STEP}
        entries.append({"step": int(row.get(_STEP, 0)), **entry})
    return sorted(entries, key=lambda entry: entry["step"])


def _served(folder: Path, base: BaseModelRef) -> dict[str, Any]:
    """Whether vLLM serves it; nobody can tell without the base."""
    if not base.here:
        return {"serves": None, "problems": ["the base model is not on this machine"], "flags": []}
    return vllm_check.check(folder, Path(base.path))


def _base_shapes(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= _shapes(path)
    return found


def _shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            names: list[str] = list(tensors.keys())
            return {name: list(tensors.get_slice(name).get_shape()) for name in names}
    except SafetensorError:
        raise DataError(
            "the weights cannot be read",
            where=str(path),
            remedy="run `kedro jobs fetch` again; see whether the disk is full",
        ) from None


def _wrong(adapter: Path, why: str) -> DataError:
    return DataError(
        f"the downloaded adapter cannot be used: {why}",
        where=str(adapter),
        remedy="base_model.local (or base_model.id) must be a copy of the hosted model",
    )
