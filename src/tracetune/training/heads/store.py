"""Heads on disk: weights as safetensors with their configuration, checkpoints, the model folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import atomic_folder, atomic_path, sha256_file, sha256_folder, write_json
from tracetune.training import checkpoints
from tracetune.training.base import TOKENIZER_FILES
from tracetune.training.checkpoints import Place
from tracetune.training.heads.config import (
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    CONFIG_FILE,
    WEIGHTS_FILE,
    HeadsConfig,
    check_weights,
)
from tracetune.training.job import TrainingJob
from tracetune.training.model_folder import common_manifest, finished, history, template_probes

if TYPE_CHECKING:
    from torch import Tensor

    from tracetune.training.heads.model import CognitiveTwin, TwinHeads

OPTIMIZER_FILE = "optimizer.safetensors"


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors, atomically."""
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary)


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        DataError: It is missing or was cut.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"the weights cannot be read: {error}",
            where=str(path),
            remedy="restore the folder, or train the heads again",
        ) from error


def load_heads(folder: Path, config: HeadsConfig) -> TwinHeads:
    """The heads of a folder, on the CPU, in evaluation mode.

    Args:
        folder: The folder.
        config: Its configuration.

    Raises:
        DataError: The weights were changed, or are not those of such heads.
    """
    from tracetune.training.heads.model import TwinHeads

    check_weights(folder, config)
    heads = TwinHeads(config.hidden_size, config.architecture)
    try:
        heads.load_state_dict(load_weights(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise DataError(
            f"the weights do not fit {CONFIG_FILE}: {error}",
            where=str(folder / WEIGHTS_FILE),
            remedy="restore the folder, or train the heads again",
        ) from error
    heads.eval()
    return heads


def save_heads(twin: CognitiveTwin, folder: Path) -> Path:
    """Writes heads that were loaded or trained into a folder of their own.

    Args:
        twin: A model whose heads have a configuration.
        folder: The folder; replaced as a whole.

    Raises:
        ConfigurationError: The heads are new ones, of which it is not known what they are for.
    """
    if twin.config is None:
        raise ConfigurationError(
            "these heads were not trained, so there is nothing to say what they are for",
            where="CognitiveTwin",
            remedy="train heads with method 'heads', or load some first",
        )
    with atomic_folder(folder) as temporary:
        save_weights(twin.heads.state_dict(), temporary / WEIGHTS_FILE)
        digest = sha256_file(temporary / WEIGHTS_FILE)
        config = twin.config.model_copy(update={"heads_sha256": digest})
        write_json(temporary / CONFIG_FILE, config.model_dump(mode="json"))
    return folder


def write_checkpoint(
    place: Place, heads: TwinHeads, optimizer: Any, state: dict[str, Any], best: int | None
) -> None:
    """Writes everything a run continues from; the marker last.

    Args:
        place: The work folder.
        heads: The heads.
        optimizer: Their optimiser.
        state: State of the training.
        best: Step of the best checkpoint so far, which is kept.
    """
    step = int(state["global_step"])
    folder = place.checkpoint(step)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(heads.state_dict(), folder / WEIGHTS_FILE)
    names = {parameter: name for name, parameter in heads.named_parameters()}
    moments = {
        f"{names[parameter]}:{kind}": value
        for parameter, values in optimizer.state.items()
        for kind, value in values.items()
    }
    save_weights(moments, folder / OPTIMIZER_FILE)
    write_json(folder / checkpoints.STATE, state)
    checkpoints.mark_complete(folder, place.digest)
    checkpoints.rotate(place, step, best)


def read_checkpoint(folder: Path, heads: TwinHeads, optimizer: Any) -> None:
    """Puts weights and optimiser back as they were at a checkpoint."""
    heads.load_state_dict(load_weights(folder / WEIGHTS_FILE))
    parameters = dict(heads.named_parameters())
    for key, value in load_weights(folder / OPTIMIZER_FILE).items():
        name, _, kind = key.rpartition(":")
        parameter = parameters[name]
        # AdamW keeps its count of steps on the CPU, the moments beside their weights.
        optimizer.state[parameter][kind] = value if kind == "step" else value.to(parameter.device)


def write_result(
    job: TrainingJob,
    place: Place,
    tokenizer: Any,
    config: dict[str, Any],
    facts: dict[str, Any],
    timing: dict[str, Any],
) -> None:
    """Writes ``place.result`` from the files of the checkpoints: the best one, or the last.

    Args:
        job: The job.
        place: Its work folder.
        tokenizer: Tokenizer of the base, for the template probes.
        config: What :class:`HeadsConfig` says, but for the hash of the weights.
        facts: What the run found out.
        timing: What differs from run to run.
    """
    state, chosen, used = finished(place, early_stopping=facts["early_stopping"])
    with atomic_folder(place.result) as folder:
        shutil.copyfile(chosen / WEIGHTS_FILE, folder / WEIGHTS_FILE)
        digest = sha256_file(folder / WEIGHTS_FILE)
        whole = HeadsConfig.model_validate({**config, "heads_sha256": digest}, strict=False)
        write_json(folder / CONFIG_FILE, whole.model_dump(mode="json"))
        if job.start_from:
            (folder / ADAPTER_FOLDER).mkdir()
            for name in (ADAPTER_WEIGHTS, "adapter_config.json"):
                shutil.copyfile(Path(job.start_from.path) / name, folder / ADAPTER_FOLDER / name)
        for name in TOKENIZER_FILES:
            source = Path(job.base.path) / name
            if source.is_file():
                shutil.copyfile(source, folder / name)
        weights = sha256_folder(folder)
        write_json(folder / "history.json", history(state["log_history"]))
        write_json(folder / "timing.json", timing)
        write_json(
            folder / "manifest.json",
            {
                **common_manifest(job, place, facts, state, used),
                "start_from": job.start_from.weights_sha256 if job.start_from else None,
                "over_length": job.over_length,
                "template_probes": template_probes(tokenizer),
                "shortened": facts["shortened"],
                "support": facts["support"],
                "heads_sha256": digest,
                "model_sha256": weights,
            },
        )
        write_json(folder / "status.json", {"status": "trained", "job_hash": place.digest})
