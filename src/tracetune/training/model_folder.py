"""The model folder: one adapter relative to its base, and everything needed to make it again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tracetune.errors import DataError
from tracetune.files import (
    atomic_folder,
    pretty_json,
    read_json,
    sha256_file,
    sha256_json,
    write_json,
)
from tracetune.training import checkpoints, vllm_check
from tracetune.training.base import TOKENIZER_FILES
from tracetune.training.checkpoints import Place
from tracetune.training.job import TrainingJob
from tracetune.training.rendering import on_the_fixed_day

WEIGHTS = "adapter_model.safetensors"
_TIMES = ("runtime", "per_second", "jit_compilation_time")
PROBES: dict[str, list[dict[str, str]]] = {
    "user": [{"role": "user", "content": "Where is my invoice?"}],
    "system": [
        {"role": "system", "content": "Answer in JSON."},
        {"role": "user", "content": "Book a room."},
    ],
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "  two  spaces,\ta tab\nand a line  "},
    ],
    "other_scripts": [{"role": "user", "content": "Grüße, 你好, שלום 👩🏽‍💻 <|im_end|> </s>"}],
}


def verify_start(job: TrainingJob) -> None:
    """Checks that the adapter to go on from still is the one of the job.

    Raises:
        DataError: It is missing or has changed.
    """
    if job.start_from is None:
        return
    weights = Path(job.start_from.path) / WEIGHTS
    if not weights.is_file() or sha256_file(weights) != job.start_from.weights_sha256:
        raise DataError(
            "the adapter to go on from is missing or has changed since the job was made",
            where=job.start_from.path,
            remedy="make the job again, after the SFT stage",
        )


def template_probes(tokenizer: Any) -> dict[str, str | None]:
    """SHA-256 of the token ids of fixed conversations, ready for an answer.

    Serving must give the same ids for the same conversations; a template that refuses one gives
    None. Templates that print the date print that of :data:`~.rendering.FIXED_DAY`.
    """
    from jinja2 import TemplateError

    template = on_the_fixed_day(tokenizer.chat_template)
    probes: dict[str, str | None] = {}
    for name, messages in PROBES.items():
        try:
            ids = tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                chat_template=template,
            )["input_ids"]
            probes[name] = sha256_json(list(ids))
        except TemplateError:
            probes[name] = None
    return probes


def finished(place: Place, *, early_stopping: bool) -> tuple[dict[str, Any], Path, int]:
    """The end of a training, from its files.

    Args:
        place: The work folder.
        early_stopping: Whether the best checkpoint is used; else it is the last.

    Returns:
        State of the trainer at the end, the checkpoint that is used, and its step.

    Raises:
        DataError: The trainer left no complete checkpoint.
    """
    last = place.last_complete()
    if last is None:
        raise DataError(
            "no complete checkpoint was left by the trainer",
            where=str(place.folder),
            remedy="see whether the disk is full, then run again",
        )
    state = checkpoints.state_of(last)
    best = state.get("best_global_step") if early_stopping else None
    return state, place.checkpoint(best) if best else last, best or state["global_step"]


def common_manifest(
    job: TrainingJob, place: Place, facts: dict[str, Any], state: dict[str, Any], used: int
) -> dict[str, Any]:
    """What the manifest of every method says.

    Args:
        job: The job.
        place: Its work folder.
        facts: What the run found out.
        state: State of the trainer at the end.
        used: Step of the checkpoint that is used.
    """
    return {
        "format": 1,
        "method": job.method,
        "job_hash": place.digest,
        "base": job.base.identity(),
        "dataset": {"files": job.dataset.files, "rows": job.dataset.rows},
        "lora": job.lora,
        "trainer": job.trainer,
        "seed": job.seed,
        "limits": job.limits.model_dump(),
        "versions": job.versions,
        "steps": {
            "planned": facts["steps"],
            "done": state["global_step"],
            "used": used,
            "interval": facts["interval"],
            "stopped_early": state["global_step"] < facts["steps"],
        },
        **{name: facts[name] for name in ("rows", "invariants", "parameters", "early_stopping")},
    }


def write(
    job: TrainingJob, place: Place, tokenizer: Any, facts: dict[str, Any], timing: dict[str, Any]
) -> None:
    """Writes ``place.result`` from the files of the checkpoints.

    Args:
        job: The job.
        place: Its work folder; the last complete checkpoint ends the training.
        tokenizer: Tokenizer of the base, for the template probes.
        facts: What the run found out: steps, rows, invariants, parameters.
        timing: What differs from run to run; kept apart from the manifest.
    """
    state, chosen, used = finished(place, early_stopping=facts["early_stopping"])
    with atomic_folder(place.result) as folder:
        shutil.copyfile(chosen / WEIGHTS, folder / WEIGHTS)
        config = adapter_config(read_json(chosen / "adapter_config.json"), job)
        (folder / "adapter_config.json").write_text(pretty_json(config), encoding="utf-8")
        for name in TOKENIZER_FILES:
            source = Path(job.base.path) / name
            if source.is_file():
                shutil.copyfile(source, folder / name)
        write_json(folder / "history.json", history(state["log_history"]))
        write_json(folder / "timing.json", timing)
        write_json(
            folder / "manifest.json",
            {
                **common_manifest(job, place, facts, state, used),
                "start_from": job.start_from.weights_sha256 if job.start_from else None,
                "over_length": job.over_length,
                "template_probes": template_probes(tokenizer),
                "dropped": facts["dropped"],
                "adapter_sha256": sha256_file(folder / WEIGHTS),
                "vllm": vllm_check.check(folder, Path(job.base.path)),
            },
        )
        write_json(folder / "status.json", {"status": "trained", "job_hash": place.digest})


def adapter_config(config: dict[str, Any], job: TrainingJob) -> dict[str, Any]:
    """PEFT's configuration with the base named, without paths of this machine, sets in order."""
    config = {
        name: sorted(value)
        if name in ("target_modules", "modules_to_save") and isinstance(value, list)
        else value
        for name, value in config.items()
    }
    config["base_model_name_or_path"] = job.base.id
    config["revision"] = job.base.revision
    config["inference_mode"] = True
    return config


def history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trainer's log without what the clock decides."""
    return [
        {name: value for name, value in entry.items() if not name.endswith(_TIMES)}
        for entry in log
        if "train_runtime" not in entry
    ]
