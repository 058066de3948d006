"""A small base model, jobs on it, and the backend with short waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from tests.backends.together_state import KEY, Server
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together import TogetherBackend
from tracetune.backends.together_options import TogetherOptions
from tracetune.training.job import TrainingJob

MODEL = "Qwen/Qwen3-0.6B"
FAST = {
    "poll_seconds": 0.01,
    "settle_seconds": 0.05,
    "timeout": 5.0,
    "file_minutes": 0.05,
    "attempts": 4,
    "wait_minutes": 0.5,
}


def options(server: Server, **changes: Any) -> TogetherOptions:
    """Parameters with short waits."""
    return TogetherOptions(**({"model": MODEL, "base_url": server.url, **FAST} | changes))


def backend(server: Server, folder: Path, key: str = KEY, **changes: Any) -> TogetherBackend:
    """The backend; its jobs are written down in ``folder/jobs``."""
    return TogetherBackend(options(server, **changes), RemoteJobs(folder / "jobs", key))


def layers(base: Path) -> dict[str, tuple[int, int]]:
    """Layers of a base model that LoRA can be put on."""
    found: dict[str, tuple[int, int]] = {}
    for path in base.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            for name in list(tensors.keys()):
                shape = tensors.get_slice(name).get_shape()
                if name.endswith("_proj.weight"):
                    found[name.removesuffix(".weight")] = (shape[0], shape[1])
    return found


def train(chosen: TogetherBackend, job: TrainingJob, folder: Path) -> Path:
    """Launches a job, waits for it, and brings its model: what the node of the pipelines does."""
    import time

    handle = chosen.launch(job, folder / "model", folder / "work")
    until = time.monotonic() + 30
    while chosen.poll(handle).state == "running":
        assert time.monotonic() < until, "the job does not end"
        time.sleep(chosen.poll_seconds)
    return chosen.fetch(handle)
