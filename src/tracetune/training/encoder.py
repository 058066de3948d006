"""The encoder: where it comes from, what proves that it is the same one tomorrow, loading it.

An encoder is a folder of sentence-transformers: a transformer, pooling and perhaps more modules,
which turn a text into one vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json, sha256_file, sha256_json
from tracetune.training import quiet
from tracetune.training.base import (
    TOKENIZER_FILES,
    BaseModelRef,
    Kind,
    check_same,
    count_parameters,
    from_hub,
)
from tracetune.training.embedding_options import EncoderOptions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENCODER_TOKENIZER_FILES = (*TOKENIZER_FILES, "vocab.txt", "sentencepiece.bpe.model")
ADAPTER_FILE = "adapter_config.json"


def resolve(options: EncoderOptions, cache_root: Path) -> BaseModelRef:
    """Finds, fetches or builds the encoder and hashes it.

    Args:
        options: Which encoder.
        cache_root: Folder under which an embedded encoder is kept by the hash of its recipe.

    Raises:
        ConfigurationError: The id, revision or folder cannot be used.
        ServerError: The encoder is not on this machine and the hub did not give it.
    """
    profile = options.profile or ("embedded" if options.id == "embedded" else "default")
    local = Path(options.id).expanduser()
    if options.revision is not None and (options.id == "embedded" or local.is_dir()):
        raise ConfigurationError(
            f"{options.id!r} has no revisions", where="encoder.revision", remedy="set it to null"
        )
    if options.id == "embedded":
        from tracetune.training.encoder_embedded import build, recipe_hash

        folder = build(options.embedded, cache_root)
        return describe(folder, "embedded", recipe_hash(options.embedded)[:16], profile, "embedded")
    if local.is_dir():
        return describe(local.resolve(), local.resolve().name, None, profile, "local")
    if options.id.startswith((".", "/", "~")) or options.id.count("/") > 1:
        raise ConfigurationError(
            f"there is no folder {options.id!r}",
            where="encoder.id",
            remedy="give an existing folder, a Hugging Face id (owner/name), or 'embedded'",
        )
    folder = from_hub(options.id, options.revision, where="encoder.id")
    return describe(folder, options.id, folder.name, profile, "hub")


def describe(
    folder: Path,
    model_id: str,
    revision: str | None,
    profile: str,
    kind: Kind,
) -> BaseModelRef:
    """Hashes the encoder in ``folder``.

    Raises:
        ConfigurationError: There are no safetensors, or it brings code of its own.
    """
    where = f"encoder.id ({folder})"
    weights = _weights(folder)
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigurationError(
            "the folder has no config.json with *.safetensors beside it",
            where=where,
            remedy="save the encoder with sentence-transformers; pickled weights are not loaded",
        )
    if read_json(folder / "config.json").get("auto_map") or _foreign_modules(folder):
        raise ConfigurationError(
            "the encoder brings its own Python code, which is never run",
            where=where,
            remedy="choose an architecture that transformers implements itself",
        )
    return BaseModelRef(
        id=model_id,
        revision=revision,
        path=str(folder),
        profile=profile,
        kind=kind,
        weights_sha256=_hash(folder, weights),
        tokenizer_sha256=_hash(folder, [folder / name for name in ENCODER_TOKENIZER_FILES]),
        template_sha256=_hash(folder, _module_files(folder)),
        parameters=count_parameters(weights),
    )


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _foreign_modules(folder: Path) -> list[str]:
    modules = folder / "modules.json"
    if not modules.is_file():
        return []
    return [m["type"] for m in read_json(modules) if not m["type"].startswith("sentence_trans")]


def _module_files(folder: Path) -> list[Path]:
    """What says how text becomes a vector, beside weights and tokenizer."""
    names = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    return [*(folder / name for name in names), *sorted(folder.glob("[0-9]*_*/config.json"))]


def _hash(folder: Path, paths: list[Path]) -> str:
    return sha256_json(
        [[p.relative_to(folder).as_posix(), sha256_file(p)] for p in paths if p.is_file()]
    )


def verify(ref: BaseModelRef) -> None:
    """Checks that the encoder at ``ref.path`` still is the hashed one.

    Raises:
        DataError: Files are missing or differ.
    """
    try:
        found = describe(Path(ref.path), ref.id, ref.revision, ref.profile, ref.kind)
    except ConfigurationError as error:
        raise DataError(error.what, where=ref.path, remedy="restore the encoder") from error
    check_same(found, ref)


def load(base: BaseModelRef, trained: Path | None = None, *, cpu: bool = False) -> Any:
    """An encoder, without touching the network.

    Args:
        base: The base encoder.
        trained: A model folder of this project: a whole encoder, which stands alone, or an adapter
            for the base. None: the base itself.
        cpu: Whether to leave an accelerator alone.

    Returns:
        The ``SentenceTransformer``, in evaluation mode.
    """
    adapter = trained is not None and (trained / ADAPTER_FILE).is_file()
    folder = base.path if trained is None or adapter else str(trained)
    with quiet.offline(), quiet.quiet():
        from sentence_transformers import SentenceTransformer

        model: SentenceTransformer = SentenceTransformer(
            folder,
            device="cpu" if cpu else None,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
        if adapter:
            model.load_adapter(str(trained))
        model.eval()
        return model
